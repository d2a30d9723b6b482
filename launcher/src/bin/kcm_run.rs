//! `kcm_run`: starts a command that has the sockets of AF_KCM by the preloaded library, as `smc_run` starts one with SMC.
//!
//! `main` is C's own, for the reason that it is in `smc_run`.
#![no_main]

use std::env;
use std::ffi::{c_char, c_int};

use preloop_launcher::PRELOOP;
use preloop_launcher::run::command::{self, Plan};
use preloop_launcher::run::launcher::{Launcher, Stop};
use preloop_launcher::run::{options, parser};
use preloop_parsers::registry::KNOWN;
use preloop_uapi::settings::{KCM, KCM_DEBUG, KCM_PARSER, SMC};

const LAUNCHER: Launcher = Launcher {
    name: "kcm_run",
    usage: "
Usage: kcm_run [ OPTIONS ] COMMAND

Run COMMAND with KCM sockets, without the kernel's module

   -d           enable debug mode
   -h           display this message
   -l           list the parsers that can be named
   -p <PARSER>  parse TCP sockets that are attached without a program (-1) by PARSER:
                a name (-l), a spec (u32be@0+4), or FILE.o[:SECTION]
   -v           display version info
   --smc        use SMC for TCP sockets as well",
};

/// Started by the C library. The name is C's, and nothing else in this program has it.
#[unsafe(no_mangle)]
extern "C" fn main(_argument_count: c_int, _arguments: *const *const c_char) -> c_int {
    command::run(&LAUNCHER, plan())
}

fn plan() -> Result<Plan, Stop> {
    let (mut debug, mut parser, mut smc) = (None, None, false);
    let command = options::read(&LAUNCHER, |option, argument| {
        match option {
            "-d" => debug = Some("1".into()),
            "-h" => return Err(Stop::Answer(LAUNCHER.usage.into())),
            "-l" => return Err(Stop::Answer(parsers())),
            "-v" => return Err(Stop::Answer(format!("kcm_run utility, {PRELOOP}"))),
            "-p" => parser = Some(argument()?),
            "--smc" => smc = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let parser = parser.or_else(|| env::var_os(KCM_PARSER).filter(|text| !text.is_empty()));
    let is_debugging = debug.is_some() || env::var_os(KCM_DEBUG).is_some_and(|value| value == "1");
    let tell = |line: &str| {
        if is_debugging {
            LAUNCHER.complain(line);
        }
    };
    let parser = parser.map(|text| parser::check(text, tell)).transpose().map_err(Stop::Error)?;
    let settings = vec![(KCM_DEBUG, debug), (KCM_PARSER, parser)];
    let (serves, otherwise): (&[_], _) =
        if smc { (&[KCM, SMC], "runs on TCP and without KCM") } else { (&[KCM], "runs without KCM") };
    Ok(Plan { command, settings, serves, otherwise })
}

/// Names and descriptions, one a line.
fn parsers() -> String {
    let width = KNOWN.iter().map(|known| known.name.len()).max().unwrap_or_default();
    let lines: Vec<_> = KNOWN.iter().map(|known| format!("{:<width$}  {}", known.name, known.about)).collect();
    lines.join("\n")
}
