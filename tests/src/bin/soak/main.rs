//! `cargo soak [--minutes N] [--seed S] [--connections C] [--as-built] [--plain]`: two echo servers under `smc_run`, one
//! with a thread for each connection and one with an epoll set, and many clients of several kinds, which compare what comes
//! back. Clients are killed at random, and close connections at random; no client may stop, and once all are gone, the
//! servers have what they had after the first seconds: descriptors, mappings, memory, slots.
//!
//! ```text
//! soak                                 as above
//! soak serve PORT                      the server with threads
//! soak client KIND PORT SEED FILE N    a client, which stores in FILE how often it was answered
//! ```
#![forbid(unsafe_code)]

mod crew;
mod kinds;
mod leftovers;
mod run;
mod serve;
mod talk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, Command, value_parser};
use preloop_tests::world::World;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["serve", port] => serve::serve(port),
        ["client", kind, port, seed, file, count] => kinds::play(kind, port, seed, Path::new(file), count),
        _ => soak(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak() -> Result<()> {
    let option = |name: &'static str, default: &'static str| Arg::new(name).long(name).default_value(default);
    let matches = Command::new("soak")
        .about("Mixed clients, random kills and closes: nothing hangs, nothing leaks, every byte is right")
        .arg(option("minutes", "10").value_parser(value_parser!(f64)).help("how long"))
        .arg(option("seed", "1").value_parser(value_parser!(u64)).help("what kills and contents follow from"))
        .arg(option("connections", "2000").value_parser(value_parser!(usize)).help("about so many at a time"))
        .arg(Arg::new("as-built").long("as-built").action(ArgAction::SetTrue).help("build nothing before"))
        .arg(Arg::new("plain").long("plain").action(ArgAction::SetTrue).help("without the library, as the control"))
        .get_matches();
    let get = |name| *matches.get_one::<usize>(name).expect("it has a default");
    let minutes = *matches.get_one::<f64>("minutes").expect("it has a default");
    let seed = *matches.get_one::<u64>("seed").expect("it has a default");
    if !matches.get_flag("as-built") {
        preloop_tests::build::release()?;
    }
    let world = if matches.get_flag("plain") { World::Tcp } else { World::Both };
    run::run(world, Duration::from_secs_f64(minutes * 60.0), seed, get("connections"))
}

/// The path of this program, be it that cargo has put another build of it in its place since it was started.
fn own_path() -> Result<PathBuf> {
    let path = std::env::current_exe()?.into_os_string().into_string().ok().context("a path in UTF-8")?;
    Ok(path.strip_suffix(" (deleted)").unwrap_or(&path).into())
}
