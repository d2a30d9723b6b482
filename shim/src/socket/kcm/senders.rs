//! Calls that sleep in send(2) until messages of their csock are flushed. They are counted, so that each can be sent a packet,
//! and noted by process: a process that is killed asleep counts itself out no more. Packets for the dead would fill the far
//! end's queue, where nobody takes them off: then no edge of EPOLLOUT comes through any more, and the socket ends up not
//! writable.
//!
//! A note is a number: 0 for none, or the process and the csock. Calls beyond the room for notes are counted alone.

use super::mux::Mux;
use crate::process;
use preloop_kcm::id::CsockId;
use preloop_sys::process as system;
use preloop_uapi::sync::{AtomicU64, Ordering};

fn note(pid: u32, csock: CsockId) -> u64 {
    u64::from(pid) << 8 | u64::from(csock.0)
}

fn replace(place: &AtomicU64, from: u64, to: u64) -> bool {
    place.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// A call is about to sleep. Under the mux's lock.
pub fn falls_asleep(mux: &Mux, csock: CsockId) {
    mux.csock(csock).senders.fetch_add(1, Ordering::AcqRel);
    let own = note(process::pid(), csock);
    let _ = mux.header().senders.iter().any(|place| replace(place, 0, own));
}

/// It is awake.
pub fn woke(mux: &Mux, csock: CsockId) {
    let own = note(process::pid(), csock);
    let _ = mux.header().senders.iter().any(|place| replace(place, own, 0));
    mux.csock(csock).senders.fetch_sub(1, Ordering::AcqRel);
}

/// Counts out whoever was killed asleep. Under the mux's lock.
pub fn count_out_the_dead(mux: &Mux, csock: CsockId) {
    let count = &mux.csock(csock).senders;
    if count.load(Ordering::Relaxed) == 0 {
        return;
    }
    for place in &mux.header().senders {
        let found = place.load(Ordering::Acquire);
        let pid = (found >> 8) as u32;
        let is_its = found != 0 && found == note(pid, csock) && pid != process::pid();
        if is_its && !system::exists(pid) && replace(place, found, 0) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A csock begins: nobody sleeps there. Under the mux's lock.
pub fn begin(mux: &Mux, csock: CsockId) {
    mux.csock(csock).senders.store(0, Ordering::Relaxed);
    for place in &mux.header().senders {
        let found = place.load(Ordering::Relaxed);
        if found != 0 && found as u8 == csock.0 {
            place.store(0, Ordering::Relaxed);
        }
    }
}
