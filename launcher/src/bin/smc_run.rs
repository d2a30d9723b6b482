//! `smc_run`: starts a command with the library preloaded, by smc-tools' contract.
//!
//! `main` is C's own: Rust's would ignore SIGPIPE and open missing standard descriptors, and the command would
//! inherit both.
#![no_main]

use std::env;
use std::ffi::{CString, OsStr, OsString, c_char, c_int};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use clap_lex::{ArgCursor, RawArgs};
use preloop_image::obstacle::{self, Obstacle};
use preloop_image::program::{self, NoProgram, SHELL};
use preloop_launcher::run::library::{self, Library};
use preloop_launcher::{SMC_TOOLS, sys};
use preloop_uapi::settings::{LD_PRELOAD, SMC_DEBUG, SMC_RCVBUF, SMC_SNDBUF, parse_size};
use rustix::io::Errno;

const USAGE: &str = "
Usage: smc_run [ OPTIONS ] COMMAND

Run COMMAND using SMC for TCP sockets

   -d         enable debug mode
   -h         display this message
   -r <SIZE>  request receive buffer size in Bytes
   -t <SIZE>  request transmit buffer size in Bytes
   -v         display version info";

/// Exit codes of the shell for a command that cannot be run.
const NOT_EXECUTABLE: c_int = 126;
const NOT_FOUND: c_int = 127;

/// What the command is to be run with.
#[derive(Default)]
struct Options {
    debug: bool,
    rcvbuf: Option<u64>,
    sndbuf: Option<u64>,
    command: Vec<OsString>,
}

/// How the options end the launcher by themselves.
enum Stop {
    Help,
    Version,
    /// An option that smc_run does not have, or one whose SIZE is missing.
    Usage(String),
    Size(OsString),
    NoCommand,
}

/// Started by the C library. The name is C's, and nothing else in this program has it.
#[unsafe(no_mangle)]
extern "C" fn main(_argument_count: c_int, _arguments: *const *const c_char) -> c_int {
    match parse(&RawArgs::new(env::args_os())) {
        Ok(options) => run(&options),
        Err(stop) => stopped(stop),
    }
}

/// Reads the options one after the other, as getopt does: the first word that is no option begins the command.
fn parse(words: &RawArgs) -> Result<Options, Stop> {
    let mut cursor = words.cursor();
    words.next_os(&mut cursor);
    let mut options = Options::default();
    while let Some(word) = words.peek(&cursor) {
        if word.is_escape() {
            words.next_os(&mut cursor);
            break;
        }
        if word.is_long() {
            return Err(Stop::Usage(format!("Invalid option: {}", word.display())));
        }
        let Some(mut flags) = word.to_short() else { break };
        words.next_os(&mut cursor);
        while let Some(flag) = flags.next_flag() {
            match flag {
                Ok('d') => options.debug = true,
                Ok('h') => return Err(Stop::Help),
                Ok('v') => return Err(Stop::Version),
                Ok(letter @ ('r' | 't')) => {
                    let size = Some(size(letter, flags.next_value_os(), words, &mut cursor)?);
                    *(if letter == 'r' { &mut options.rcvbuf } else { &mut options.sndbuf }) = size;
                }
                Ok(other) => return Err(Stop::Usage(format!("Invalid option: -{other}"))),
                Err(other) => return Err(Stop::Usage(format!("Invalid option: -{}", other.display()))),
            }
        }
    }
    options.command = words.remaining(&mut cursor).map(OsStr::to_owned).collect();
    if options.command.is_empty() { Err(Stop::NoCommand) } else { Ok(options) }
}

/// The SIZE of an option: the rest of its own word, or else the next word.
fn size(letter: char, rest: Option<&OsStr>, words: &RawArgs, cursor: &mut ArgCursor) -> Result<u64, Stop> {
    let text = rest
        .or_else(|| words.next_os(cursor))
        .ok_or_else(|| Stop::Usage(format!("Option requires an argument: -{letter}")))?;
    text.to_str().and_then(parse_size).ok_or_else(|| Stop::Size(text.to_owned()))
}

