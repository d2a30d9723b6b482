//! Counting, for tests: with `PRELOOP_STATS=FILE` each event in the life of a connection's end appends a line to FILE.
//!
//! ```text
//! begin PID.SLOT active|passive LOCAL PEER   connected, or accepted
//! proposed PID.SLOT                          the active end proposed
//! offered PID.SLOT                           the passive end answered with an Accept
//! agreed PID.SLOT                            the handshake is through
//! moved PID.SLOT                             what this end sends goes through shared memory from now on
//! stays PID.SLOT CODE                        it stays on TCP for good, with this decline code
//! shut PID.SLOT                              the program shut a direction down
//! end PID.SLOT SENDS RECEIVES                closed by its last holder; calls that TCP carried
//! ```
//! PID and SLOT are where the socket lies (`Listing::pid`, `Listing::slot`), and name it until its `end`, or until it is
//! passed to another process (SCM_RIGHTS), whose PID it has from then on. A line is one
//! write to a file opened for it: siblings and threads do not mix, no descriptor is kept, and a process that is killed
//! has told all but its end. For that instant it takes the lowest free descriptor. Unset, it costs a look at the
//! settings where a connection changes, and at each call that sends on one that stays on TCP.

use crate::process;
use crate::socket::sock::Sock;
use core::ffi::CStr;
use core::fmt::Arguments;
use core::net::SocketAddr;
use preloop_sys::call;
use preloop_uapi::decline::Decline;
use preloop_uapi::listing::kind;
use preloop_uapi::sync::Ordering;
use std::io::Write;

/// Room for the longest line, one with two IPv6 addresses that have scopes.
const LINE: usize = 256;

/// The file, unless this process has none, or may make no system call that the program does not expect.
fn file() -> Option<&'static CStr> {
    process::settings().stats.as_deref().filter(|_| !process::is_confined())
}

fn line(sock: &Sock, event: &str, rest: Arguments<'_>) {
    let Some(path) = file() else { return };
    let (pid, slot) = (sock.listing.pid.load(Ordering::Relaxed), sock.listing.slot.load(Ordering::Relaxed));
    let mut buffer = [0u8; LINE];
    let mut room = &mut buffer[..];
    if writeln!(room, "{event} {pid}.{slot}{rest}").is_ok() {
        let used = LINE - room.len();
        // Nobody could be told that it failed.
        let _ = call::append(path, &buffer[..used]);
    }
}

/// A connection began here.
pub fn begins(sock: &Sock, active: bool, ends: impl FnOnce() -> Option<(SocketAddr, SocketAddr)>) {
    if file().is_some()
        && let Some((local, peer)) = ends()
    {
        line(sock, "begin", format_args!(" {} {local} {peer}", if active { "active" } else { "passive" }));
    }
}

/// The active end proposed.
pub fn proposed(sock: &Sock) {
    line(sock, "proposed", format_args!(""));
}

/// The passive end offered shared memory.
pub fn offered(sock: &Sock) {
    line(sock, "offered", format_args!(""));
}

/// The handshake is through.
pub fn agreed(sock: &Sock) {
    line(sock, "agreed", format_args!(""));
}

/// The sending direction moved.
pub fn moved(sock: &Sock) {
    line(sock, "moved", format_args!(""));
}

/// It stays on TCP.
pub fn stays(sock: &Sock, why: Decline) {
    line(sock, "stays", format_args!(" {:08x}", why.0));
}

/// The program shuts a direction down.
pub fn shuts(sock: &Sock) {
    line(sock, "shut", format_args!(""));
}

/// A call on a connection that stays on TCP sent something.
#[inline]
pub fn sent_on_tcp(sock: &Sock, sent: bool) {
    if sent && file().is_some() {
        sock.sends.fetch_add(1, Ordering::Relaxed);
    }
}

/// The last holder closed the socket. Only the end of a connection is told.
pub fn ends(sock: &Sock) {
    if sock.listing.kind.load(Ordering::Relaxed) != kind::CONNECTION {
        return;
    }
    let (sends, receives) = (sock.sends.load(Ordering::Relaxed), sock.receives.load(Ordering::Relaxed));
    line(sock, "end", format_args!(" {sends} {receives}"));
}
