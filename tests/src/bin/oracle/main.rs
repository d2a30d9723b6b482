//! `cargo oracle`: what the kernel's own KCM module does, as facts, and what differs elsewhere.
//!
//! Without options it boots Debian's kernel in qemu under software emulation, lets the conformance program print its
//! facts there, in several machines at once, and writes them down when all agree. `--compare` runs the same binary on
//! this host under a command, and lists what differs without being allowed.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::builder::TypedValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use preloop_tests::artefacts::Artefacts;
use preloop_tests::comparison::{self, Comparison};
use preloop_tests::conformance::{self, Transcript};
use preloop_tests::machine::Build;
use preloop_tests::machine::initramfs::Contents;
use preloop_tests::machine::kernel::Kernel;

/// The transcript that serves when there is no emulator.
const TRANSCRIPT: &str = "kernel-6.1.txt";

/// What runs as process 1; the words after `--` on the kernel's command line choose groups.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox ip link set lo up
/bin/busybox insmod /kcm.ko
/bin/busybox stty -opost < /dev/ttyS1
exec > /dev/ttyS1
echo "VERSION $(/bin/busybox uname -srv)"
/conformance "$@"
echo END
/bin/busybox poweroff -f
"#;
/// One run needs about two minutes.
const LIMIT: Duration = Duration::from_secs(600);

fn main() -> Result<ExitCode> {
    let matches = arguments().get_matches();
    let dir = Artefacts::locate()?.target_dir().join("oracle");
    fs::create_dir_all(&dir)?;
    let program = dir.join("conformance");
    conformance::compile(&program)?;
    let groups: Vec<String> = matches.get_many("group").into_iter().flatten().cloned().collect();
    match matches.get_many::<String>("compare") {
        Some(command) => compare(&program, &groups, &command.cloned().collect::<Vec<_>>()),
        None => ask_the_kernel(&matches, &dir, &program, &groups),
    }
}

fn arguments() -> Command {
    Command::new("oracle")
        .about("Asks the kernel's own KCM module, and compares what stands in for it")
        .arg(
            Arg::new("runs")
                .long("runs")
                .default_value("2")
                .value_parser(value_parser!(u8).range(1..=8).map(usize::from))
                .help("machines that run at once and must agree"),
        )
        .arg(
            Arg::new("group")
                .long("group")
                .action(ArgAction::Append)
                .help("only this group or group.case; then nothing is written down"),
        )
        .arg(
            Arg::new("compare")
                .long("compare")
                .num_args(0..)
                .allow_hyphen_values(true)
                .value_name("COMMAND")
                .help("the last option: run the program on this host under a command, such as kcm_run, and compare"),
        )
}

fn compare(program: &Path, groups: &[String], command: &[String]) -> Result<ExitCode> {
    let kernel = Transcript::parse(&fs::read_to_string(conformance::file(TRANSCRIPT))?)?.only(groups);
    let allowed = conformance::allowances(&fs::read_to_string(conformance::file("allowed.txt"))?)?;
    let here = comparison::run(program, groups, command)?;
    let comparison = Comparison::of(&kernel, &here, &allowed);
    print!("{comparison}");
    Ok(if comparison.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask_the_kernel(matches: &ArgMatches, dir: &Path, program: &Path, groups: &[String]) -> Result<ExitCode> {
    let runs = *matches.get_one::<usize>("runs").expect("has a default");
    let kernel = Kernel::provide(&dir.with_file_name("kernel"))?;
    let files =
        vec![(program.to_owned(), "conformance".to_owned()), (kernel.module("net/kcm/kcm.ko")?, "kcm.ko".to_owned())];
    let initramfs = Contents { init: INIT, files }.pack(dir)?;
    eprintln!("booting {} in {runs} machines ...", kernel.image.display());
    let build = Build { kernel: &kernel.image, initramfs: &initramfs, memory: 512, words: groups, limit: LIMIT };
    let records = build.run(&machines(dir, runs))?;
    let transcripts: Vec<_> = records.iter().map(|record| Transcript::parse(&record.facts)).collect::<Result<_>>()?;
    for warning in records.iter().flat_map(|record| &record.warnings) {
        println!("the kernel warned: {warning}");
    }
    let Some((first, others)) = transcripts.split_first() else { bail!("no machine ran") };
    let unsteady: usize = others.iter().map(|other| report_unsteady(first, other)).sum();
    if unsteady > 0 {
        println!(
            "{unsteady} facts differ from run to run: the conformance program is to be put right. Nothing was written"
        );
        return Ok(ExitCode::FAILURE);
    }
    if !groups.is_empty() {
        print!("{}", first.text());
        return Ok(ExitCode::SUCCESS);
    }
    let path = conformance::file(TRANSCRIPT);
    fs::write(&path, format!("# {}\n{}", records[0].version, first.text()))?;
    println!("{} facts of {}, equal in {runs} runs, in {}", first.names().count(), records[0].version, path.display());
    Ok(ExitCode::SUCCESS)
}

/// Every other one has two processors: facts that hang on who runs first show themselves.
fn machines(dir: &Path, runs: usize) -> Vec<(usize, PathBuf)> {
    (0..runs).map(|number| (1 + number % 2, dir.join(format!("machine-{number}")))).collect()
}

fn report_unsteady(first: &Transcript, other: &Transcript) -> usize {
    let missing = other.names().filter(|name| first.get(name).is_none());
    let differing = first.names().chain(missing).filter(|name| first.get(name) != other.get(name));
    differing.map(|name| println!("unsteady: {name}: {:?} and {:?}", first.get(name), other.get(name))).count()
}
