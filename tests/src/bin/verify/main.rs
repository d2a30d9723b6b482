//! `cargo verify`: installs what the tests need and runs every check of the repository.
#![forbid(unsafe_code)]

mod stage;

use std::ffi::OsStr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use preloop_tests::artefacts::Artefacts;
use preloop_tests::build::cargo;
use preloop_tests::packages;
use preloop_tests::programs::SUITES;

use stage::Tally;

fn main() -> Result<ExitCode> {
    let missing = packages::provide(SUITES.iter().flat_map(|(_, needs)| needs.iter().copied()));
    let mut tally = Tally::default();
    let skipped: Vec<_> = SUITES
        .iter()
        .filter(|(_, needs)| needs.iter().any(|need| missing.contains(need)))
        .map(|(suite, _)| *suite)
        .collect();
    let must_have_all = std::env::var_os("CI").is_some_and(|value| value == "true");
    if must_have_all && !missing.is_empty() {
        tally.fail(&format!("programs are missing: {}", missing.join(", ")));
    }

    tally.check("formatting", minutes(1), command(["fmt", "--all", "--check"]));
    tally.check("clippy", minutes(5), command(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    let mut doc = command(["doc", "--workspace", "--no-deps", "--quiet"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    tally.check("documentation", minutes(5), doc);
    let built = tally.check("build", minutes(8), command(["build", "--workspace", "--release"]));
    if built {
        run_tests(&mut tally, &skipped)?;
    } else {
        println!("skipped: all tests, since the build failed");
    }

    for suite in &skipped {
        println!("skipped: the {suite} suite of the end-to-end tests, for want of programs");
    }
    println!("{tally}");
    Ok(if tally.passed_all() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_tests(tally: &mut Tally, skipped: &[&str]) -> Result<()> {
    let others = command(["test", "--workspace", "--exclude", "preloop-tests", "--no-fail-fast"]);
    tally.tests("tests of the library and the tools", minutes(8), others);

    // Two at a time would take the processors from each other, and from the observer that watches connections.
    let mut end_to_end = command(["test", "-p", "preloop-tests", "--no-fail-fast", "--", "--test-threads=1"]);
    for suite in skipped {
        end_to_end.args(["--skip".to_owned(), format!("{suite}::")]);
    }
    tally.tests("end-to-end tests", minutes(18), end_to_end);

    let mut loom = command(["test", "-p", "preloop-smc", "--release", "--test", "loom"]);
    loom.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", Artefacts::locate()?.target_dir().join("loom"));
    tally.tests("model checks under loom", minutes(8), loom);
    Ok(())
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = cargo();
    command.args(args).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}
