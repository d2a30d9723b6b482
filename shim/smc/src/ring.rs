//! One direction of a connection: a byte ring between one sender and one receiver.
//!
//! RFC 7609 (and `net/smc/smc_tx.c`, `smc_rx.c`, `smc_cdc.h`) has each end send its cursors to the other in CDC
//! messages. Here the cursors themselves are shared: the sender stores [`TxLine::prod`] and [`TxLine::start`], the
//! receiver stores [`RxLine::cons`]. A cursor is a position, not an offset: it only grows, and position `p` is byte
//! `p % size` of the ring, `size` being a power of two. (SMC's wrap count and offset say the same in two fields.)
//!
//! ```text
//!            cons          prod                      prod: bytes before it may be read   (Release / Acquire)
//!   ----------|xxxxxxxxxxxxx|-------------           cons: bytes before it may be reused (Release / Acquire)
//! ```
//!
//! # Runs
//! A sender that finds the ring empty skips to the ring's physical start, so that request and response stay in a few
//! hot pages however large the ring is. Positions between the old `prod` and the new one carry no bytes. `start` says
//! where the newest *run* begins. Publishing stores `start` first, then `prod`; looking loads `prod` first, then
//! `start`. Let the receiver stand at `c` and load `p`, then `s`. Why those three are enough:
//!
//! 1. `s` is not older than `p`: `start` was stored before the Release store that the Acquire load of `p` saw. So bytes
//!    of a new run are never taken for bytes of the old one.
//! 2. `s` may be newer than `p`. A run begins only when the sender loaded (Acquire) a `cons` equal to the last `prod`
//!    `q` that it published; only this receiver stores `cons`, and it had loaded `q` before. Therefore `c == q`; `p >= q`
//!    as loads of one variable never go back, and `p <= q` as `p` is older than the run. So `c == p`, and `s > p`, as
//!    a run begins at the first multiple of `size` above `q`: **`s > p` means that nothing new is visible yet.**
//! 3. Otherwise `s <= p` belongs to `p`. With `s <= c` the receiver is inside the run: bytes `c..p`. With `s > c` it
//!    stands at the end of the run before, whose bytes it has all taken: it jumps, bytes `s..p`.
//!
//! The sender tells the same three apart by `cons`: one that still stands where it stood when the run began has not
//! jumped yet and counts as `start`; every other one must lie in `start..=prod`.
//!
//! # Waiting for space
//! [`Sender::request_space`] raises [`TxLine::want_space`] (SMC's `write_blocked` / `cons_curs_upd_req`) and looks again
//! at `cons`; the receiver stores `cons` and then looks at the flag, both with a SeqCst fence in between. So one of the
//! two sees the other.
//!
//! # Trust
//! Each call loads a cursor of the peer once and checks it against private state. An impossible one is [`Broken`]; a
//! possible lie costs the liar its own stream and nothing else. Spans always lie inside the ring.

use core::cmp::max;

use preloop_uapi::ring::{RxLine, TxLine};
use preloop_uapi::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// A sender begins no more runs from this position on: skipping costs up to `size` per message, and cursors must not
/// wrap in the lifetime of a connection (64 MiB rings would take days, not centuries).
const LAST_RUN: u64 = 1 << 62;

/// The peer's cursor is impossible: abort the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// Up to two pieces of a ring: (byte offset in the ring, bytes). The second is used only when the first is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The piece that comes first in the stream.
    pub first: (usize, usize),
    /// The rest, which begins at the ring's start.
    pub second: (usize, usize),
}

impl Span {
    /// `n <= size` bytes from position `at`.
    fn new(at: u64, n: u64, size: u64) -> Self {
        if n == 0 {
            return Self::default();
        }
        let offset = at & (size - 1);
        let first = n.min(size - offset);
        Self { first: (offset as usize, first as usize), second: (0, (n - first) as usize) }
    }

    /// Bytes of both pieces.
    pub fn len(&self) -> usize {
        self.first.1 + self.second.1
    }

    /// No bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces in stream order; a piece may have no bytes.
    pub fn pieces(&self) -> [(usize, usize); 2] {
        [self.first, self.second]
    }

    /// What follows the first `n` bytes of it.
    pub fn skip(self, n: usize) -> Self {
        let first = self.first.1.min(n);
        let second = self.second.1.min(n - first);
        Self {
            first: (self.first.0 + first, self.first.1 - first),
            second: (self.second.0 + second, self.second.1 - second),
        }
    }

    /// The first `n` bytes of it, or all of it.
    pub fn take(self, n: usize) -> Self {
        let first = self.first.1.min(n);
        let second = self.second.1.min(n - first);
        Self { first: (self.first.0, first), second: (self.second.0, second) }
    }
}

/// Free bytes from which a sender counts as writable: what poll reports, and what a waiting sender is woken for. A
/// quarter, so that a sender is not woken once per byte.
fn threshold(size: u64) -> u64 {
    max(size / 4, 1)
}

