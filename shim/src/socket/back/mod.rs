//! Changing back to TCP, for the sake of what shared memory cannot carry, of a next program that cannot have the library, of a
//! filter of system calls, or of a sender whose peer does not read: the protocol is in [`preloop_smc::back`], the reasons are in
//! `docs/design/back.md`.
//!
//! - [`ask`]: before a call that wants it. The asker holds both of the connection's locks while it waits, so that no thread
//!   or sibling of it reads or writes meanwhile, and a sibling that finds their owner dead knows what to put right.
//! - [`urgent`]: what this end sends changes back alone, for which nobody is asked.
//! - [`answer`]: at whatever call the peer makes next, or sleeps in: wherever it looks for bytes (`rx::settle`).
//! - [`stall`]: a sender gives its own direction up, whose ring is full and goes unread.
//!
//! A direction that is TCP's again says BACK in `Sock::tx_state` or `Sock::rx_state`. With both the connection is one that
//! stays on TCP ([`finish`]). Locks are taken in the order rx, tx; none of a set's, so that a look for epoll can answer.

pub mod answer;
pub mod ask;
mod other_end;
pub mod stall;
pub mod urgent;

use crate::log;
use crate::process;
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::sock::{Sock, flag, phase, rx_state, tx_state};
use crate::socket::tx;
use preloop_smc::back::{self, Request};
use preloop_sys::{Fd, call};
use preloop_uapi::decline::Decline;
use preloop_uapi::ring::shut;
use preloop_uapi::sync::Ordering;

/// Which end of a connection it is that changes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The one that wants it.
    Asker,
    /// The other one.
    Peer,
}

/// A process that filters its system calls makes none that it did not make before; a mux counts positions in the stream.
fn may_change_back(file: &OpenFile) -> bool {
    !process::is_filtered()
        && !process::is_uncounted()
        && !file.is_attached()
        && !file.sock.has(flag::STAYS | flag::BROKEN)
}

/// Nothing goes into the ring any more: what the program sends goes to the kernel. A FIN that was held back goes now. Under
/// the tx lock.
fn send_over_tcp(sock: &Sock, link: &Link, fd: Fd) {
    sock.tx_state.store(tx_state::BACK, Ordering::Release);
    let mark = &link.own().tx.shut;
    if mark.load(Ordering::Relaxed) == shut::FIN_HELD {
        mark.store(shut::FIN_SENT, Ordering::Release);
        let _ = call::shutdown(fd, libc::SHUT_WR);
    }
}

/// This end's direction changes back alone, for which nobody need be asked: what lies in the ring ends at a mark. Under the tx
/// lock.
fn give_direction_back(sock: &Sock, link: &Link, fd: Fd) {
    back::mark(&link.own().tx);
    send_over_tcp(sock, link, fd);
}

/// The owner of the tx lock died: perhaps it had set its mark, behind which nothing may go into the ring. Under the tx lock.
pub fn repair_mark(file: &OpenFile, link: &Link) {
    if file.sock.tx_state.load(Ordering::Acquire) != tx_state::BACK && back::is_marked(&link.own().tx) {
        send_over_tcp(file.sock, link, file.fd());
        link.notify();
        link.notify_own();
    }
}

/// This end's request was granted: it goes on with TCP in both directions. Under both locks.
fn complete(file: &OpenFile, link: &Link, fd: Fd) {
    let sock = file.sock;
    sock.rx_state.store(rx_state::BACK, Ordering::Release);
    // Unless it has answered the peer, too: then what was unread there is on TCP.
    if sock.tx_state.load(Ordering::Relaxed) != tx_state::BACK {
        give_direction_back(sock, link, fd);
    }
    finish(file, link, fd, End::Asker);
    link.notify();
}

/// With both directions back the connection stays on TCP. Under the rx lock. Whoever waits at this end is told.
pub fn finish(file: &OpenFile, link: &Link, fd: Fd, end: End) {
    let sock = file.sock;
    let tx_is_back = match sock.tx_state.load(Ordering::Acquire) {
        tx_state::BACK => true,
        // It was shut down before it ever moved.
        tx_state::KERNEL => sock.has(flag::TX_SHUT),
        _ => false,
    };
    if tx_is_back && sock.rx_state.load(Ordering::Acquire) == rx_state::BACK && sock.phase() == phase::SMC {
        if sock.has(flag::RX_SHUT) {
            let _ = call::shutdown(fd, libc::SHUT_RD);
        }
        sock.listing.group.store(0, Ordering::Relaxed);
        let why = match end {
            End::Asker => Decline::OPTION,
            // Either end gave its direction up, and what it sent before may be unread.
            End::Peer if back::is_marked(&link.own().tx) => Decline::MEMORY,
            End::Peer => {
                // The asker has left its ring before.
                link.give_back_rings();
                sock.listing.peer_decline.store(Decline::OPTION.0, Ordering::Relaxed);
                Decline::PEER_DECLINED
            }
        };
        sock.decline(why);
        log::debug(format_args!("connection {:#x} is back on TCP", sock.listing.cookie.load(Ordering::Relaxed)));
    }
    link.notify_own();
}

/// The owner of the rx lock died: if it was asking, nobody waits for the answer; if it was answering, somebody does, and whoever
/// takes the tx lock next finishes. Under the rx lock.
pub fn repair(file: &OpenFile, link: &Link) {
    drop(tx::lock(file));
    let word = &link.own().rx;
    match back::request(word) {
        Request::Refused => back::acknowledge(word),
        Request::Asked if back::withdraw(word) => {}
        Request::None => {}
        _ => {
            let _held = tx::lock(file);
            complete(file, link, file.fd());
        }
    }
}
