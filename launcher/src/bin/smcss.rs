//! `smcss`: lists the TCP sockets of preloaded processes, by smc-tools' contract.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::ArgMatches;
use preloop_launcher::SMC_TOOLS;
use preloop_launcher::list::socket::Socket;
use preloop_launcher::list::state::State;
use preloop_launcher::list::table::Columns;
use preloop_launcher::list::tool::Tool;
use preloop_launcher::list::{self, json, link};

const TOOL: Tool = Tool {
    name: "smcss",
    usage: "\
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
\tno OPTIONS          show all connected sockets",
    version: SMC_TOOLS,
    switches: &[
        (Some('a'), "all"),
        (Some('l'), "listening"),
        (Some('d'), "debug"),
        (Some('W'), "wide"),
        (Some('D'), "smcd"),
        (Some('R'), "smcr"),
        (None, "json"),
    ],
};

/// Pairs of options that exclude each other.
const CONFLICTS: [(&str, &str); 5] =
    [("smcd", "smcr"), ("listening", "debug"), ("listening", "all"), ("listening", "smcr"), ("listening", "smcd")];

fn main() -> ExitCode {
    let matches = match TOOL.options() {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    for (one, other) in CONFLICTS {
        if matches.get_flag(one) && matches.get_flag(other) {
            return TOOL.usage_error(&format!("--{one} together with --{other} is not supported"));
        }
    }
    TOOL.finish(list(&matches))
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
