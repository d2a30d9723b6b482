//! The state of a mux, and what is left to do outside.
//!
//! Reference: `struct kcm_mux`, `struct kcm_sock`, `struct kcm_psock` in include/net/kcm.h.

use zerocopy::TryFromBytes;

use crate::buffer::Buffer;
use crate::errno::Errno;
use crate::id::{CsockId, PLACES, PsockId, Set};
use crate::list::Fifo;
use crate::loan::Lent;
use crate::queue::Queue;
use crate::stats::{CsockStats, MuxStats, PsockStats};
use crate::strparser::Strparser;
use crate::transit::{Dealing, Writing};

/// The type of a KCM socket.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, TryFromBytes)]
pub enum Kind {
    /// SOCK_DGRAM.
    Dgram = 0,
    /// SOCK_SEQPACKET.
    SeqPacket = 1,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug, TryFromBytes)]
pub(crate) struct Csock {
    /// Received messages; each is charged with what it would occupy in the kernel.
    pub(crate) rx: Queue,
    /// Finished messages to be sent, each charged with its length, and behind them the open one.
    pub(crate) tx: Queue,
    pub(crate) stats: CsockStats,
    pub(crate) receive_buffer: u32,
    pub(crate) low_water: u32,
    pub(crate) send_buffer: u32,
    /// Calls asleep until there is a message.
    pub(crate) sleepers: u32,
    /// The connection that the open message is to go to; 0 for any.
    pub(crate) open_to: u64,
    /// Bytes of the open message.
    pub(crate) open_len: u32,
    /// Bytes of the first message to be sent that the reserved psock has taken.
    pub(crate) sent: u32,
    /// Messages that a write under way was given.
    pub(crate) writing: u16,
    /// The reserved psock's index plus one; 0 for none.
    pub(crate) tx_psock: u16,
    /// Index plus one of the psock that it waits for, while it is one of [`MuxState::senders`]; 0 for any.
    pub(crate) wants: u16,
    pub(crate) kind: Kind,
    /// Whether a message is open.
    pub(crate) open: bool,
    pub(crate) disabled: bool,
    /// Finished messages are held back for a flush.
    pub(crate) wait_more: bool,
    /// Its messages say which connection they came from.
    pub(crate) addresses: bool,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug, TryFromBytes)]
pub(crate) struct Psock {
    /// What was taken from TCP and no csock has: a part of a message, or the one that waits. In the middle of
    /// [`MuxState::pull`] what was peeked as well.
    pub(crate) buffer: Buffer,
    pub(crate) strp: Strparser,
    /// What was peeked and is being dealt out.
    pub(crate) dealing: Dealing,
    /// The write under way.
    pub(crate) writing: Writing,
    /// Up to where TCP's stream was taken, and written.
    pub(crate) taken: u64,
    pub(crate) given: u64,
    pub(crate) stats: PsockStats,
    /// What the mux's counts have of these.
    pub(crate) saved: CsockStats,
    /// What its connection is called; 0 for nothing.
    pub(crate) name: u64,
    /// Length of the message at the buffer's start that was cut and waits for a csock; 0 for none.
    pub(crate) ready: u32,
    /// The error posted on the TCP socket; 0 for none.
    pub(crate) posted: Errno,
    /// Bytes of a message, on the average of those cut in its last batch; 0 before the first.
    pub(crate) mean: u32,
    /// Index plus one of the csock that has it reserved; 0 for none.
    pub(crate) tx_csock: u16,
    /// Never sent on again.
    pub(crate) tx_stopped: bool,
    /// Its TCP socket was full.
    pub(crate) stalled: bool,
    /// Its stream ended, in order or not.
    pub(crate) ended: bool,
}

pub(crate) const CSOCK: Csock = Csock {
    rx: Queue::EMPTY,
    tx: Queue::EMPTY,
    stats: CsockStats { rx_msgs: 0, rx_bytes: 0, tx_msgs: 0, tx_bytes: 0 },
    receive_buffer: 0,
    low_water: 0,
    send_buffer: 0,
    sleepers: 0,
    open_to: 0,
    open_len: 0,
    sent: 0,
    writing: 0,
    tx_psock: 0,
    wants: 0,
    kind: Kind::Dgram,
    open: false,
    disabled: false,
    wait_more: false,
    addresses: false,
};

pub(crate) const NO_COUNTS: PsockStats = PsockStats {
    rx_msgs: 0,
    rx_bytes: 0,
    tx_msgs: 0,
    tx_bytes: 0,
    reserved: 0,
    unreserved: 0,
    rx_intr: 0,
    rx_unrecov_intr: 0,
    rx_need_more: 0,
    rx_bad_len: 0,
    rx_too_big: 0,
    rx_timeouts: 0,
    tx_aborts: 0,
};

pub(crate) const PSOCK: Psock = Psock {
    buffer: Buffer::EMPTY,
    strp: Strparser::NEW,
    dealing: Dealing::NONE,
    writing: Writing::NONE,
    taken: 0,
    given: 0,
    stats: NO_COUNTS,
    saved: CSOCK.stats,
    name: 0,
    ready: 0,
    posted: 0,
    mean: 0,
    tx_csock: 0,
    tx_stopped: false,
    stalled: false,
    ended: false,
};

