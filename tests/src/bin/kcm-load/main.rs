//! `cargo kcm-load [--messages N] [--seed S] [--kill] [--forks] [--steady] [--as-built]`: many messages, of all sizes and
//! in both directions, through two muxes of a program under `kcm_run`, one of each type: four sockets and eight TCP
//! connections each, receivers of all kinds, while sockets and connections come and go. None may be lost, doubled, torn or
//! out of order; what unattach may cut off is accounted for. The program is in C: `tests/kcm-load/`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgGroup, Command, value_parser};
use preloop_tests::artefacts::Artefacts;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{build, c, ports};

/// Messages have a length of four bytes before them, which they do not count.
const PARSER: &str = "u32be@0+4";
/// The options, and what `load.h` has for them.
const FLAGS: [(&str, u32, &str); 3] = [
    ("kill", 1, "peers are killed at random: what they sent arrives up to some message, and the rest goes on"),
    ("forks", 2 | 4, "the receivers are forked processes, which are killed at random"),
    ("steady", 4, "no socket and no connection comes or goes"),
];

fn main() -> ExitCode {
    match load() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kcm-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load() -> Result<()> {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).default_value(default).value_parser(value_parser!(u32).range(1..)).help(help)
    };
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let matches = Command::new("kcm-load")
        .about("Messages through KCM under load: none lost, doubled, torn or out of order")
        .arg(number("messages", "10000000", "in each direction"))
        .arg(number("seed", "1", "what the receivers' choices follow from"))
        .arg(flag("as-built", "build nothing before"))
        .args(FLAGS.map(|(name, _, help)| flag(name, help)))
        // Without churn nobody connects anew to the peers that come.
        .group(ArgGroup::new("killed").args(["kill", "forks"]))
        .get_matches();
    let get = |name| *matches.get_one::<u32>(name).expect("it has a default");
    if !matches.get_flag("as-built") {
        build::release()?;
    }
    let flags = FLAGS.iter().filter(|(name, ..)| matches.get_flag(name)).fold(0, |flags, (_, bits, _)| flags | bits);
    run(get("messages"), get("seed"), flags)
}

fn run(messages: u32, seed: u32, flags: u32) -> Result<()> {
    // A slow machine takes some hundred microseconds for a message.
    let scene = Scene::new(World::Tcp, Duration::from_secs(120) + Duration::from_micros(300) * messages)?;
    let program = scene.path("load");
    c::compile(&["kcm-load"], "-O2", &program)?;
    let port = ports::free()?;
    let play = |words: &[&str]| scene.client("env").arg(&program).arg("board").args(words);
    play(&["make", &messages.to_string(), &flags.to_string()]).run()?;
    let peers = play(&["peers", &port.to_string()]).listen(port)?;
    let worker = scene.client("env").arg(Artefacts::locate()?.get("kcm_run")?).args(["-p", PARSER]).arg(&program);
    let worker = worker.args(["board", "worker", &port.to_string(), &seed.to_string()]).start()?.finish()?;
    print!("{}", worker.stdout);
    eprint!("{}", worker.stderr);
    anyhow::ensure!(worker.status.success(), "{}\n{}", worker.status, peers.output());
    let peers = peers.success()?;
    eprint!("{}", peers.stderr);
    Ok(())
}
