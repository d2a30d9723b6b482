//! `cargo compat [NAME...]`: runs real applications in every direction and writes `compat/applications.md`.
//!
//! | file | what |
//! |---|---|
//! | `web`, `proxies`, `databases`, `caches`, `messages`, `files`, `languages`, `load` | the applications, a family in each |
//! | `application` | what an application's entry says |
//! | `run` | one application in one direction: its scene, its ports, the watch over its connections |
//! | `outcome` | what a run must have shown, and the row that it becomes |
//! | `page` | the table on disk |
#![forbid(unsafe_code)]

mod application;
mod caches;
mod databases;
mod files;
mod languages;
mod load;
mod messages;
mod outcome;
mod page;
mod proxies;
mod run;
mod web;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgMatches, Command};
use preloop_tests::{build, packages};

use application::{Application, applications};

fn main() -> Result<ExitCode> {
    let chosen = choose(&arguments().get_matches());
    build::release()?;
    let missing = packages::provide(chosen.iter().flat_map(|application| application.needs.iter().copied()));

    let mut failures = Vec::new();
    for application in &chosen {
        let wanting: Vec<_> = application.needs.iter().filter(|need| missing.contains(need)).copied().collect();
        let mut rows = Vec::new();
        if wanting.is_empty() {
            for &world in application.directions {
                match run::play(application, world) {
                    Ok(row) => rows.push(row),
                    Err(error) => {
                        println!("{} ({world}) FAILED: {error:#}", application.name);
                        failures.push(format!("{} ({world})", application.name));
                    }
                }
            }
        } else {
            println!("{}: not run, for want of {}", application.name, wanting.join(", "));
            failures.push(application.name.to_owned());
        }
        page::publish(application.name, rows)?;
    }
    println!("\n{}", page::path().display());
    for failure in &failures {
        println!("failed: {failure}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn arguments() -> Command {
    let names: Vec<_> = applications().iter().map(|application| application.name).collect();
    let chosen = Arg::new("name").value_name("NAME").num_args(0..).value_parser(names);
    Command::new("cargo compat")
        .about(
            "Runs real applications with the server, the client and both under smc_run; writes compat/applications.md",
        )
        .arg(chosen.help("Applications to run; all when none is named. The rows of the others stay as they are"))
}

fn choose(matches: &ArgMatches) -> Vec<Application> {
    let names: Vec<&String> = matches.get_many("name").into_iter().flatten().collect();
    let chosen = |one: &Application| names.is_empty() || names.iter().any(|name| *name == one.name);
    applications().into_iter().filter(chosen).collect()
}
