//! The conformance program compiles, and what is written down about it fits together.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use preloop_tests::artefacts::Artefacts;
use preloop_tests::comparison::{self, Comparison};
use preloop_tests::conformance::{Transcript, allowances, compile, file};

fn transcript() -> Result<Transcript> {
    Transcript::parse(&fs::read_to_string(file("kernel-6.1.txt"))?)
}

#[test]
fn the_program_compiles_without_warnings_and_prints_facts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("conformance");
    compile(&program)?;
    // This case needs no KCM socket to be made: it says how that fails, where it fails.
    let output = Command::new(&program).arg("socket.types").output()?;
    let facts = Transcript::parse(std::str::from_utf8(&output.stdout)?)?;
    let kernel = transcript()?.only(&["socket.types".to_owned()]);
    ensure!(facts.names().eq(kernel.names()), "it prints {facts:?}");
    Ok(())
}

/// Groups that run at the same time: most of the time each waits for what does not come.
const LANES: [&[&str]; 3] = [
    &["socket", "options", "attach", "parser", "cut", "receive"],
    &["send", "queue", "broken", "transfer", "lower", "steer"],
    &["ready", "process", "threads", "proc", "bpf", "posted", "fields"],
];

#[test]
fn under_kcm_run_the_facts_are_the_kernels() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("conformance");
    compile(&program)?;
    let kcm_run = [Artefacts::locate()?.get("kcm_run")?.display().to_string()];
    let lanes = LANES.map(|groups| groups.iter().map(|&group| group.to_owned()).collect::<Vec<_>>());
    let runs = thread::scope(|scope| {
        let runs = lanes.each_ref().map(|groups| scope.spawn(|| comparison::run(&program, groups, &kcm_run)));
        runs.map(|run| run.join().expect("it does not panic"))
    });
    let allowed = allowances(&fs::read_to_string(file("allowed.txt"))?)?;
    for (groups, here) in lanes.iter().zip(runs) {
        let comparison = Comparison::of(&transcript()?.only(groups), &here?, &allowed);
        ensure!(comparison.passes(), "{comparison}");
    }
    let groups: BTreeSet<_> = lanes.into_iter().flatten().collect();
    let known: BTreeSet<_> =
        transcript()?.names().filter_map(|name| Some(name.split('.').next()?.to_owned())).collect();
    ensure!(groups == known, "groups that do not run: {:?}", known.difference(&groups));
    Ok(())
}

#[test]
fn every_group_is_in_the_transcript() -> Result<()> {
    let transcript = transcript()?;
    let broken: Vec<_> = transcript.names().filter(|name| name.ends_with(".broken")).collect();
    ensure!(broken.is_empty(), "cases that could not set up what they need: {broken:?}");
    let groups: BTreeSet<_> = transcript.names().filter_map(|name| name.split('.').next()).collect();
    for entry in fs::read_dir(file(""))? {
        let source = entry?.path();
        if source.extension().is_none_or(|end| end != "c") {
            continue;
        }
        let code = fs::read_to_string(&source)?;
        let Some((_, rest)) = code.split_once("const struct group group_") else { continue };
        let group = rest.split(' ').next().context("a group's name")?;
        ensure!(groups.contains(group), "{group} of {} is not in the transcript: run cargo oracle", source.display());
    }
    Ok(())
}

#[test]
fn allowed_differences_are_about_facts_and_have_reasons() -> Result<()> {
    let transcript = transcript()?;
    let document = fs::read_to_string(file("../../docs/KCM.md"))?;
    let mut seen = BTreeSet::new();
    for allowed in allowances(&fs::read_to_string(file("allowed.txt"))?)? {
        let name = &allowed.name;
        let kernel = transcript.get(name).with_context(|| format!("{name} is not in the transcript"))?;
        ensure!(kernel != allowed.value, "{name} does not differ from the kernel");
        let heading = format!("### {}. ", allowed.reason);
        ensure!(document.lines().any(|line| line.starts_with(&heading)), "{name} has no reason in docs/KCM.md");
        ensure!(seen.insert(name.clone()), "{name} is listed twice");
    }
    Ok(())
}

#[test]
fn facts_that_are_left_open_count_the_same_whatever_they_are() -> Result<()> {
    let kernel = Transcript::parse("a.b.open: 1\na.b.equal: 2\n")?;
    let allowed = allowances("5 a.b.open: *\n")?;
    let shown = |open: u8| -> Result<String> {
        let here = Transcript::parse(&format!("a.b.open: {open}\na.b.equal: 2\n"))?;
        Ok(Comparison::of(&kernel, &here, &allowed).to_string())
    };
    ensure!(shown(1)? == "1 facts as in the kernel, 1 allowed to differ, 0 different\n", "{}", shown(1)?);
    ensure!(shown(1)? == shown(3)?, "{}", shown(3)?);
    Ok(())
}
