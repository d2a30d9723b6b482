//! The peer does not read, and the ring is full: this end's direction goes on over TCP.
//!
//! TCP's buffers grow to megabytes, a ring has what it has. Two programs that each send a megabyte before they read, or one
//! that has both ends, get along on TCP; with two full rings they would wait for each other for ever. From outside that
//! cannot be told from a peer that is merely busy. So who finds its ring full, and again later with not a byte taken, gives
//! up: it sets its mark, and what follows goes to the kernel's socket, which has room. The peer need not do anything for
//! that; when it reads, it reads the ring until that is empty, and then TCP.
//!
//! A peer that is busy for so long costs the direction the ring's speed, which it does not use. A KCM mux reads whenever
//! something comes, so a connection that it has stays.

use super::{End, finish, give_direction_back, may_change_back};
use crate::log;
use crate::process;
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::sock::flag;
use crate::socket::{rx, tx};
use preloop_smc::back;
use preloop_sys::{Fd, clock};
use preloop_uapi::sync::Ordering;

/// Nanoseconds that a full ring may go unread while bytes for this end lie unread, too, or the peer is this very process:
/// nobody may be left to read it.
const CROSSED: u64 = 100_000_000;

/// Nanoseconds that any other one may: what each program on TCP puts up with, where something was lost (RFC 6298).
const ALONE: u64 = 1_000_000_000;

/// Whether somebody who waits for room is to look again by itself. Not where waits are to have no bound.
pub fn is_to_be_watched(file: &OpenFile) -> bool {
    !process::settings().unbounded_waits && may_change_back(file)
}

/// Looks at a ring without room, whose peer may have stopped reading; whether the direction is TCP's from now on. Takes
/// both of the connection's locks, one after the other.
pub fn look(file: &OpenFile, link: &Link, fd: Fd) -> bool {
    if !is_to_be_watched(file) {
        return false;
    }
    let (sock, now) = (file.sock, clock::now());
    let taken = link.peer().rx.cons.load(Ordering::Acquire);
    if sock.stalled_at.load(Ordering::Acquire) != taken.wrapping_add(1) {
        sock.stalled_since.store(now, Ordering::Relaxed);
        sock.stalled_at.store(taken.wrapping_add(1), Ordering::Release);
        return false;
    }
    let patience = if is_crossed(link) { CROSSED } else { ALONE };
    if now.saturating_sub(sock.stalled_since.load(Ordering::Relaxed)) < patience || !give_up(file, link, fd, taken) {
        return false;
    }
    link.notify();
    // The other direction may have gone before.
    let _held = rx::lock(file);
    finish(file, link, fd, End::Peer);
    true
}

/// Whether the peer may be waiting for this end to read: it has half a ring of unread bytes here, or has given up itself.
fn is_crossed(link: &Link) -> bool {
    let line = &link.peer().tx;
    let filled = line.prod.load(Ordering::Relaxed);
    // What was skipped before the newest run was not sent.
    let taken = link.own().rx.cons.load(Ordering::Relaxed).max(line.start.load(Ordering::Relaxed));
    filled.saturating_sub(taken) >= link.rx_ring().size() / 2
        || back::is_marked(line)
        || link.group.peer.pid == process::pid()
}

/// `false`: the peer has read meanwhile, asks itself, or another thread is sending.
fn give_up(file: &OpenFile, link: &Link, fd: Fd, taken: u64) -> bool {
    let (sock, line) = (file.sock, &link.peer().rx);
    let Some(_held) = tx::try_lock(file) else { return false };
    let stands = line.cons.load(Ordering::Acquire) == taken && !back::is_asked(line);
    if !sock.tx_in_ring() || sock.has(flag::TX_SHUT) || !stands {
        return false;
    }
    give_direction_back(sock, link, fd);
    let cookie = sock.listing.cookie.load(Ordering::Relaxed);
    log::debug(format_args!("connection {cookie:#x} is not read: what it sends goes over TCP"));
    true
}
