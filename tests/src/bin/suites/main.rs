//! `cargo suites [NAME...]`: other people's test suites, unmodified, without the library and under `smc_run`, compared
//! test by test. The results stand in compat/suites.md.
#![forbid(unsafe_code)]

mod connections;
mod outcome;
mod report;
mod run;
mod scratch;
mod suite;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Arg, ArgAction, Command, value_parser};
use preloop_tests::artefacts::Artefacts;
use preloop_tests::build;

use run::World;
use scratch::Scratch;
use suite::{SUITES, Suite};

/// The runs of a suite. Two without the library tell flaky tests from others.
const RUNS: [World; 4] = [World::Bare, World::Smc, World::Bare, World::Early];

fn main() -> Result<ExitCode> {
    let matches = arguments().get_matches();
    let dir = matches.get_one::<PathBuf>("scratch").cloned();
    let scratch = Scratch::new(dir.unwrap_or_else(|| std::env::temp_dir().join("preloop-suites")))?;
    let chosen: Vec<_> = matches.get_many::<String>("suite").into_iter().flatten().collect();
    build::release()?;
    let smc_run = Artefacts::locate()?.get("smc_run")?;
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compat/suites.md");
    let mut all_same = true;
    for suite in SUITES.iter().filter(|it| chosen.is_empty() || chosen.iter().any(|name| *name == it.name)) {
        eprintln!("{}", suite.name);
        match compare(suite, &scratch, &smc_run, matches.get_flag("kept")) {
            Ok((row, same)) => {
                all_same &= same;
                println!("{row}");
                report::update(&table, &[row])?;
            }
            Err(error) => {
                all_same = false;
                eprintln!("  {error:#}");
            }
        }
    }
    Ok(if all_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn arguments() -> Command {
    let names = SUITES.map(|suite| suite.name);
    Command::new("suites")
        .about("Runs other people's test suites without the library and under smc_run, and writes compat/suites.md")
        .arg(
            Arg::new("scratch")
                .long("scratch")
                .value_parser(value_parser!(PathBuf))
                .help("where packages and results go [default: preloop-suites in the directory for temporary files]"),
        )
        .arg(
            Arg::new("kept")
                .long("kept")
                .action(ArgAction::SetTrue)
                .help("runs nothing, and compares again what earlier runs left in the scratch directory"),
        )
        .arg(Arg::new("suite").action(ArgAction::Append).value_parser(names).help("which suites, or all"))
}

/// Runs a suite in every world. Its row, and whether the library changed no outcome.
fn compare(suite: &Suite, scratch: &Scratch, smc_run: &Path, kept: bool) -> Result<(String, bool)> {
    let version = suite.prepare(scratch)?;
    let mut runs = Vec::new();
    for (serial, world) in RUNS.into_iter().enumerate() {
        if !kept {
            run::run(suite, scratch, smc_run, world, serial)?;
        }
        let run = run::read(suite, scratch, world, serial);
        ensure!(!run.outcomes.is_empty(), "no test ran");
        runs.push((world, run));
    }
    let (bare, smc): (Vec<_>, Vec<_>) = runs.iter().partition(|(world, _)| *world == World::Bare);
    let all: Vec<_> = bare.iter().chain(&smc).map(|(_, run)| &run.outcomes).collect();
    let differences = outcome::compare(&all, bare.len());
    for difference in &differences {
        eprintln!("  {} {difference}", if difference.flaky { "flaky" } else { "differs" });
    }
    let with: Vec<_> = smc.iter().map(|(_, run)| run).collect();
    let row = report::row(suite, &version, &bare[0].1, &with, &differences);
    Ok((row, differences.iter().all(|it| it.flaky)))
}
