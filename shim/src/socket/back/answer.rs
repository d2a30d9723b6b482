//! The peer wants what this end sends over TCP again.

use super::{may_change_back, send_over_tcp};
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::sock::{Sock, tx_state};
use crate::socket::{rx, tx};
use preloop_shm::copy::Ring;
use preloop_smc::back::{self, Request};
use preloop_smc::ring::Span;
use preloop_sys::outgoing::{self, Linger, Unlimited};
use preloop_sys::{Errno, Fd, clock, sleep, tcp};
use preloop_uapi::ring::shut;
use preloop_uapi::sync::Ordering;

/// Nanoseconds that TCP may take for bytes that it should take at once. If the system is short of memory for longer, the
/// connection is reset: a part of them must not pass for all.
const PATIENCE: u64 = 1_000_000_000;

/// `Sock::residue_from` where no bytes are to be moved.
const NO_BYTES: u64 = u64::MAX;

/// `Sock::linger` says that there is something in it.
const KEPT: u64 = 1 << 63;

/// Answers the peer's request. Under the rx lock, so that no reader is about to read TCP beyond where this end has moved;
/// the tx lock is taken.
pub fn answer(file: &OpenFile, link: &Link, fd: Fd) {
    let held = tx::lock(file);
    let is_back = answer_locked(file, link, fd);
    drop(held);
    link.notify();
    if is_back {
        link.notify_own();
    }
}

/// As [`answer`], under both locks; tells nobody.
pub(super) fn answer_locked(file: &OpenFile, link: &Link, fd: Fd) -> bool {
    let word = &link.peer().rx;
    if !back::is_asked(word) {
        return false;
    }
    // Afterwards the peer may send urgent data over TCP, behind which the kernel does not tell how much of what came before was
    // taken.
    let knows = may_change_back(file) && rx::learn(file, link, fd).is_ok();
    let residue = knows.then(|| residue(file, link, fd)).flatten();
    let is_back = residue.is_some_and(|residue| change_back(file.sock, link, fd, residue));
    if !is_back {
        back::refuse(word);
    }
    is_back
}

/// What the peer has not read, if TCP takes that.
fn residue(file: &OpenFile, link: &Link, fd: Fd) -> Option<Span> {
    let sock = file.sock;
    let residue = sock.sender.untaken(&link.peer().rx, link.tx_ring().size());
    let Ok(residue) = residue else {
        tx::broken(file, fd);
        return None;
    };
    let is_open = || link.own().tx.shut.load(Ordering::Relaxed) != shut::BOTH;
    // Not behind what has gone over TCP since the direction changed back.
    let can_send = || sock.tx_in_ring() && is_open() && residue.len() <= outgoing::surely_takes(fd);
    (residue.is_empty() || can_send()).then_some(residue)
}

/// `false`: TCP does not tell how far it was written, or the peer has withdrawn.
fn change_back(sock: &Sock, link: &Link, fd: Fd, residue: Span) -> bool {
    if !note(sock, fd, residue) {
        return false;
    }
    let is_taken = back::take(&link.peer().rx);
    if is_taken {
        move_residue(link.tx_ring(), residue, fd);
        close_the_matter(sock, link, fd);
    }
    forget(sock, fd);
    is_taken
}

fn close_the_matter(sock: &Sock, link: &Link, fd: Fd) {
    send_over_tcp(sock, link, fd);
    back::finish(&link.peer().rx);
}

/// Notes what a sibling needs to go on from here, should this process be killed; and has the kernel reset the connection,
/// should there be no sibling: a stream of which a part is missing must not seem to end.
fn note(sock: &Sock, fd: Fd, residue: Span) -> bool {
    if residue.is_empty() {
        sock.residue_from.store(NO_BYTES, Ordering::Release);
        return true;
    }
    let (Some(written), Ok(linger)) = (tcp::write_position(fd), Linger::of(fd)) else { return false };
    let packed = KEPT | u64::from(linger.on) << 32 | u64::from(linger.seconds);
    sock.linger.store(packed, Ordering::Release);
    sock.residue_from.store(written + 1, Ordering::Release);
    Linger::RESET.set(fd);
    true
}

fn forget(sock: &Sock, fd: Fd) {
    let linger = sock.linger.load(Ordering::Relaxed);
    if linger & KEPT != 0 {
        Linger { on: linger & 1 << 32 != 0, seconds: linger as u32 }.set(fd);
        sock.linger.store(0, Ordering::Release);
    }
    sock.residue_from.store(0, Ordering::Release);
}

/// The owner of the tx lock died; perhaps it was answering. Under the tx lock.
pub fn repair(file: &OpenFile, link: &Link) {
    let (sock, fd) = (file.sock, file.fd());
    let from = sock.residue_from.load(Ordering::Acquire);
    if from == 0 {
        return;
    }
    if matches!(back::request(&link.peer().rx), Request::Taken | Request::Done) {
        if sock.tx_state.load(Ordering::Acquire) != tx_state::BACK {
            let moved = if from == NO_BYTES { Some(0) } else { moved_since(fd, from) };
            let residue = sock.sender.untaken(&link.peer().rx, link.tx_ring().size());
            match (moved, residue) {
                _ if from == NO_BYTES => {}
                (Some(moved), Ok(residue)) => move_residue(link.tx_ring(), residue.skip(moved), fd),
                _ => outgoing::reset(fd),
            }
        }
        close_the_matter(sock, link, fd);
    }
    forget(sock, fd);
    link.notify();
    link.notify_own();
}

/// Bytes that went into TCP since [`note`].
fn moved_since(fd: Fd, from: u64) -> Option<usize> {
    usize::try_from(tcp::write_position(fd)?.checked_sub(from - 1)?).ok()
}

/// Puts ring bytes into TCP, all of them.
fn move_residue(ring: &Ring, residue: Span, fd: Fd) {
    if residue.is_empty() {
        return;
    }
    let _unlimited = Unlimited::begin(fd);
    let deadline = clock::now() + PATIENCE;
    let mut rest = residue;
    while !rest.is_empty() {
        let (at, len) = if rest.first.1 > 0 { rest.first } else { rest.second };
        match ring.drain_to_socket(at, len, fd) {
            Ok(sent) => rest = rest.skip(sent),
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) if clock::now() < deadline => {
                sleep::quietly(fd, libc::POLLOUT, clock::now() + PATIENCE / 100);
            }
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => return outgoing::reset(fd),
            // The connection has ended, and the kernel says how.
            Err(_) => return,
        }
    }
}
