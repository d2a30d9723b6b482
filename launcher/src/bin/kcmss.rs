//! `kcmss`: the texts of `/proc/net/kcm` and `/proc/net/kcm_stats` for the KCM sockets of preloaded processes.

use std::io::{self, Write};
use std::process::ExitCode;

use preloop_kcm::proc::{header, show_statistics};
use preloop_kcm::stats::{MuxStats, PsockStats};
use preloop_launcher::PRELOOP;
use preloop_launcher::list::mux::{self, Mux};
use preloop_launcher::list::tcp::Tables;
use preloop_launcher::list::tool::Tool;

const TOOL: Tool = Tool {
    name: "kcmss",
    usage: "\
Usage: kcmss [ OPTIONS ]
\t-h, --help          this message
\t-v, --version       show version information
\t-s, --statistics    show the sums over all multiplexors
\tno OPTIONS          show all multiplexors with their sockets, the newest first",
    version: PRELOOP,
    switches: &[(Some('s'), "statistics")],
};

fn main() -> ExitCode {
    match TOOL.options() {
        Ok(options) => TOOL.finish(list(options.get_flag("statistics"))),
        Err(code) => code,
    }
}

fn list(sums: bool) -> io::Result<()> {
    let muxes = mux::read()?;
    let mut text = String::new();
    let shown = if sums { statistics(&mut text, &muxes) } else { table(&mut text, &muxes) };
    shown.map_err(io::Error::other)?;
    io::stdout().write_all(text.as_bytes())
}

fn table(text: &mut String, muxes: &[Mux]) -> std::fmt::Result {
    let mut tables = Tables::default();
    header(text, muxes.len())?;
    muxes.iter().try_for_each(|mux| mux.state.show(text, |psock| mux.queues(psock, &mut tables)))
}

fn statistics(text: &mut String, muxes: &[Mux]) -> std::fmt::Result {
    let (mut sum, mut psocks) = (MuxStats::default(), PsockStats::default());
    for (mux, psock) in muxes.iter().map(|mux| mux.state.statistics()) {
        sum.add(&mux);
        psocks.add(&psock);
    }
    show_statistics(text, &sum, &psocks)
}