/// How many positions before a cursor were skipped: two notes, of which that one holds whose run began last of those that
/// the cursor has reached. So the count is right whenever the cursor is, also when who was about to skip has died.
#[repr(C)]
#[derive(Debug, Default)]
struct Skips([Note; 2]);

#[repr(C)]
#[derive(Debug, Default)]
struct Note {
    /// Where a run begins.
    start: AtomicU64,
    /// Positions skipped up to there.
    skipped: AtomicU64,
}

impl Skips {
    fn reset(&self) {
        for note in &self.0 {
            note.start.store(0, Relaxed);
            note.skipped.store(0, Relaxed);
        }
    }

    /// Which note holds.
    fn holding(&self, cursor: u64) -> usize {
        let [first, second] = [0, 1].map(|note| self.0[note].start.load(Relaxed));
        usize::from(second <= cursor && (second > first || first > cursor))
    }

    /// Positions skipped before the cursor.
    fn before(&self, cursor: u64) -> u64 {
        self.0[self.holding(cursor)].skipped.load(Relaxed)
    }

    /// Notes that the cursor is about to skip, before it does.
    fn note(&self, cursor: u64, start: u64) {
        let skipped = self.before(cursor).wrapping_add(start - cursor);
        let spare = &self.0[1 - self.holding(cursor)];
        spare.skipped.store(skipped, Release);
        spare.start.store(start, Release);
    }
}

/// Sender's private state: the truth about its own cursor, of which the shared line is only the published copy.
///
/// Every method is called under the connection's tx lock.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Sender {
    prod: AtomicU64,
    start: AtomicU64,
    /// The peer's `cons` when it was last found possible.
    cons: AtomicU64,
    /// Positions skipped by beginning new runs.
    skips: Skips,
}

impl Sender {
    /// Back to the initial state, for the next connection of this slot.
    pub fn reset(&self) {
        for cursor in [&self.prod, &self.start, &self.cons] {
            cursor.store(0, Relaxed);
        }
        self.skips.reset();
    }

    /// Free space. Begins a new run when the ring is seen empty; the peer learns of it with the next [`publish`].
    ///
    /// # Errors
    /// [`Broken`] when the peer's cursor is impossible.
    ///
    /// [`publish`]: Self::publish
    pub fn space(&self, peer: &RxLine, size: u64) -> Result<Span, Broken> {
        debug_assert!(size.is_power_of_two());
        let unread = self.unread(peer)?;
        let mut prod = self.prod.load(Relaxed);
        if unread == 0 && prod & (size - 1) != 0 && prod < LAST_RUN {
            let run = (prod | (size - 1)) + 1;
            self.skips.note(prod, run);
            self.start.store(run, Release);
            self.prod.store(run, Release);
            prod = run;
        }
        Ok(Span::new(prod, size.saturating_sub(unread), size))
    }

    /// The first `n` bytes of the last [`space`](Self::space) are filled: shows them to the peer.
    pub fn publish(&self, line: &TxLine, n: usize) {
        if n == 0 {
            return; // `start` must not become visible alone: the receiver would see a run without bytes.
        }
        let prod = self.prod.load(Relaxed).wrapping_add(n as u64);
        self.prod.store(prod, Relaxed);
        line.start.store(self.start.load(Relaxed), Relaxed);
        line.prod.store(prod, Release);
    }

    /// Shows the peer what was published, once more: for a successor of a thread that died in [`publish`] or in
    /// [`space`], where it may have begun a run and not come to stand at its start.
    ///
    /// [`publish`]: Self::publish
    /// [`space`]: Self::space
    pub fn republish(&self, line: &TxLine) {
        self.prod.store(max(self.prod.load(Relaxed), self.start.load(Relaxed)), Relaxed);
        line.start.store(self.start.load(Relaxed), Relaxed);
        line.prod.store(self.prod.load(Relaxed), Release);
    }

    /// Bytes published and not yet taken by the peer.
    ///
    /// # Errors
    /// [`Broken`] when the peer's cursor is impossible.
    pub fn unread(&self, peer: &RxLine) -> Result<u64, Broken> {
        let (prod, start, seen) = (self.prod.load(Relaxed), self.start.load(Relaxed), self.cons.load(Relaxed));
        let cons = peer.cons.load(Acquire);
        let from = max(seen, start);
        if cons == seen {
            return Ok(prod - from);
        }
        if !(from..=prod).contains(&cons) {
            return Err(Broken);
        }
        self.cons.store(cons, Relaxed);
        Ok(prod - cons)
    }

    /// The bytes that the receiver has not taken, where they lie.
    ///
    /// # Errors
    /// [`Broken`] when the peer's cursor is impossible.
    pub fn untaken(&self, peer: &RxLine, size: u64) -> Result<Span, Broken> {
        let unread = self.unread(peer)?;
        Ok(Span::new(self.prod.load(Relaxed) - unread, unread, size))
    }

