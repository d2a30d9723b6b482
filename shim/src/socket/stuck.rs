//! Ends that the kernel cannot deliver.
//!
//! A FIN comes behind all bytes that were written to T. As long as this end does not take those, and has no room for them
//! all, it is stuck at the peer, who may be dead by then. On TCP that matters little: a peer that is killed with bytes
//! unread resets the connection, and a reset waits for nothing. But what a moved connection's peer has not read lies in
//! the ring, of which the kernel knows nothing.
//!
//! - *The stream has left T.* What still comes there is none of it, and is dropped ([`drop_strays`]). So whoever sleeps has
//!   the kernel tell of it.
//! - *The stream is still on T*, and this end, which waits for room in the ring, does not read. No event tells of the
//!   peer's end then; so it is looked for ([`look`]), ten times a second, as long as that lasts. The kernel knows who holds
//!   the other end. If nobody does, a byte makes it reset the connection as it would have on TCP: for all processes that
//!   share the connection, and for whatever they sleep in.

use crate::process;
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::rx;
use crate::socket::sock::flag;
use crate::socket::wait::Deadline;
use preloop_smc::back;
use preloop_sys::{Fd, call, clock};
use preloop_uapi::sync::Ordering;

/// Nanoseconds between two looks for the peer's end.
const LOOK_EVERY: u64 = 100_000_000;

/// When to look next: all sleepers at one time, and timers that are set for it need not be set again.
pub fn next_look() -> u64 {
    (clock::now() / LOOK_EVERY + 1) * LOOK_EVERY
}

/// The deadline, or the next look if that is sooner.
pub fn by_next_look(deadline: Deadline) -> Deadline {
    let next = next_look();
    Some(deadline.map_or(next, |deadline| deadline.min(next)))
}

/// Looks for a peer whose end may be stuck, unless that was done just now: the stream is still on T, and the peer has bytes
/// unread in its ring.
pub fn look(file: &OpenFile, fd: Fd) {
    let sock = file.sock;
    if sock.rx_in_ring() || sock.has(flag::FIN | flag::ERROR) || process::is_confined() {
        return;
    }
    let now = clock::now();
    if now.wrapping_sub(sock.sought_at.load(Ordering::Relaxed)) < LOOK_EVERY / 2 {
        return;
    }
    sock.sought_at.store(now, Ordering::Relaxed);
    let is_full = call::int_ioctl(fd, libc::FIONREAD).is_ok_and(|bytes| bytes > 0);
    if is_full && clc::addresses(fd).is_some_and(|(own, other)| process::is_end_left(fd, own, other)) {
        let _ = call::send(fd, &[0], libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    }
}

/// Whether bytes that come to T now are none of the stream's.
pub fn are_strays(file: &OpenFile, link: &Link) -> bool {
    file.sock.rx_in_ring() && !back::is_marked(&link.peer().tx)
}

/// Drops what T has although the stream has left it: written past the library, by a child that cannot be counted or by a
/// peer that means no good. Without the rx lock.
pub fn drop_strays(file: &OpenFile) {
    let sock = file.sock;
    let Some(link) = file.link().filter(|_| sock.rx_in_ring()) else { return };
    let _held = rx::lock(file);
    let fd = file.fd();
    // Counted before the look at the mark: what comes behind that is the stream's again.
    let strays = call::int_ioctl(fd, libc::FIONREAD).unwrap_or(0);
    if strays > 0 && rx::settle(file, fd).is_ok() && are_strays(file, link) {
        let _ = call::discard(fd, strays as usize);
    }
}
