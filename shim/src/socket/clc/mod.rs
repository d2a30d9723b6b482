//! The handshake (CLC), one step at a call of the program's: no thread, no daemon, and no call ever waits for it.
//!
//! ```text
//! active (called connect)                       passive (called accept)
//! -----------------------                       -----------------------
//! ELIGIBLE                                      ELIGIBLE
//! propose: a mailbox named by the 4-tuple
//!   and its own cookie            PROPOSED
//!                                               look: sock_diag tells the cookie; connect to that name;
//!                                                 send Accept and the group's memory       OFFERED
//! look into the mailbox: check who offers,
//!   map, ACCEPTED -> CONFIRMED    SMC
//!                                               see CONFIRMED                              SMC
//! ```
//! The word in shared memory alone decides. Who gives up first (a fork, a close, an option that shared memory cannot
//! carry) compare-exchanges it to WITHDRAWN, or is too late and goes on through shared memory.

mod active;
mod passive;

use crate::log;
use crate::process;
use crate::socket::file::{OpenFile, Watcher};
use crate::socket::sock::{Sock, flag, phase};
use crate::socket::users;
use crate::{stats, streams};
use passive::withdraw;
use preloop_shm::lock::Held;
use preloop_sys::{Fd, addr, clock, sleep};
use preloop_uapi::decline::Decline;
use preloop_uapi::listing::mode;
use preloop_uapi::sync::{Ordering, fence};
use std::sync::Arc;

/// One step, before a call sends or receives on a connection that has not moved.
pub fn step(file: &OpenFile, fd: Fd, sends: bool) {
    let sock = file.sock;
    if sock.has(flag::UNCOUNTED) {
        // A process that does not count leaves the rest to those that do.
        if !process::is_uncounted() {
            pin(file, Decline::OPTION);
        }
        return;
    }
    let alone = || sock.holders.load(Ordering::Acquire) == 1;
    if !alone() {
        let (sent, received) = calls(sock);
        if (sent + received).is_power_of_two() {
            users::count_out_the_dead(sock);
        }
        return;
    }
    if streams::may_use(file) {
        return;
    }
    // Another thread is at it: this call need not wait.
    let Some(held) = sock.handshake.try_lock() else { return };
    under_lock(file, held, |owner_died| {
        if owner_died {
            return if withdraw(file) { give_up(file, Decline::INTERNAL) } else { established(file) };
        }
        // A fork that began meanwhile has counted its child before it put the handshake off.
        if !alone() {
            return;
        }
        // Who accepted it may have left it to a child.
        sock.listing.pid.store(process::pid(), Ordering::Relaxed);
        sock.listing.fd.store(fd, Ordering::Relaxed);
        match (sock.phase(), file.is_active()) {
            (phase::ELIGIBLE | phase::PROPOSED, _) if process::is_confined() => give_up(file, Decline::CONFIGURATION),
            (phase::ELIGIBLE, true) => active::propose(file, fd, sends),
            (phase::PROPOSED, _) => active::look_into_mailbox(file, fd),
            (phase::ELIGIBLE, false) => passive::look_for_proposal(file, fd, sends),
            (phase::OFFERED, _) => passive::look_at_offer(file),
            _ => {}
        }
    });
}

/// Does something to the handshake, and afterwards, without the lock, what follows for those who wait. Whoever sleeps on T
/// alone must be in the waiters of the memory before it is used. And memory whose offer was withdrawn goes once nobody of
/// this process is among its waiters, for its block is used again.
fn under_lock<R>(file: &OpenFile, held: Held<'_>, act: impl FnOnce(bool) -> R) -> R {
    let before = file.prepared();
    let result = act(held.owner_died);
    drop(held);
    let after = file.prepared();
    let same = before.as_ref().map(Arc::as_ptr) == after.as_ref().map(Arc::as_ptr);
    if !same {
        tell_watchers(file);
    }
    if let Some(withdrawn) = before.filter(|_| !same) {
        withdrawn.leave(true);
    }
    result
}

fn calls(sock: &Sock) -> (u32, u32) {
    (sock.sends.load(Ordering::Relaxed), sock.receives.load(Ordering::Relaxed))
}

/// Nanoseconds that the peer has had so far.
fn age(sock: &Sock) -> u64 {
    clock::now().saturating_sub(sock.began_at.load(Ordering::Relaxed))
}

/// Both ends of a connection: this one, and the peer's.
pub fn addresses(fd: Fd) -> Option<(core::net::SocketAddr, core::net::SocketAddr)> {
    Some((addr::local(fd)?, addr::peer(fd)?))
}

