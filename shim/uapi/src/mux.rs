//! The memory of a KCM multiplexor (mux): one memfd, which forked siblings share and `kcmss` reads.
//!
//! | offset | what |
//! |---|---|
//! | 0 | [`MuxHeader`] |
//! | [`STATE_OFFSET`] | the state: `preloop_kcm::MuxState` |
//! | [`REGIONS_OFFSET`] | 256 regions of psocks, 256 of received messages, 256 of messages to be sent, of [`REGION_BYTES`] each |
//! | [`HELD_OFFSET`] | messages without a receiver: [`HELD_BYTES`] |
//!
//! It is address space; pages are taken as they are used.

use crate::sync::{AtomicU32, AtomicU64};

/// Name of the memfd.
pub const MUX_NAME: &str = "preloop-kcm";
/// [`MuxHeader::magic`]: the last byte is the version of the layout.
pub const MUX_MAGIC: u64 = u64::from_le_bytes(*b"PRELKCM\x04");
/// Places for sockets of each kind.
pub const PLACES: usize = 256;
/// Where the state begins.
pub const STATE_OFFSET: usize = 16 << 10;
/// Where the regions begin.
pub const REGIONS_OFFSET: usize = 144 << 10;
/// Bytes of a region: the longest message, and a little more.
pub const REGION_BYTES: usize = 4 << 20;
/// Where held messages begin.
pub const HELD_OFFSET: usize = REGIONS_OFFSET + 3 * PLACES * REGION_BYTES;
/// Bytes for held messages: as many as all regions of received ones.
pub const HELD_BYTES: usize = PLACES * REGION_BYTES;
/// Bytes of it all.
pub const MUX_BYTES: usize = HELD_OFFSET + HELD_BYTES;

/// What is known of a csock beside its state.
#[repr(C)]
#[derive(Debug)]
pub struct CsockEntry {
    /// How often the place was taken: tells a socket from the one before it.
    pub generation: AtomicU32,
    /// Tokens sent to its descriptor and not taken off since; see `socket::kcm`.
    pub tokens: AtomicU32,
    /// Whether some epoll set waits for edges of it.
    pub edges: AtomicU32,
    /// Calls asleep until its messages are flushed.
    pub senders: AtomicU32,
}

/// What is known of a psock beside its state.
#[repr(C)]
#[derive(Debug)]
pub struct PsockEntry {
    /// SO_COOKIE of its TCP socket; 0 for none.
    pub cookie: AtomicU64,
    /// Inode of its TCP socket, as `/proc/net/tcp` has it.
    pub inode: AtomicU64,
    /// How often the place was taken.
    pub generation: AtomicU32,
    /// The TCP socket's state as errors were posted for it last: `tcpi_state`, and POLLHUP and POLLRDHUP 8 bits higher.
    pub seen: AtomicU32,
    /// Errors posted on the TCP socket, as the socket counts them: tells one from the one before it.
    pub posts: AtomicU32,
    /// The last of them.
    pub error: AtomicU32,
}

/// The start of the memory.
#[repr(C)]
#[derive(Debug)]
pub struct MuxHeader {
    /// [`MUX_MAGIC`], stored last.
    pub magic: AtomicU64,
    /// Its name on this host: random bits.
    pub id: AtomicU64,
    /// When the mux was made: CLOCK_MONOTONIC nanoseconds.
    pub made_at: AtomicU64,
    /// Process that made it.
    pub pid: AtomicU32,
    /// Whether a process that had it has forked.
    pub shared: AtomicU32,
    /// Whether one of its sockets may be under way to somebody.
    pub passed: AtomicU32,
    /// Counts changes of who belongs to it.
    pub members: AtomicU32,
    /// Whether the lock's owner died, and nobody has repaired the state since.
    pub needs_repair: AtomicU32,
    #[doc(hidden)]
    pub _unused: AtomicU32,
    /// The library of who made it, by device and inode of its file: others may have another state, or other connections.
    pub library: [AtomicU64; 2],
    /// When all processes that share it look for assembly time-outs, in nanoseconds of CLOCK_MONOTONIC; 0 for never.
    pub looks_at: AtomicU64,
    /// Room for a lock (`pthread_mutex_t`).
    pub lock: [AtomicU64; 8],
    /// Whose calls sleep until messages are flushed: a process and a csock (see `socket::kcm::senders`), or 0.
    pub senders: [AtomicU64; 32],
    /// Csocks, by bits, whose messages were flushed by a process that cannot tell of it: one that has their end does.
    pub untold: [AtomicU64; PLACES / 64],
    /// By index of the csock.
    pub csocks: [CsockEntry; PLACES],
    /// By index of the psock.
    pub psocks: [PsockEntry; PLACES],
}

// The atomics of loom are larger.
#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<MuxHeader>() <= STATE_OFFSET);
    assert!(REGIONS_OFFSET.is_multiple_of(4096) && STATE_OFFSET.is_multiple_of(4096));
};
