//! A TCP socket as forked siblings share it: everything that belongs to the open file description and not to one
//! process. It lives in the arena from the socket's birth; no peer has this memory.

use crate::stats;
use preloop_shm::lock::RobustLock;
use preloop_smc::ring::{Receiver, Sender};
use preloop_uapi::decline::Decline;
use preloop_uapi::listing::{Listing, mode};
use preloop_uapi::sync::{AtomicU32, AtomicU64, Ordering};

/// `Sock::phase`: where the connection stands.
pub mod phase {
    /// Not connected.
    pub const INIT: u32 = 0;
    /// On TCP, may be moved.
    pub const ELIGIBLE: u32 = 1;
    /// Active side: a mailbox waits for an Accept.
    pub const PROPOSED: u32 = 2;
    /// Passive side: an Accept was sent.
    pub const OFFERED: u32 = 3;
    /// Confirmed by both: each direction moves at its sender's next call.
    pub const SMC: u32 = 4;
    /// Stays on TCP for good.
    pub const TCP: u32 = 5;
}

/// `Sock::flags`.
pub mod flag {
    /// O_NONBLOCK is set.
    pub const NONBLOCK: u32 = 1;
    /// The program connected this socket (else it accepted it).
    pub const ACTIVE: u32 = 2;
    /// This end shut its sending direction down.
    pub const TX_SHUT: u32 = 4;
    /// This end shut its receiving direction down.
    pub const RX_SHUT: u32 = 8;
    /// The kernel showed the peer's FIN.
    pub const FIN: u32 = 16;
    /// The kernel has an error to tell (RST, time-out).
    pub const ERROR: u32 = 32;
    /// The peer vanished with our bytes unread: a read said ECONNRESET, which it does once.
    pub const RESET_TOLD: u32 = 64;
    /// Something was sent since the last receive, while the proposal stood.
    pub const ASKED: u32 = 256;
    /// SO_RCVTIMEO was set to less than no time: calls do not wait. The kernel shows it as no limit.
    pub const RX_AT_ONCE: u32 = 1024;
    /// SO_SNDTIMEO was.
    pub const TX_AT_ONCE: u32 = 2048;
    /// The program opened it as AF_SMC.
    pub const AF_SMC: u32 = 512;
    /// The peer stored something impossible: the connection is aborted.
    pub const BROKEN: u32 = 128;
    /// A KCM mux has, or had, it after it moved: it does not change back.
    pub const STAYS: u32 = 4096;
    /// A process that does not count among the holders may have it: it does not move any more.
    pub const UNCOUNTED: u32 = 8192;
}

/// `Sock::rx_state`: where the next byte to read lies.
pub mod rx_state {
    /// In the kernel's socket; the peer still sends there.
    pub const KERNEL: u32 = 0;
    /// In the kernel's socket, `kernel_left` bytes more; then in the ring.
    pub const DRAINING: u32 = 1;
    /// In the kernel's socket until it is empty (its FIN or a reset came); then in the ring, if the kernel's socket had
    /// all of the `kernel_left` bytes that ever went over TCP.
    pub const DRAINING_TO_END: u32 = 2;
    /// In the ring.
    pub const RING: u32 = 3;
    /// In the kernel's socket, for good: the direction has changed back.
    pub const BACK: u32 = 4;
}

/// `Sock::tx_state`: where the next byte to send goes.
pub mod tx_state {
    /// To the kernel's socket.
    pub const KERNEL: u32 = 0;
    /// A sender is about to move the direction: nobody enters the kernel's write.
    pub const MOVING: u32 = 1;
    /// Into the ring.
    pub const RING: u32 = 2;
    /// To the kernel's socket, for good: the direction has changed back.
    pub const BACK: u32 = 3;
}

/// Users of a socket that can be listed.
pub const PLACES: usize = 8;

