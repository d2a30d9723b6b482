//! `smc_run`: starts a command with the library preloaded, by smc-tools' contract.
//!
//! `main` is C's own: Rust's would ignore SIGPIPE and open missing standard descriptors, and the command would
//! inherit both.
#![no_main]

use std::env;
use std::ffi::{OsString, c_char, c_int};

use preloop_launcher::SMC_TOOLS;
use preloop_launcher::run::command::{self, Plan};
use preloop_launcher::run::launcher::{Launcher, Stop};
use preloop_launcher::run::options;
use preloop_uapi::settings::{SMC, SMC_DEBUG, SMC_RCVBUF, SMC_SNDBUF, parse_size};

const LAUNCHER: Launcher = Launcher {
    name: "smc_run",
    usage: "
Usage: smc_run [ OPTIONS ] COMMAND

Run COMMAND using SMC for TCP sockets

   -d         enable debug mode
   -h         display this message
   -r <SIZE>  request receive buffer size in Bytes
   -t <SIZE>  request transmit buffer size in Bytes
   -v         display version info",
};

/// Started by the C library. The name is C's, and nothing else in this program has it.
#[unsafe(no_mangle)]
extern "C" fn main(_argument_count: c_int, _arguments: *const *const c_char) -> c_int {
    command::run(&LAUNCHER, plan())
}

fn plan() -> Result<Plan, Stop> {
    let (mut debug, mut rcvbuf, mut sndbuf) = (None, None, None);
    let command = options::read(&LAUNCHER, |option, argument| {
        match option {
            "-d" => debug = Some("1".into()),
            "-h" => return Err(Stop::Answer(LAUNCHER.usage.into())),
            "-v" => return Err(Stop::Answer(format!("smc_run utility, {SMC_TOOLS}"))),
            "-r" => rcvbuf = Some(size(argument()?)?),
            "-t" => sndbuf = Some(size(argument()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    // Without -d a SMC_DEBUG that is set already stays: this may be a launcher inside a launcher.
    let debug = debug.or_else(|| env::var_os(SMC_DEBUG)).unwrap_or_else(|| "0".into());
    let settings = vec![(SMC_DEBUG, Some(debug)), (SMC_RCVBUF, rcvbuf), (SMC_SNDBUF, sndbuf)];
    Ok(Plan { command, settings, serves: &[SMC], otherwise: "runs on TCP" })
}

/// The bytes that a SIZE means. smc-tools itself words the error.
fn size(text: OsString) -> Result<OsString, Stop> {
    let wrong = || Stop::Refusal(format!("Error: Invalid buffer size specified: '{}'", text.display()));
    Ok(text.to_str().and_then(parse_size).ok_or_else(wrong)?.to_string().into())
}