/// What operations left for the caller to do. It is kept in the state until it is taken, so that it is not lost with a
/// process that dies before it does it: whoever has the lock next does.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, TryFromBytes)]
pub struct Work {
    /// Csocks that got a batch, and have messages: send each a token.
    pub gained: Set<CsockId>,
    /// Csocks that have no messages any more: take all tokens off.
    pub emptied: Set<CsockId>,
    /// Csocks whose messages were flushed, or tried to be: an edge of EPOLLOUT, and news for a sender that sleeps.
    pub flushed: Set<CsockId>,
    /// Psocks that have an error posted.
    pub posted: Set<PsockId>,
    /// Psocks whose TCP socket was full: call [`MuxState::writable`] when it is not, or has failed.
    pub stalled: Set<PsockId>,
    /// Psocks that can go on: call [`MuxState::pull`], whether there are bytes in TCP or not.
    pub resumed: Set<PsockId>,
}

impl Work {
    const NONE: Self = Self {
        gained: Set::EMPTY,
        emptied: Set::EMPTY,
        flushed: Set::EMPTY,
        posted: Set::EMPTY,
        stalled: Set::EMPTY,
        resumed: Set::EMPTY,
    };
}

/// One multiplexor. See the crate's documentation.
#[repr(C)]
#[derive(Clone, Debug, TryFromBytes)]
pub struct MuxState {
    pub(crate) csocks: [Csock; PLACES],
    pub(crate) psocks: [Psock; PLACES],
    pub(crate) open: Set<CsockId>,
    pub(crate) attached: Set<PsockId>,
    /// Csocks that have messages.
    pub(crate) holding: Set<CsockId>,
    /// Csocks on which calls sleep.
    pub(crate) sleeping: Set<CsockId>,
    /// Csocks with room that wait for a batch: `kcm_rx_waiters`.
    pub(crate) receivers: Fifo<CsockId>,
    /// Csocks that wait for a psock to send on: `kcm_tx_waiters`.
    pub(crate) senders: Fifo<CsockId>,
    /// Psocks that wait with a message for a csock: `psocks_ready`.
    pub(crate) ready: Fifo<PsockId>,
    /// Psocks free to send on: `psocks_avail`.
    pub(crate) available: Fifo<PsockId>,
    /// Messages that no csock has room for: `rx_hold_queue`.
    pub(crate) held: Queue,
    /// Psocks whose last batch left something, of which TCP does not tell again.
    pub(crate) unread: Set<PsockId>,
    /// What calls have borrowed.
    pub(crate) lent: Lent,
    /// Csocks that can go on sending.
    pub(crate) to_write: Set<CsockId>,
    pub(crate) work: Work,
    pub(crate) stats: MuxStats,
    /// Counts of psocks that are gone.
    pub(crate) gone: PsockStats,
    /// Messages are queued with the names of their connections: some csock has wanted to know.
    pub(crate) named: bool,
}

const _: () = {
    assert!(size_of::<Csock>() == 128);
    assert!(size_of::<Psock>() == 312);
    assert!(size_of::<MuxState>() == 117616);
};

impl Default for MuxState {
    fn default() -> Self {
        Self::NEW
    }
}

impl MuxState {
    /// A mux without sockets: all zeros.
    pub const NEW: Self = Self {
        csocks: [CSOCK; PLACES],
        psocks: [PSOCK; PLACES],
        open: Set::EMPTY,
        attached: Set::EMPTY,
        holding: Set::EMPTY,
        sleeping: Set::EMPTY,
        receivers: Fifo::EMPTY,
        senders: Fifo::EMPTY,
        ready: Fifo::EMPTY,
        available: Fifo::EMPTY,
        held: Queue::EMPTY,
        unread: Set::EMPTY,
        lent: Lent::NONE,
        to_write: Set::EMPTY,
        work: Work::NONE,
        stats: MuxStats {
            rx_msgs: 0,
            rx_bytes: 0,
            tx_msgs: 0,
            tx_bytes: 0,
            tx_retries: 0,
            attach: 0,
            unattach: 0,
            unattach_rsvd: 0,
            rx_ready_drops: 0,
        },
        gone: NO_COUNTS,
        named: false,
    };

    /// The state that stands in `bytes`, as many as it has: a copy of another process's. Whatever they are, what only looks
    /// at it ([`MuxState::show`], [`MuxState::statistics`] and their like) ends, does not panic, and shows nonsense at
    /// worst; nothing else may be called.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::try_read_from_bytes(bytes).ok()
    }

    /// Whether there is anything to do: cheaper than to take it.
    pub fn has_work(&self) -> bool {
        let Work { gained, emptied, flushed, posted, stalled, resumed } = &self.work;
        let csocks = gained.is_empty() && emptied.is_empty() && flushed.is_empty();
        !(csocks && posted.is_empty() && stalled.is_empty() && resumed.is_empty())
    }

    /// Takes what there is to do.
    pub fn take_work(&mut self) -> Work {
        core::mem::replace(&mut self.work, Work::NONE)
    }

    /// Takes [`Work::resumed`] alone, for a call that has buffers for what is pulled.
    pub fn take_resumed(&mut self) -> Set<PsockId> {
        core::mem::replace(&mut self.work.resumed, Set::EMPTY)
    }
}

#[cfg(test)]
mod tests;
