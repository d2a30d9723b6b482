//! `/proc/net/kcm` and `/proc/net/kcm_stats`, of the muxes that this process has. The texts are the core's.

use super::mux::Mux;
use super::registry;
use super::stream::Stream;
use preloop_kcm::proc::{TcpQueues, header, show_statistics};
use preloop_kcm::stats::{MuxStats, PsockStats};
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call};
use std::ffi::CStr;
use std::fmt;
use std::sync::Mutex;

/// A file of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    /// `kcm`.
    Muxes,
    /// `kcm_stats`.
    Statistics,
}

/// What muxes that are gone have counted.
static GONE: Mutex<Option<(MuxStats, PsockStats)>> = Mutex::new(None);

/// Runs `during` while nothing is added to that (for fork).
pub fn hold<R>(during: impl FnOnce() -> R) -> R {
    let _held = GONE.lock().unwrap_or_else(|e| e.into_inner());
    during()
}

/// The file that a path names.
pub fn named(path: &CStr) -> Option<File> {
    let path = path.to_bytes();
    let rest = path.strip_prefix(b"/proc/")?;
    let name = [b"net/".as_slice(), b"self/net/", b"thread-self/net/"].iter().find_map(|part| rest.strip_prefix(*part));
    match name? {
        b"kcm" => Some(File::Muxes),
        b"kcm_stats" => Some(File::Statistics),
        _ => None,
    }
}

/// Opens a file, to be read only. `flags` are those of open(2).
///
/// # Errors
/// EACCES for writing; EMFILE and its like.
pub fn open(file: File, flags: i32) -> Result<Fd, Errno> {
    if flags & libc::O_ACCMODE != libc::O_RDONLY {
        return Err(Errno::EACCES);
    }
    let mut text = String::new();
    let written = match file {
        File::Muxes => write_muxes(&mut text),
        File::Statistics => write_statistics(&mut text),
    };
    written.map_err(|_| Errno::ENOMEM)?;
    let memfd = Inner::from_raw(call::memfd(c"kcm")?);
    call::write(memfd.fd(), text.as_bytes())?;
    call::reopen(memfd.fd(), flags & (libc::O_CLOEXEC | libc::O_NONBLOCK))
}

fn write_muxes(text: &mut String) -> fmt::Result {
    let muxes = registry::all();
    header(text, muxes.len())?;
    muxes.iter().rev().try_for_each(|mux| {
        let Ok(mut entered) = mux.enter() else { return Ok(()) };
        let (state, local) = entered.shown();
        state.show(text, |psock| local.stream(psock).map_or(TcpQueues::default(), queues))
    })
}

fn write_statistics(text: &mut String) -> fmt::Result {
    let (mut mux_sum, mut psock_sum) = GONE.lock().unwrap_or_else(|e| e.into_inner()).unwrap_or_default();
    for mux in registry::all() {
        if let Ok(mut entered) = mux.enter() {
            let (mux, psocks) = entered.state().statistics();
            mux_sum.add(&mux);
            psock_sum.add(&psocks);
        }
    }
    show_statistics(text, &mux_sum, &psock_sum)
}

/// A mux is done: its counts are kept.
pub fn remember(mux: &Mux) {
    let (mux, psocks) = mux.last_statistics();
    let mut gone = GONE.lock().unwrap_or_else(|e| e.into_inner());
    let (mux_sum, psock_sum) = gone.get_or_insert_default();
    mux_sum.add(&mux);
    psock_sum.add(&psocks);
}

/// What TCP has queued. It tells bytes, not segments: where there are any, one.
fn queues(stream: Stream<'_>) -> TcpQueues {
    let (received, sent) = (stream.available() > 0, stream.unsent() > 0);
    let (rmem, wmem) = call::socket_memory(stream.fd());
    TcpQueues { recv_q: received.into(), rmem, send_q: sent.into(), smem: wmem.saturating_add(1) }
}
