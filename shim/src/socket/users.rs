//! Which processes share a socket: so that one that was killed, and could not count itself out, is counted out by others.
//!
//! Whoever is not listed, for want of room or because its number means nothing to the others, is taken to be alive.
//!
//! A message under way that carries the socket (SCM_RIGHTS) is a user like a process. It has no number, but a lock on a byte
//! of the arena's file, which goes with the message's descriptors: see [`Stake`].

use crate::process;
use crate::socket::sock::{PLACES, Sock};
use preloop_shm::arena;
use preloop_sys::unix::Inner;
use preloop_sys::{call, clock, process as system, record};
use preloop_uapi::listing::kind;
use preloop_uapi::sync::{AtomicU32, Ordering};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Mark of a process that counts among the users no longer as a holder.
const ENDED: u32 = 1 << 31;

/// Mark of a message under way; what follows is a random number.
const MESSAGE: u32 = 1 << 30;

/// This process, or one that it descends from, was forked into a pid namespace of its own: its number is another there.
static IS_FOREIGN: AtomicBool = AtomicBool::new(false);

/// Whether its number is another one for those it shares sockets with.
pub fn is_foreign() -> bool {
    IS_FOREIGN.load(Relaxed)
}

/// In a forked child.
pub fn after_fork() {
    if system::parent_is_elsewhere() {
        IS_FOREIGN.store(true, Relaxed);
    }
}

/// This process as its siblings know it, or 0.
pub fn own_number() -> u32 {
    if is_foreign() { 0 } else { process::pid() }
}

/// Whether a process that gave this number is known to be gone.
pub fn is_dead(number: u32) -> bool {
    number != 0 && number != process::pid() && !is_foreign() && !process::is_confined() && !system::exists(number)
}

/// This process uses the socket.
pub fn enlist(sock: &'static Sock) {
    enlist_child(sock, process::pid());
}

/// A child of that number uses it; `false` when there is no room to say so.
pub fn enlist_child(sock: &'static Sock, pid: u32) -> bool {
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

/// The place of a message under way among the users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    index: usize,
    mark: u32,
}

/// A message that is listed, and the descriptor that it has to carry to be taken to be alive.
#[derive(Debug)]
pub struct Stake {
    /// Where it is listed.
    pub place: Place,
    /// See the module's text.
    pub lock: Inner,
}

fn byte(slot: u32, index: usize) -> i64 {
    i64::from(slot) * PLACES as i64 + index as i64
}

/// Lists a message that is about to be sent; `None` when there is no room, or no /proc.
pub fn list_message(sock: &'static Sock) -> Option<Stake> {
    count_out_the_dead(sock);
    let arena = arena::place_of(sock)?;
    let lock = Inner::from_raw(call::reopen(arena.memfd, libc::O_RDWR | libc::O_CLOEXEC).ok()?);
    let mark = MESSAGE | (system::random() as u32 & (MESSAGE - 1));
    let take = |index: &usize| {
        let (place, byte) = (&sock.pids[*index], byte(arena.slot, *index));
        // Locked before it is listed: nobody finds it dead.
        if place.load(Ordering::Acquire) != 0 || !record::lock(lock.fd(), byte) {
            return false;
        }
        let taken = place.compare_exchange(0, mark, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !taken {
            record::unlock(lock.fd(), byte);
        }
        taken
    };
    let index = (0..PLACES).find(take)?;
    Some(Stake { place: Place { index, mark }, lock })
}

/// The message has come here, or with `false` nowhere: its place is this process's, or free.
pub fn unlist_message(sock: &Sock, place: Place, came: bool) {
    if let Some(listed) = sock.pids.get(place.index) {
        let next = if came { process::pid() } else { 0 };
        let _ = listed.compare_exchange(place.mark, next, Ordering::AcqRel, Ordering::Relaxed);
    }
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
pub fn count_out_the_dead(sock: &'static Sock) -> CountedOut {
    let mut out = CountedOut::default();
    if is_foreign() || process::is_confined() {
        return out;
    }
    for (index, place) in sock.pids.iter().enumerate() {
        let found = place.load(Ordering::Acquire);
        if found == 0 || is_alive(sock, index, found) {
            continue;
        }
        if place.compare_exchange(found, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            out.last_holder |= found & ENDED == 0 && sock.holders.fetch_sub(1, Ordering::AcqRel) == 1;
            out.last_user |= sock.users.fetch_sub(1, Ordering::AcqRel) == 1;
        }
    }
    out
}

/// Whether what is listed in a place exists.
fn is_alive(sock: &'static Sock, index: usize, found: u32) -> bool {
    if found & MESSAGE != 0 {
        return arena::place_of(sock).is_none_or(|arena| !record::is_free(arena.memfd, byte(arena.slot, index)));
    }
    let pid = found & !ENDED;
    pid == process::pid() || system::exists(pid)
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

#[cfg(test)]
mod tests {
    use super::{count_out_the_dead, list_message, unlist_message};
    use crate::process;
    use crate::socket::sock::Sock;
    use preloop_uapi::sync::Ordering::Relaxed;

    fn holders(sock: &'static Sock) -> u32 {
        count_out_the_dead(sock);
        sock.holders.load(Relaxed)
    }

    #[test]
    fn a_message_lives_as_long_as_its_lock() {
        process::renew();
        let sock: &'static Sock = process::take_slot().unwrap();
        sock.holders.store(3, Relaxed);
        sock.users.store(3, Relaxed);
        let [dropped, received] = [(); 2].map(|()| list_message(sock).unwrap());
        assert_ne!(dropped.place, received.place);
        assert_eq!(holders(sock), 3);
        drop(dropped);
        assert_eq!(holders(sock), 2);
        // Claimed first: then nobody misses the lock.
        unlist_message(sock, received.place, true);
        drop(received.lock);
        assert_eq!(holders(sock), 2);
        assert_eq!(sock.users.load(Relaxed), 2);
    }
}
