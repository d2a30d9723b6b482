//! Sleeping and ringing: how one side tells the other that a connection has news, and makes a system call for it only
//! when somebody sleeps. (`net/smc` has the kernel's wait queues here: `smc_rx_wait`, `smc_tx_wait`, `sk_data_ready`.)
//!
//! A *waiter* is an epoll set or a sleeping thread; it has a [`WaiterSlot`] of its own side's making and a bell. Each
//! end of a connection lists its waiters in [`WaitLine::waiters`]. The order of steps is the protocol:
//!
//! ```text
//! waiter                                         teller
//! ------                                         ------
//! add_waiter      (once; may stay listed)        store the news: a cursor, a mark
//! declare_sleep   (odd number, never used)       for each of waiters()       fence W, then the list
//! look again:     cursors, any_ready, take_ready     mark_ready              epoll sets only
//! sleep on bell and T, only if nothing                if must_ring()         fence R, then the sleep
//! declare_awake, empty the bell, look                     ring
//! ```
//!
//! `declare_sleep` ends with a SeqCst fence as well. Of two such fences one is first. If the waiter's is, the teller
//! sees the declaration and rings; if the teller's is, the waiter sees the news when it looks again. W does this for
//! the list, R for the sleep.
//!
//! One sleep is rung once: [`ReadyBits::rung`] holds the number of the last sleep that a teller took upon itself to
//! ring. Whoever finds the present number there does nothing, because the ring on its way ends this sleep, and no look
//! before the *next* sleep, which has another number, misses the news. Numbers are therefore never used twice in one
//! slot, also not by two bells that have it one after the other.
//!
//! The memory is the peer's too: bits, numbers and entries may be garbage. The worst that follows is a ring too many or
//! too few among the two, or a connection that is looked at for nothing.

use preloop_uapi::group::waiter::{ALL, ENTRIES, NONE, WANTS_READY};
use preloop_uapi::group::{CONNS, READY_WORDS, ReadyBits, WaitLine, WaiterSlot};
use preloop_uapi::sync::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// Notes that connection `conn` has news. Out of range is ignored.
///
/// The word's bit comes first, the summary's second; [`take_ready`] clears them the other way round. The bit is set by a
/// read-modify-write even when it is set already: it must be ordered with the taker's swap, so that either the taker
/// sees the news, or the bit is left for the next look. A load that finds it set may be older than that swap. The same
/// order makes the load of the summary good enough: a taker that missed the bit is seen to have taken the summary.
pub fn mark_ready(bits: &ReadyBits, conn: usize) {
    let Some(word) = bits.words.get(conn / 64) else { return };
    word.fetch_or(1 << (conn % 64), AcqRel);
    let summary = 1 << (conn / 64);
    if bits.summary.load(Relaxed) & summary == 0 {
        bits.summary.fetch_or(summary, AcqRel);
    }
}

/// Whether the caller must ring now: the waiter sleeps, and nobody has rung this sleep. True once per sleep (twice when
/// a teller is held up between two sleeps).
pub fn must_ring(slot: &WaiterSlot, bits: &ReadyBits) -> bool {
    fence(SeqCst);
    must_ring_unmarked(slot, bits)
}

/// [`must_ring`] without its fence, for a waiter that wants no ready bits: [`waiters`] has fenced already, and nothing
/// was stored since.
pub fn must_ring_unmarked(slot: &WaiterSlot, bits: &ReadyBits) -> bool {
    let seq = slot.sleep_seq.load(Acquire);
    // Loaded before it is swapped: tellers of a sleep that is already rung leave the cache line alone.
    seq & 1 == 1 && bits.rung.load(Acquire) != seq && bits.rung.swap(seq, AcqRel) != seq
}

/// The waiter is about to sleep. `seq` is odd and has never been used in this slot, by whatever bell. The caller looks
/// again afterwards.
pub fn declare_sleep(slot: &WaiterSlot, seq: u64) {
    debug_assert!(seq & 1 == 1);
    slot.sleep_seq.store(seq, Release);
    fence(SeqCst);
}

/// The waiter is awake: an even `seq`. When others still sleep on the same bell it is a new odd number instead, and the
/// caller then looks again on their behalf, or rings the bell that it emptied: news told since the last ring may have
/// found that sleep rung.
pub fn declare_awake(slot: &WaiterSlot, seq: u64) {
    slot.sleep_seq.store(seq, Release);
    if seq & 1 == 1 {
        fence(SeqCst);
    }
}