preloop_shm::slot! {
/// See the module's text.
pub struct Sock {
    /// What `smcss` reads.
    pub listing: Listing,
    /// See [`phase`]; changed under `handshake`.
    pub phase: AtomicU32,
    /// See [`flag`].
    pub flags: AtomicU32,
    /// Processes that hold a descriptor of this socket.
    pub holders: AtomicU32,
    /// Processes that use this slot: those that hold a descriptor, or have a call under way.
    pub users: AtomicU32,
    /// Who they are, as far as there is room: see [`crate::socket::users`].
    pub pids: [AtomicU32; PLACES],
    /// Calls that sent something, before the connection moved.
    pub sends: AtomicU32,
    /// Calls that received something, before the connection moved.
    pub receives: AtomicU32,
    /// `sends + receives` when the handshake began.
    pub began: AtomicU32,
    /// When the connection began, or with the proposal the handshake: nanoseconds of the monotonic clock.
    pub began_at: AtomicU64,
    /// Answers (a receive after a send) since the proposal.
    pub answers: AtomicU32,
    /// Looks that the passive side took for a proposal.
    pub looks: AtomicU32,
    /// The handshake, one step at a time.
    pub handshake: RobustLock,
    /// Calls that are inside a kernel write to the socket now.
    pub kernel_writers: AtomicU32,
    /// See [`tx_state`].
    pub tx_state: AtomicU32,
    /// Times that this end found it could not move the direction.
    pub move_failures: AtomicU32,
    /// The sending direction: `sender`, `tx_state`. Taken through [`crate::socket::tx::lock`].
    pub tx: RobustLock,
    /// Truth of the ring cursor of what this end sends.
    pub sender: Sender,
    /// While unread bytes are put into the kernel's socket: how far it was written before, plus one; or `u64::MAX` where
    /// there are none. With `tx`, as what follows.
    pub residue_from: AtomicU64,
    /// Where the peer stood, plus one, when the ring was last found full; see [`crate::socket::back::stall`].
    pub stalled_at: AtomicU64,
    /// Since when it stands there, in nanoseconds of the monotonic clock.
    pub stalled_since: AtomicU64,
    /// SO_LINGER as the program left it, which says "reset" meanwhile; see [`crate::socket::back`].
    pub linger: AtomicU64,
    /// The receiving direction: `receiver`, `rx_state`, `kernel_left`; and `unlisted`. Taken through
    /// [`crate::socket::rx::lock`].
    pub rx: RobustLock,
    /// Truth of the ring cursor of what this end receives.
    pub receiver: Receiver,
    /// See [`rx_state`].
    pub rx_state: AtomicU32,
    /// While draining: bytes still to come through the kernel's socket, or all that ever should (see [`rx_state`]).
    pub kernel_left: AtomicU64,
    /// An error that the kernel told while the ring still had bytes, or 0.
    pub kept_error: AtomicU32,
    /// SO_RCVLOWAT, or 0 for the default of 1.
    pub low_water: AtomicU32,
    /// Waiters for whom the list in shared memory has no room.
    pub unlisted: AtomicU32,
    /// When the kernel's socket was last looked at, in nanoseconds of the monotonic clock.
    pub looked_at: AtomicU64,
    /// When a peer whose end may be stuck was last looked for; see [`crate::socket::stuck`].
    pub sought_at: AtomicU64,
    /// The error that KCM posted on it and that no call has told yet, or 0; see [`crate::socket::kcm::lower`].
    pub posted: AtomicU32,
    /// How often KCM posted one.
    pub posts: AtomicU32,
}
}

impl Sock {
    /// Whether any of `flags` is up.
    #[inline]
    pub fn has(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Acquire) & flags != 0
    }

    /// Raises flags; answers whether all were up before.
    pub fn raise(&self, flags: u32) -> bool {
        self.flags.fetch_or(flags, Ordering::AcqRel) & flags == flags
    }

    /// Takes flags down; answers whether any was up.
    pub fn lower(&self, flags: u32) -> bool {
        self.flags.fetch_and(!flags, Ordering::AcqRel) & flags != 0
    }

    /// Raises or lowers a flag.
    pub fn put(&self, flag: u32, up: bool) {
        if up {
            self.raise(flag)
        } else {
            self.lower(flag)
        };
    }

    /// Where the connection stands.
    #[inline]
    pub fn phase(&self) -> u32 {
        self.phase.load(Ordering::Acquire)
    }

    /// Stays on TCP for good, for this reason.
    pub fn decline(&self, why: Decline) {
        self.listing.decline.store(why.0, Ordering::Relaxed);
        self.listing.mode.store(mode::TCP, Ordering::Relaxed);
        self.phase.store(phase::TCP, Ordering::Release);
        stats::stays(self, why);
    }

    /// Whether what this end sends goes into the ring.
    #[inline]
    pub fn tx_in_ring(&self) -> bool {
        self.tx_state.load(Ordering::Acquire) == tx_state::RING
    }

    /// Whether a direction has changed back to the kernel's socket.
    #[inline]
    pub fn has_changed_back(&self) -> bool {
        self.tx_state.load(Ordering::Acquire) == tx_state::BACK
            || self.rx_state.load(Ordering::Acquire) == rx_state::BACK
    }

    /// Whether the kernel's socket still has bytes of a direction that has moved.
    pub fn rx_is_draining(&self) -> bool {
        matches!(self.rx_state.load(Ordering::Acquire), rx_state::DRAINING | rx_state::DRAINING_TO_END)
    }

    /// Whether the next byte to read lies in the ring.
    #[inline]
    pub fn rx_in_ring(&self) -> bool {
        self.rx_state.load(Ordering::Acquire) == rx_state::RING
    }
}
