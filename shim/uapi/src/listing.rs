//! What a preloaded process shows of its TCP sockets, for `smcss`: an arena of fixed slots in a shared mapping named
//! [`ARENA_NAME`], which the tool finds in `/proc/PID/maps` and reads with `process_vm_readv`.

use crate::sync::{AtomicI32, AtomicU32, AtomicU64};

/// Name of the arena's memfd; `/proc/PID/maps` shows it as `/memfd:preloop-sockets (deleted)`.
pub const ARENA_NAME: &str = "preloop-sockets";
/// First eight bytes of the arena.
pub const ARENA_MAGIC: u64 = u64::from_be_bytes(*b"PRELOOP1");
/// Bytes of one slot. Its first bytes are a [`Listing`]; the rest is the library's own.
pub const SLOT_BYTES: usize = 1024;
/// Slots of one arena.
pub const SLOTS: usize = 65536;
/// Byte offset of slot 0.
pub const SLOTS_OFFSET: usize = 16384;

/// The start of an arena.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct ArenaHeader {
    /// [`ARENA_MAGIC`].
    pub magic: AtomicU64,
    /// Process that made the arena.
    pub pid: AtomicU32,
    /// Slots beyond this were never used.
    pub high_water: AtomicU32,
    /// Bit per slot, set while it is in use.
    pub used: [AtomicU64; SLOTS / 64],
}

/// `Listing::kind`.
pub mod kind {
    /// Slot not in use.
    pub const FREE: u32 = 0;
    /// A socket neither connected nor listening (`INIT`).
    pub const INIT: u32 = 1;
    /// A listening socket (`LISTEN`).
    pub const LISTEN: u32 = 2;
    /// A connection.
    pub const CONNECTION: u32 = 3;
    /// No socket: bookkeeping of a link group.
    pub const GROUP: u32 = 4;
}

/// `Listing::mode`.
pub mod mode {
    /// Runs on TCP; nothing decided yet.
    pub const UNDECIDED: u32 = 0;
    /// Stays on TCP, `Listing::decline` says why.
    pub const TCP: u32 = 1;
    /// Confirmed: each direction is, or is about to be, in shared memory.
    pub const SMCD: u32 = 2;
}

/// One TCP socket of a preloaded process. Every field is stored by the library and may change while it is read.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Listing {
    /// See [`kind`].
    pub kind: AtomicU32,
    /// See [`mode`].
    pub mode: AtomicU32,
    /// This end's decline code, or 0.
    pub decline: AtomicU32,
    /// The peer's decline code, or 0.
    pub peer_decline: AtomicU32,
    /// Process that stored `fd`.
    pub pid: AtomicU32,
    /// A descriptor of the socket in that process.
    pub fd: AtomicI32,
    /// The kernel's SO_COOKIE of the socket, or 0 before the handshake.
    pub cookie: AtomicU64,
    /// Address of the group's memory in that process (see [`crate::group`]), or 0.
    pub group: AtomicU64,
    /// Index of the connection in the group.
    pub conn: AtomicU32,
    /// Which side of the group this end is.
    pub side: AtomicU32,
    /// Ring bytes of what this end sends and receives.
    pub ring: [AtomicU64; 2],
    /// Random name of the link group.
    pub token: AtomicU64,
    /// Index of this slot in its arena.
    pub slot: AtomicU32,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<ArenaHeader>() <= SLOTS_OFFSET);
    assert!(size_of::<Listing>() == 128);
};
