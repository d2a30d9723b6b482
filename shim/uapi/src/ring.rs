//! The cursor lines of one ring: one line per writer, so that no two processes ever store to the same cache line.
//!
//! Cursors are stream positions: 64-bit counts that only grow. A byte at position `p` lies at `p % size` of the ring.

use crate::sync::{AtomicU32, AtomicU64};

/// `TxLine::shut`: what shutdown(2) did to a direction, and with it what a FIN of its sender means.
pub mod shut {
    /// Nothing: a FIN is a close.
    pub const OPEN: u32 = 0;
    /// The direction is shut down, and a FIN says no more than that.
    pub const FIN_SENT: u32 = 1;
    /// Both directions are shut down: after a FIN nobody reads any more.
    pub const BOTH: u32 = 2;
    /// The direction is shut down, and its FIN is held back until the end: a FIN is a close.
    pub const FIN_HELD: u32 = 3;
}

/// `RxLine::back`: whether the receiver wants what the sender sends over TCP again. The receiver asks and withdraws, the
/// sender answers, by compare-exchange.
pub mod back {
    /// Nothing of the kind.
    pub const NONE: u32 = 0;
    /// The receiver asks for it, and reads no more meanwhile.
    pub const ASKED: u32 = 1;
    /// The sender does it: the receiver reads the ring no more.
    pub const TAKEN: u32 = 2;
    /// The sender has done it: what was unread in the ring is on TCP.
    pub const DONE: u32 = 3;
    /// The sender does not do it.
    pub const REFUSED: u32 = 4;
}

/// Stored by the sender of a direction, read by its receiver.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct TxLine {
    /// Bytes published so far (SMC's producer cursor).
    pub prod: AtomicU64,
    /// Where the newest run of bytes begins: a sender that finds the ring empty skips to its physical start, so the
    /// receiver jumps to `start` when that lies ahead of its own cursor.
    pub start: AtomicU64,
    /// 0 while the direction runs on TCP; afterwards N + 1, N being the count of stream bytes that went over TCP.
    pub switch_at: AtomicU64,
    /// Raised by the sender before it waits for space; the receiver takes it down when it wakes the sender.
    pub want_space: AtomicU32,
    /// See [`shut`].
    pub shut: AtomicU32,
    /// Processor the sender last ran on, plus one; 0 is unknown.
    pub cpu: AtomicU32,
    /// 1 once the sender publishes no more: what follows the ring's bytes comes over TCP.
    pub back: AtomicU32,
}

/// Stored by the receiver of a direction, read by its sender.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct RxLine {
    /// Bytes taken so far (SMC's consumer cursor).
    pub cons: AtomicU64,
    /// Processor the receiver last ran on, plus one; 0 is unknown.
    pub cpu: AtomicU32,
    /// See [`back`]; the one word here that the sender stores, too, once.
    pub back: AtomicU32,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<TxLine>() == 64);
    assert!(size_of::<RxLine>() == 64);
};