/// Prints what ends the launcher, and returns its exit code. The two errors that smc-tools words itself go to stdout,
/// where smc-tools prints them.
fn stopped(stop: Stop) -> c_int {
    let (text, code) = match stop {
        Stop::Help => (USAGE.to_owned(), 0),
        Stop::Version => (format!("smc_run utility, {SMC_TOOLS}"), 0),
        Stop::Size(text) => (format!("Error: Invalid buffer size specified: '{}'", text.display()), 1),
        Stop::NoCommand => ("smc_run: Error: Missing command parameter".to_owned(), 1),
        Stop::Usage(message) => {
            complain(&format!("Error: {message}\n{USAGE}"));
            return 1;
        }
    };
    let _ = writeln!(io::stdout(), "{text}");
    code
}

/// Tells the user something. Unlike `eprintln`, it lets the command run even where nobody can be told.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "smc_run: {text}");
}

/// Becomes the command. Returns the exit code when that fails.
fn run(options: &Options) -> c_int {
    let library = match library::find() {
        Ok(library) => library,
        Err(unusable) => {
            complain(&format!("Error: {unusable}"));
            return 1;
        }
    };
    let command = &options.command[0];
    let file = match program::find(command) {
        Ok(file) => file,
        Err(failure) => {
            let (reason, code) = match failure {
                NoProgram::NotFound(reason) => (reason, NOT_FOUND),
                NoProgram::NotExecutable(reason) => (reason, NOT_EXECUTABLE),
            };
            complain(&format!("{}: {reason}", command.display()));
            return code;
        }
    };
    let loaded = program::loaded(&file);
    let obstacle = loaded.as_deref().and_then(|loaded| obstacle::find(loaded, library.abi));
    if let (Some(loaded), Some(obstacle)) = (&loaded, &obstacle) {
        let through = if *loaded == file { String::new() } else { format!("{} ", loaded.display()) };
        complain(&format!("Warning: {}: {through}{obstacle}: runs on TCP", command.display()));
    }
    let error = become_command(&file, &options.command, &environment(options, &library, obstacle.as_ref()));
    complain(&format!("{}: {}", command.display(), program::reason(&error)));
    NOT_EXECUTABLE
}

/// Hands over to the command, or to a shell when its file is text that the kernel cannot run.
fn become_command(file: &Path, command: &[OsString], environment: &[CString]) -> io::Error {
    let words = |words: &[OsString]| words.iter().cloned().map(c_string).collect::<Vec<_>>();
    let exec = |file: &Path, arguments: &[CString]| sys::exec(&c_string(file.into()), arguments, environment);
    let error = exec(file, &words(command));
    if error.raw_os_error() != Some(Errno::NOEXEC.raw_os_error()) || !program::runs_in_shell(file) {
        return error;
    }
    let mut arguments = vec![c_string(SHELL.into()), c_string(file.into())];
    arguments.extend(words(&command[1..]));
    exec(Path::new(SHELL), &arguments)
}

/// The environment of the command: this one's, with the settings of the options and the library in it.
fn environment(options: &Options, library: &Library, obstacle: Option<&Obstacle>) -> Vec<CString> {
    let existing = env::var_os(LD_PRELOAD);
    let preload = if obstacle.is_some_and(Obstacle::breaks_loading) {
        library::without(existing.as_deref(), &library.path)
    } else {
        Some(library::with(existing.as_deref(), &library.path))
    };
    // Without -d a SMC_DEBUG that is set already stays: this may be a launcher inside a launcher.
    let debug = if options.debug { "1".into() } else { env::var_os(SMC_DEBUG).unwrap_or_else(|| "0".into()) };
    let size = |option: Option<u64>, name| option.map(|bytes| bytes.to_string().into()).or_else(|| env::var_os(name));
    let settings = [
        (LD_PRELOAD, preload),
        (SMC_DEBUG, Some(debug)),
        (SMC_RCVBUF, size(options.rcvbuf, SMC_RCVBUF)),
        (SMC_SNDBUF, size(options.sndbuf, SMC_SNDBUF)),
    ];
    let kept = env::vars_os().filter(|(name, _)| settings.iter().all(|(set, _)| name != set));
    let set = settings.iter().filter_map(|(name, value)| Some((OsString::from(name), value.clone()?)));
    kept.chain(set)
        .map(|(mut entry, value)| {
            entry.push("=");
            entry.push(value);
            c_string(entry)
        })
        .collect()
}

/// A word for execve. It comes from this process's own arguments and environment, so no zero byte is inside.
fn c_string(word: OsString) -> CString {
    CString::new(word.into_vec()).unwrap_or_default()
}