    /// Stream bytes sent through this ring; positions skipped do not count.
    pub fn sent(&self) -> u64 {
        let prod = self.prod.load(Relaxed);
        prod - self.skips.before(prod)
    }

    /// What poll calls writable: a quarter of the ring is free.
    ///
    /// # Errors
    /// [`Broken`] when the peer's cursor is impossible.
    pub fn writable(&self, peer: &RxLine, size: u64) -> Result<bool, Broken> {
        Ok(size.saturating_sub(self.unread(peer)?) >= threshold(size))
    }

    /// Asks to be woken for space: `Ok(true)` when there is enough already (the flag may stay raised, which costs one
    /// wake-up too many), `Ok(false)` when a wake-up will come. To sleep, be in the list of waiters and have declared
    /// the sleep ([`crate::bell`]) before the last look.
    ///
    /// # Errors
    /// [`Broken`] when the peer's cursor is impossible.
    pub fn request_space(&self, line: &TxLine, peer: &RxLine, size: u64) -> Result<bool, Broken> {
        // Release: who takes the flag down knows the `prod` that it was raised for. A swap, as the receiver's is: loom
        // does not know that a store cannot come between a swap and what that swap read.
        line.want_space.swap(1, Release);
        fence(SeqCst);
        self.writable(peer, size)
    }
}

/// Receiver's private state. Every method is called under the connection's rx lock.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Receiver {
    cons: AtomicU64,
    /// Positions skipped by jumping to new runs.
    skips: Skips,
}

impl Receiver {
    /// Back to the initial state, for the next connection of this slot.
    pub fn reset(&self) {
        self.cons.store(0, Relaxed);
        self.skips.reset();
    }

    /// Bytes that can be taken. Jumps to the newest run when it has begun; the peer learns of it with [`consume`].
    ///
    /// # Errors
    /// [`Broken`] when the peer's cursors are impossible.
    ///
    /// [`consume`]: Self::consume
    pub fn data(&self, peer: &TxLine, size: u64) -> Result<Span, Broken> {
        debug_assert!(size.is_power_of_two());
        let mut cons = self.cons.load(Relaxed);
        let prod = peer.prod.load(Acquire);
        let start = peer.start.load(Relaxed);
        if prod < cons || (start > prod && prod != cons) {
            return Err(Broken);
        }
        if start > cons && start <= prod {
            if start & (size - 1) != 0 || start - cons >= size {
                return Err(Broken); // No sender skips to anywhere but the next physical start.
            }
            self.skips.note(cons, start);
            self.cons.store(start, Release);
            cons = start;
        }
        let unread = prod - cons;
        if unread > size {
            return Err(Broken);
        }
        Ok(Span::new(cons, unread, size))
    }

    /// The first `n` bytes of the last [`data`](Self::data) are taken: gives their space back.
    pub fn consume(&self, line: &RxLine, n: usize) {
        let cons = self.cons.load(Relaxed).wrapping_add(n as u64);
        self.cons.store(cons, Relaxed);
        line.cons.store(cons, Release);
    }

    /// Shows the peer what was taken, once more: for a successor of a thread that died in [`consume`].
    ///
    /// [`consume`]: Self::consume
    pub fn republish(&self, line: &RxLine) {
        line.cons.store(self.cons.load(Relaxed), Release);
    }

    /// After [`consume`](Self::consume): true when the sender asked for space and there is enough; its flag is down
    /// then, and the caller wakes it.
    pub fn space_wanted(&self, peer: &TxLine, size: u64) -> bool {
        fence(SeqCst);
        if peer.want_space.load(Relaxed) == 0 || !self.roomy(peer, size) {
            return false;
        }
        // The `prod` looked at may be older than the flag: a sender that went on, filled the ring and asked again
        // must not lose its flag to that. The swap takes the newest flag, and with it the `prod` it was raised for.
        peer.want_space.swap(0, AcqRel);
        if self.roomy(peer, size) {
            return true;
        }
        peer.want_space.store(1, Relaxed);
        false
    }

    /// What [`Sender::writable`] will find. Cursors are not judged here; [`data`](Self::data) does that.
    fn roomy(&self, peer: &TxLine, size: u64) -> bool {
        let prod = peer.prod.load(Acquire);
        let from = max(self.cons.load(Relaxed), peer.start.load(Relaxed));
        size.saturating_sub(prod.saturating_sub(from)) >= threshold(size)
    }

    /// Whether there are bytes that were not taken, without jumping to them: for a process that is about to end.
    pub fn pending(&self, peer: &TxLine) -> bool {
        peer.prod.load(Acquire) != self.cons.load(Relaxed)
    }

    /// Stream bytes taken from this ring; positions skipped do not count.
    pub fn taken(&self) -> u64 {
        let cons = self.cons.load(Relaxed);
        cons.wrapping_sub(self.skips.before(cons))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
