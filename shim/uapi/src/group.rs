//! The memory of a link group: everything that two processes share about the connections between them.
//!
//! ```text
//! GroupHeader | SideControl[2] | ConnBlock[CONNS] | rings: conn 0 to side 0, conn 0 to side 1, conn 1 to side 0 ...
//! ```
//! Side 0 is the process that made the group (the passive one at first contact), side 1 the other.

use crate::ring::{RxLine, TxLine};
use crate::sync::{AtomicU32, AtomicU64};

/// First eight bytes of every group: SMC's own eyecatcher, in EBCDIC, and the layout's number.
pub const EYECATCHER: u64 = u64::from_be_bytes([0xe2, 0xd4, 0xc3, 0xc4, 0, 0, 0, 2]);
/// Connections in one group.
pub const CONNS: usize = 512;
/// Waiters (epoll sets, sleeping threads) of one side.
pub const WAITERS: usize = 1024;
/// Words of a ready bitmap.
pub const READY_WORDS: usize = CONNS / 64;
/// Smallest ring of one direction, in bytes.
pub const RING_MIN: u64 = 16 << 10;
/// Largest ring of one direction, in bytes.
pub const RING_MAX: u64 = 64 << 20;

/// `ConnBlock::word`: the one decision that both sides take together, by compare-exchange.
pub mod confirm {
    /// The passive side offers the block.
    pub const ACCEPTED: u32 = 1;
    /// The active side took it: the connection is SMC-D.
    pub const CONFIRMED: u32 = 2;
    /// The passive side took its offer back: the connection is TCP.
    pub const WITHDRAWN: u32 = 3;

    /// The word's value: the use of the block it speaks of, and the outcome. A late answer to an earlier use of the
    /// block finds another value and changes nothing.
    pub const fn word(generation: u32, outcome: u32) -> u32 {
        generation << 2 | outcome
    }
}

/// The start of a group. Read once, checked, never trusted again.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct GroupHeader {
    /// [`EYECATCHER`].
    pub eyecatcher: AtomicU64,
    /// Bytes of the whole memory.
    pub total: AtomicU64,
    /// Bytes of each ring whose receiver is side 0 and side 1; a power of two.
    pub ring: [AtomicU64; 2],
}

/// One waiter of a side, stored by that side: an epoll set or a sleeping thread and the name of its bell.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct WaiterSlot {
    /// Odd while the waiter sleeps; every sleep has a number of its own.
    pub sleep_seq: AtomicU64,
    /// The bell's random name; 0 means no bell.
    pub bell: [AtomicU64; 2],
    /// Process whose waiter it is, for siblings to take note of its death; 0 where its number means nothing to them.
    pub owner: AtomicU32,
}

/// What a waiter's peer tells it: which connections have news, and which sleep was rung already.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct ReadyBits {
    /// Bit w set: word w may have bits.
    pub summary: AtomicU64,
    /// `sleep_seq` of the last sleep that was rung.
    pub rung: AtomicU64,
    /// A bit per connection of the group.
    pub words: [AtomicU64; READY_WORDS],
}

/// The waiters of one side, in pages of their own.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct SideControl {
    /// Stored by this side.
    pub waiters: [WaiterSlot; WAITERS],
    /// Stored by the other side, taken by this one.
    pub ready: [ReadyBits; WAITERS],
    /// Waiters beyond this number were never entered. Stored by this side.
    pub high_water: AtomicU32,
}

/// One end of a connection, stored by its own side.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct EndLines {
    /// Cursors of what this end sends.
    pub tx: TxLine,
    /// Cursor of what this end receives.
    pub rx: RxLine,
    /// Who is to hear of news at this end.
    pub wait: WaitLine,
}

/// Who waits at one end.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct WaitLine {
    /// Four waiters, see [`waiter`].
    pub waiters: AtomicU64,
    /// 1 once the last holder closed the socket.
    pub closed: AtomicU32,
    /// 1 once this end will not touch the block again.
    pub released: AtomicU32,
}

/// The 16-bit entries of `WaitLine::waiters`.
pub mod waiter {
    /// No waiter.
    pub const NONE: u16 = 0;
    /// More waiters than entries: tell every waiter of the side.
    pub const ALL: u16 = 0x7fff;
    /// Set when the waiter is an epoll set, which wants ready bits beside the bell.
    pub const WANTS_READY: u16 = 0x8000;
    /// Entries in the word.
    pub const ENTRIES: usize = 4;
}

/// One connection: two ends and the word that decides between them.
#[repr(C, align(512))]
#[derive(Debug, Default)]
pub struct ConnBlock {
    /// The two ends, by side.
    pub ends: [EndLines; 2],
    /// See [`confirm`]; changed by compare-exchange only.
    pub word: AtomicU32,
    /// Counts the uses of this block, so that late comers know their offer is gone.
    pub generation: AtomicU32,
}

/// Byte offset of the control area of `side`.
pub const fn side_offset(side: usize) -> usize {
    4096 + side * size_of::<SideControl>()
}

/// Byte offset of block `conn`.
pub const fn conn_offset(conn: usize) -> usize {
    side_offset(2) + conn * size_of::<ConnBlock>()
}

/// Byte offset of the ring of `conn` whose receiver is `side`; `ring` as in the header.
pub const fn ring_offset(conn: usize, side: usize, ring: [u64; 2]) -> usize {
    let pair = (ring[0] + ring[1]) as usize;
    conn_offset(CONNS) + conn * pair + if side == 0 { 0 } else { ring[0] as usize }
}

/// Bytes of a group with rings of these sizes.
pub const fn total_bytes(ring: [u64; 2]) -> usize {
    ring_offset(CONNS, 0, ring)
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<GroupHeader>() == 64);
    assert!(size_of::<WaiterSlot>() == 64);
    assert!(size_of::<ReadyBits>() == 128);
    assert!(size_of::<EndLines>() == 192);
    assert!(size_of::<SideControl>() == 49 * 4096);
    assert!(size_of::<ConnBlock>() == 512);
    assert!(conn_offset(0).is_multiple_of(4096));
    assert!(conn_offset(CONNS).is_multiple_of(4096));
};
