//! Which processes share a socket: so that one that was killed, and could not count itself out, is counted out by others.
//!
//! Whoever is not listed, for want of room or because its number means nothing to the others, is taken to be alive.

use crate::process;
use crate::socket::sock::Sock;
use preloop_shm::arena;
use preloop_sys::{clock, process as system};
use preloop_uapi::listing::kind;
use preloop_uapi::sync::{AtomicU32, Ordering};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Mark of a process that counts among the users no longer as a holder.
const ENDED: u32 = 1 << 31;

/// This process, or one that it descends from, was forked into a pid namespace of its own: its number is another there.
static IS_FOREIGN: AtomicBool = AtomicBool::new(false);

fn is_foreign() -> bool {
    IS_FOREIGN.load(Relaxed)
}

/// In a forked child.
pub fn after_fork() {
    if system::parent_is_elsewhere() {
        IS_FOREIGN.store(true, Relaxed);
    }
}

/// This process uses the socket.
pub fn enlist(sock: &Sock) {
    enlist_child(sock, process::pid());
}

/// A child of that number uses it; `false` when there is no room to say so.
pub fn enlist_child(sock: &Sock, pid: u32) -> bool {
    let take = |place: &AtomicU32| place.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    let is_listed = || sock.pids.iter().any(|place| place.load(Ordering::Acquire) == pid);
    !is_foreign()
        && (is_listed() || sock.pids.iter().any(take) || {
            count_out_the_dead(sock);
            sock.pids.iter().any(take)
        })
}

/// This process holds the socket no more, and uses it still.
pub fn ends(sock: &Sock) {
    change(sock, process::pid(), process::pid() | ENDED);
}

/// This process uses the socket no more.
pub fn leaves(sock: &Sock) {
    change(sock, process::pid(), 0);
    change(sock, process::pid() | ENDED, 0);
}

fn change(sock: &Sock, from: u32, to: u32) -> bool {
    let change = |place: &AtomicU32| place.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    !is_foreign() && sock.pids.iter().any(change)
}

/// What counting out the dead led to.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountedOut {
    /// One of them was the last holder.
    pub last_holder: bool,
    /// One of them was the last user: the slot is the caller's to give back.
    pub last_user: bool,
}

/// Counts out whoever is listed and exists no more.
pub fn count_out_the_dead(sock: &Sock) -> CountedOut {
    let mut out = CountedOut::default();
    if is_foreign() || process::is_confined() {
        return out;
    }
    for place in &sock.pids {
        let found = place.load(Ordering::Acquire);
        let pid = found & !ENDED;
        if found == 0 || pid == process::pid() || system::exists(pid) {
            continue;
        }
        if place.compare_exchange(found, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            out.last_holder |= found & ENDED == 0 && sock.holders.fetch_sub(1, Ordering::AcqRel) == 1;
            out.last_user |= sock.users.fetch_sub(1, Ordering::AcqRel) == 1;
        }
    }
    out
}

/// When all slots were last gone through, in nanoseconds of the monotonic clock.
static RECLAIMED_AT: AtomicU64 = AtomicU64::new(0);
const RECLAIM_AGE: u64 = 1_000_000_000;

/// All slots are in use: those of killed processes alone are given back, unless that was done just now.
pub fn reclaim() {
    let now = clock::now();
    if now.saturating_sub(RECLAIMED_AT.swap(now, Relaxed)) < RECLAIM_AGE {
        return;
    }
    let is_socket = |found| matches!(found, kind::INIT | kind::LISTEN | kind::CONNECTION);
    process::ARENA.each(is_socket, |sock: &'static Sock| {
        if count_out_the_dead(sock).last_user {
            arena::give_back(sock);
        }
    });
}
