//! What lies in a mux's epoll set.

use libc::{EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP};
use preloop_kcm::id::{CsockId, PsockId};

/// What a psock's epoll entry waits for.
pub const EVENTS: u32 = (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) as u32;
/// What it waits for in the set of a pump that is not the only one: a FIN comes as EPOLLIN there.
pub const EXCLUSIVE: u32 = (EPOLLIN | EPOLLOUT | EPOLLET | EPOLLEXCLUSIVE) as u32;
/// Events that tell of a change of a TCP socket's state.
pub const CHANGES: u32 = (EPOLLRDHUP | EPOLLHUP | EPOLLERR) as u32;
/// What an entry of a mux's epoll set stands for, in the 64 bits that the kernel keeps for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A psock's TCP socket.
    Psock(PsockId),
    /// A csock's far end.
    FarEnd(CsockId),
    /// The mux's eventfd.
    Kick,
    /// The timer of assembly time-outs.
    Timer,
    /// The desk.
    Desk,
    /// The bell of connections that have moved to shared memory.
    Bell,
}

impl Source {
    /// As the kernel keeps it.
    pub fn to_bits(self) -> u64 {
        match self {
            Self::Psock(PsockId(n)) => u64::from(n),
            Self::FarEnd(CsockId(n)) => 1 << 8 | u64::from(n),
            Self::Kick => 2 << 8,
            Self::Timer => 3 << 8,
            Self::Desk => 4 << 8,
            Self::Bell => 5 << 8,
        }
    }

    /// What was kept.
    pub fn from_bits(bits: u64) -> Self {
        match (bits >> 8, bits as u8) {
            (0, n) => Self::Psock(PsockId(n)),
            (1, n) => Self::FarEnd(CsockId(n)),
            (2, _) => Self::Kick,
            (3, _) => Self::Timer,
            (4, _) => Self::Desk,
            _ => Self::Bell,
        }
    }
}
