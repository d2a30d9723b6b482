//! `cargo machine`: the library where this host cannot be, under a kernel whose processes may have a million descriptors
//! and more, and under one that does not tell about sockets (`sock_diag`).
//!
//! Debian's kernel boots in qemu under software emulation. There subjects of `tests/syscall` run bare and with both ends
//! under `smc_run`, and their facts must be the same; `tests/descriptors` measures what the limit costs.
#![forbid(unsafe_code)]

mod figures;
mod run;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Arg, Command, value_parser};
use preloop_tests::artefacts::Artefacts;
use preloop_tests::machine::initramfs::Contents;
use preloop_tests::machine::kernel::Kernel;
use preloop_tests::machine::{Build, Record};
use preloop_tests::syscall::Program;
use preloop_tests::{build, c, programs};

use run::Run;

/// What runs as process 1.
const INIT: &str = include_str!("init.sh");
/// Subjects that have to do with descriptors, and need little time.
const SUBJECTS: [&str; 5] = ["high_numbers", "limits", "dups", "poll_select", "handovers"];
/// What the script runs of its own accord.
const OTHERS: [&str; 2] = ["writing", "crowd"];
const MODULES: [&str; 3] = ["net/ipv4/inet_diag.ko", "net/ipv4/tcp_diag.ko", "net/unix/unix_diag.ko"];
const MEGABYTES: u32 = 4096;
const LIMIT: Duration = Duration::from_secs(1800);

fn main() -> Result<ExitCode> {
    let matches = arguments().get_matches();
    let crowd = *matches.get_one::<u32>("crowd").expect("has a default");
    build::library()?;
    let artefacts = Artefacts::locate()?;
    let dir = artefacts.target_dir().join("machine");
    fs::create_dir_all(&dir)?;
    let record = boot(&artefacts, &dir, crowd)?;
    println!("{}", record.version);
    let mut wrong: Vec<_> = record.warnings.iter().map(|line| format!("the kernel warned: {line}")).collect();
    let runs = Run::parse(&record.facts)?;
    wrong.extend(check_facts(&runs)?);
    wrong.extend(check_listings(&runs)?);
    wrong.extend(figures::check(&runs)?);
    wrong.iter().for_each(|line| println!("{line}"));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn arguments() -> Command {
    Command::new("machine")
        .about("Runs the library in an emulated machine: a million descriptors, and a kernel without sock_diag")
        .arg(
            Arg::new("crowd")
                .long("crowd")
                .default_value("6000")
                .value_parser(value_parser!(u32).range(100..=25000))
                .help("connections that are open at once"),
        )
}

fn boot(artefacts: &Artefacts, dir: &Path, crowd: u32) -> Result<Record> {
    let kernel = Kernel::provide(&dir.with_file_name("kernel"))?;
    let descriptors = dir.join("descriptors");
    c::compile(&["descriptors"], "-O1", &descriptors)?;
    // Busybox, which is static, would not do for the shell that subjects start.
    let sh = programs::find("sh")?;
    let mut files: Vec<(PathBuf, String)> =
        vec![(descriptors, "bin/descriptors".to_owned()), (sh, "bin/sh".to_owned())];
    for subject in SUBJECTS.into_iter().chain(OTHERS) {
        files.push((Program::compile(&dir.join("syscall"), subject)?.path(), format!("bin/{subject}")));
    }
    for name in ["libpreloop.so", "smc_run", "smcss"] {
        files.push((artefacts.get(name)?, format!("bin/{name}")));
    }
    for module in MODULES {
        let name = Path::new(module).file_name().and_then(|name| name.to_str()).context("a module's name")?;
        files.push((kernel.module(module)?, name.to_owned()));
    }
    let initramfs = Contents { init: INIT, files }.pack(dir)?;
    let words: Vec<_> = [crowd.to_string()].into_iter().chain(SUBJECTS.map(str::to_owned)).collect();
    let build = Build { kernel: &kernel.image, initramfs: &initramfs, memory: MEGABYTES, words: &words, limit: LIMIT };
    eprintln!("booting {}: up to ten minutes ...", kernel.image.display());
    build.run(&[(2, dir.to_owned())])?.pop().context("no machine ran")
}

/// Facts under the library are those without it, and connections move where the kernel tells who is at the other end.
fn check_facts(runs: &[Run]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut tells = false;
    for run in runs {
        tells |= run.kind == "listing" && run.words == ["with-diag"];
        if run.kind != "facts" || run.words[0] != "both" {
            continue;
        }
        let is_bare =
            |other: &&Run| other.kind == "facts" && other.words[0] == "tcp" && other.words[1..] == run.words[1..];
        let bare = runs.iter().find(is_bare).with_context(|| format!("{:?} did not run bare", run.words))?;
        wrong.extend(run.compare(bare, tells));
        let (name, count) = (run.words[1..].join(" as the "), run.facts().lines().count());
        let (under, bare) = (run.seconds()?, bare.seconds()?);
        println!("{name:30} {count} facts, {} ends moved; {under} s, bare {bare} s", run.moved());
    }
    Ok(wrong)
}

/// Without sock_diag a connection stays on TCP, and smcss says why.
fn check_listings(runs: &[Run]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, modes) in [("without-diag", [" TCP 0x03000000", " TCP 0x03010000"]), ("with-diag", [" SMCD ", " SMCD "])]
    {
        let run = runs.iter().find(|run| run.kind == "listing" && run.words == [name]);
        let run = run.with_context(|| format!("no listing {name}"))?;
        let count = |mode| run.text.lines().filter(|line| line.contains(mode)).count();
        let expected = |mode| modes.iter().filter(|other| **other == mode).count();
        if modes.iter().any(|mode| count(*mode) != expected(*mode)) {
            wrong.push(format!("{name}: not{}:\n{}", modes.join(" and"), run.text));
        }
    }
    Ok(wrong)
}