/// Whether [`take_ready`] might find something.
pub fn any_ready(bits: &ReadyBits) -> bool {
    bits.summary.load(Acquire) != 0
}

/// Takes every noted connection. A connection found may have no news; the caller looks. One taker at a time: a second
/// one would find the summary taken and the words not yet.
pub fn take_ready(bits: &ReadyBits, mut found: impl FnMut(usize)) {
    if !any_ready(bits) {
        return;
    }
    let summary = bits.summary.swap(0, AcqRel);
    for (index, word) in bits.words.iter().enumerate() {
        if summary & (1 << index) == 0 {
            continue;
        }
        let mut taken = word.swap(0, AcqRel);
        while taken != 0 {
            found(index * 64 + taken.trailing_zeros() as usize);
            taken &= taken - 1;
        }
    }
}

// `take_ready` promises indices below CONNS.
const _: () = assert!(READY_WORDS * 64 == CONNS && READY_WORDS <= 64);

/// What became of a waiter that was to be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// It is on the list now.
    New,
    /// It was there before.
    Already,
    /// There is no free entry. Nothing was changed.
    Full,
}

/// Lists a waiter at one end of a connection. The caller looks again afterwards, with a SeqCst fence in between
/// ([`declare_sleep`] has one).
pub fn add_waiter(line: &WaitLine, entry: u16) -> Listed {
    let mut listed = Listed::Already;
    change(line, |entries| {
        listed = if entry == NONE || entries.contains(&entry) {
            Listed::Already
        } else if let Some(free) = entries.iter_mut().find(|e| **e == NONE) {
            *free = entry;
            Listed::New
        } else {
            Listed::Full
        };
    });
    listed
}

/// [`add_waiter`] that cannot fail: where the list is full, the last entry says that every waiter of the side is to be
/// told. `unlisted` counts those who rely on that; it is private to the end, and a lock of the end's is held.
pub fn add_waiter_beyond(line: &WaitLine, unlisted: &AtomicU32, entry: u16) -> Listed {
    let listed = add_waiter(line, entry);
    if listed != Listed::Full {
        return listed;
    }
    let mut displaced = false;
    change(line, |entries| {
        displaced = ![NONE, ALL | WANTS_READY].contains(&entries[ENTRIES - 1]);
        entries[ENTRIES - 1] = ALL | WANTS_READY;
    });
    unlisted.fetch_add(1 + u32::from(displaced), Relaxed);
    Listed::New
}

/// A waiter leaves that [`remove_waiter`] did not find. With the last of them those on the list are told alone again.
/// The lock is held, as for [`add_waiter_beyond`].
pub fn remove_waiter_beyond(line: &WaitLine, unlisted: &AtomicU32) {
    let left = unlisted.load(Relaxed).saturating_sub(1);
    unlisted.store(left, Relaxed);
    if left == 0 {
        remove_waiter(line, ALL | WANTS_READY);
    }
}

/// Takes a waiter off the list; answers whether it was there.
pub fn remove_waiter(line: &WaitLine, entry: u16) -> bool {
    let mut found = false;
    change(line, |entries| {
        found = false;
        for e in entries.iter_mut().filter(|e| **e == entry) {
            *e = NONE;
            found = true;
        }
    });
    found
}

/// Who is to hear of news, after the news was stored: a SeqCst fence, then the list.
pub fn waiters(line: &WaitLine) -> impl Iterator<Item = u16> + use<> {
    fence(SeqCst);
    unpack(line.waiters.load(Acquire)).into_iter().filter(|e| *e != NONE)
}

fn unpack(word: u64) -> [u16; ENTRIES] {
    core::array::from_fn(|i| (word >> (16 * i)) as u16)
}

fn pack(entries: [u16; ENTRIES]) -> u64 {
    entries.iter().rev().fold(0, |word, e| word << 16 | u64::from(*e))
}

/// Compare-exchange until `edit` has been applied, or has changed nothing.
fn change(line: &WaitLine, mut edit: impl FnMut(&mut [u16; ENTRIES])) {
    let mut old = line.waiters.load(Acquire);
    loop {
        let mut entries = unpack(old);
        edit(&mut entries);
        let new = pack(entries);
        if new == old {
            return;
        }
        match line.waiters.compare_exchange_weak(old, new, AcqRel, Acquire) {
            Ok(_) => return,
            Err(seen) => old = seen,
        }
    }
}