/// Looks whether the peer confirmed meanwhile. (Nobody need be told: who waits has been in the waiters of the memory since
/// the offer.) Sets are locked when it is called, so nothing under this lock may lock a set.
pub fn notice(file: &OpenFile) {
    let is_confirmed =
        || file.sock.phase() == phase::OFFERED && file.prepared().is_some_and(|link| link.is_confirmed());
    if is_confirmed() {
        let _held = file.sock.handshake.lock();
        if is_confirmed() {
            established(file);
        }
    }
}

/// Whether the connection runs through shared memory, be it that this end has yet to notice: for calls that take no
/// step of the handshake themselves.
pub fn has_moved(file: &OpenFile) -> bool {
    notice(file);
    file.sock.phase() == phase::SMC
}

fn established(file: &OpenFile) {
    let sock = file.sock;
    let Some(link) = file.prepared() else { return };
    link.group.is_met();
    sock.sender.reset();
    sock.receiver.reset();
    let listing = &sock.listing;
    listing.group.store(link.group.address(), Ordering::Relaxed);
    listing.conn.store(link.conn as u32, Ordering::Relaxed);
    listing.side.store(link.side() as u32, Ordering::Relaxed);
    listing.ring[0].store(link.tx_ring().size(), Ordering::Relaxed);
    listing.ring[1].store(link.rx_ring().size(), Ordering::Relaxed);
    listing.token.store(link.group.token, Ordering::Relaxed);
    listing.mode.store(mode::SMCD, Ordering::Relaxed);
    file.confirm();
    sock.phase.store(phase::SMC, Ordering::Release);
    stats::agreed(sock);
    hang_up(file);
    log::debug(format_args!("connection {:#x} runs on SMC-D", listing.cookie.load(Ordering::Relaxed)));
}

fn hang_up(file: &OpenFile) {
    process::disown(file.mailbox.swap(-1, Ordering::Relaxed));
    process::disown(file.clc.swap(-1, Ordering::Relaxed));
}

/// Wakes threads and sets of this process that wait for the connection: it has memory to be watched now.
pub fn tell_watchers(file: &OpenFile) {
    for watcher in file.watchers_now() {
        match watcher {
            Watcher::Thread(bell) => bell.ring(),
            Watcher::Set(set, entry) => set.reconsider(entry),
        }
    }
}

/// Stays TCP for good. Under the handshake's lock.
fn give_up(file: &OpenFile, why: Decline) {
    hang_up(file);
    file.sock.decline(why);
    log::debug(format_args!("connection stays on TCP: {:08x}", why.0));
}

/// Something happens that shared memory cannot carry: the connection is pinned to TCP. `false` when it has moved
/// already, and the caller's wish cannot be fulfilled.
pub fn pin(file: &OpenFile, why: Decline) -> bool {
    under_lock(file, file.sock.handshake.lock(), |_| match file.sock.phase() {
        phase::SMC => false,
        phase::TCP => true,
        phase::OFFERED if !withdraw(file) => {
            established(file);
            false
        }
        _ => {
            give_up(file, why);
            true
        }
    })
}

/// A process that does not count among the holders is about to have the connection: it stays on TCP, unless it has moved by
/// now; the next step makes an end of the handshake. Good for signal handlers: no lock is taken, nothing allocated or freed.
pub fn forgo(file: &OpenFile) {
    /// Nanoseconds between two looks at a step that another thread takes.
    const A_MOMENT: u64 = 20_000;
    let sock = file.sock;
    sock.raise(flag::UNCOUNTED);
    fence(Ordering::SeqCst);
    // A step that began before may be about to take an offer, or to make one.
    while sock.handshake.is_held_elsewhere() {
        sleep::quietly(-1, 0, clock::now() + A_MOMENT);
    }
    if sock.phase() == phase::OFFERED {
        file.stop_offer();
    }
}

/// Before fork: a handshake that is under way is put off until one process holds the connection again.
pub fn put_off(file: &OpenFile) {
    if matches!(file.sock.phase(), phase::SMC | phase::TCP) {
        return;
    }
    under_lock(file, file.sock.handshake.lock(), |_| {
        match file.sock.phase() {
            phase::PROPOSED => {}
            phase::OFFERED if withdraw(file) => {}
            phase::OFFERED => return established(file),
            _ => return,
        }
        hang_up(file);
        file.sock.answers.store(0, Ordering::Relaxed);
        file.sock.phase.store(phase::ELIGIBLE, Ordering::Release);
    });
}
