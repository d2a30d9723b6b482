//! `smcss`: lists the TCP sockets of preloaded processes, by smc-tools' contract.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use preloop_launcher::SMC_TOOLS;
use preloop_launcher::list::socket::Socket;
use preloop_launcher::list::state::State;
use preloop_launcher::list::table::Columns;
use preloop_launcher::list::{self, json, link};

const USAGE: &str = "\
Usage: smcss [ OPTIONS ]
\t-h, --help          this message
\t-v, --version       show version information
\t-a, --all           show all sockets
\t-l, --listening     show listening sockets
\t-d, --debug         show debug socket information
\t-W, --wide          do not truncate IP addresses
\t-D, --smcd          show detailed SMC-D information (shows only SMC-D sockets)
\t-R, --smcr          show detailed SMC-R information (shows only SMC-R sockets)
\t    --json          print everything known as a JSON array
\tno OPTIONS          show all connected sockets";

/// The options, all of them switches.
const SWITCHES: [(Option<char>, &str); 9] = [
    (Some('h'), "help"),
    (Some('v'), "version"),
    (Some('a'), "all"),
    (Some('l'), "listening"),
    (Some('d'), "debug"),
    (Some('W'), "wide"),
    (Some('D'), "smcd"),
    (Some('R'), "smcr"),
    (None, "json"),
];

/// Pairs of options that exclude each other.
const CONFLICTS: [(&str, &str); 5] =
    [("smcd", "smcr"), ("listening", "debug"), ("listening", "all"), ("listening", "smcr"), ("listening", "smcd")];

fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let text = error.render().to_string();
            return usage_error(&text.lines().next().unwrap_or_default().replacen("error:", "smcss:", 1));
        }
    };
    if matches.get_flag("help") {
        return finish(writeln!(io::stdout(), "{USAGE}"));
    }
    if matches.get_flag("version") {
        return finish(writeln!(io::stdout(), "smcss utility, {SMC_TOOLS}"));
    }
    for (one, other) in CONFLICTS {
        if matches.get_flag(one) && matches.get_flag(other) {
            return usage_error(&format!("--{one} together with --{other} is not supported"));
        }
    }
    finish(list(&matches))
}

fn command() -> Command {
    let switch = |(short, name): (Option<char>, &'static str)| {
        let switch = Arg::new(name).long(name).action(ArgAction::SetTrue).overrides_with(name);
        if let Some(short) = short { switch.short(short) } else { switch }
    };
    Command::new("smcss")
        .disable_help_flag(true)
        .disable_version_flag(true)
        // getopt_long takes any unambiguous beginning of a long option, and smcss ignores words that are none.
        .infer_long_args(true)
        .args(SWITCHES.map(switch))
        .arg(Arg::new("ignored").num_args(0..).value_parser(value_parser!(OsString)))
}

fn usage_error(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{message}\n{USAGE}");
    ExitCode::FAILURE
}

/// Prints the listing. Nothing else ever goes to stdout.
fn list(matches: &ArgMatches) -> io::Result<()> {
    let flag = |name| matches.get_flag(name);
    let columns = Columns { debug: flag("debug"), smcd: flag("smcd"), smcr: flag("smcr"), wide: flag("wide") };
    let wanted = |socket: &&Socket| {
        let by_state = match (flag("listening"), flag("all")) {
            (true, _) => socket.state == State::Listen,
            (_, all) => all || socket.state.is_connection(),
        };
        by_state && !columns.smcr && (!columns.smcd || socket.is_smcd())
    };
    let listing = list::read()?;
    let boot = link::boot();
    let mut out = BufWriter::new(io::stdout().lock());
    let sockets = listing.sockets.iter().filter(wanted);
    if flag("json") {
        json::write(&mut out, sockets, boot)?;
    } else {
        columns.write_header(&mut out)?;
        for socket in sockets {
            columns.write_row(&mut out, socket, boot)?;
        }
    }
    out.flush()?;
    if listing.refused > 0 {
        let _ = writeln!(
            io::stderr(),
            "smcss: {} preloaded processes cannot be read (as root they can; see kernel.yama.ptrace_scope)",
            listing.refused
        );
    }
    Ok(())
}

/// A reader that has seen enough, such as `head`, is no failure.
fn finish(result: io::Result<()>) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "smcss: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
