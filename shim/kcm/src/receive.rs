//! Receiving from one csock's queue.
//!
//! Reference: `kcm_recvmsg` and `kcm_rfree` in net/kcm/kcmsock.c. Unlike there, what a short read leaves of a
//! SOCK_SEQPACKET message comes with the next one.
//!
//! | read | SOCK_DGRAM | SOCK_SEQPACKET |
//! |---|---|---|
//! | the whole message, or all that is left of it | EOR | EOR |
//! | less | EOR and TRUNC, the rest is dropped | no flag, the rest stays |
//! | nothing (a length of 0) | EOR and TRUNC, the message is dropped | no flag |
//! | MSG_PEEK, of any length | no flag, it stays | no flag, it stays |
//! | into a bad address | the message is lost | the message is lost |
//!
//! MSG_TRUNC, MSG_WAITALL and all others do nothing. `read` of length 0 never comes here.

use crate::direct::Sink;
use crate::errno::{EAGAIN, Errno};
use crate::id::CsockId;
use crate::mux::{Csock, Kind, MuxState};
use crate::outside::{Region, Regions};

/// MSG_PEEK.
pub const MSG_PEEK: i32 = 0x2;
/// MSG_TRUNC: in what was received, that a message was cut short.
pub const MSG_TRUNC: i32 = 0x20;
/// MSG_EOR: in what was received, that the message is finished.
pub const MSG_EOR: i32 = 0x80;

/// What one call received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// Bytes.
    pub len: usize,
    /// MSG_EOR, MSG_TRUNC.
    pub flags: i32,
    /// The name of the connection that the message came from ([`MuxState::attach`]); 0 when that is not known, or the csock
    /// has no addresses ([`MuxState::set_addresses`]).
    pub connection: u64,
}

impl Received {
    /// What comes of a message with `left` bytes for a buffer of `want`, and whether it is finished then.
    pub(crate) fn of(kind: Kind, left: usize, want: usize) -> (Self, bool) {
        let (len, finished, flags) = match kind {
            _ if want >= left => (left, true, MSG_EOR),
            Kind::Dgram => (want, true, MSG_EOR | MSG_TRUNC),
            Kind::SeqPacket => (want, false, 0),
        };
        (Self { len, flags, connection: 0 }, finished)
    }
}

impl Csock {
    /// What it is told of a message of this connection.
    pub(crate) fn told(&self, connection: u64) -> u64 {
        if self.addresses { connection } else { 0 }
    }

    /// As [`MuxState::receive`], from its region.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        want: usize,
        flags: i32,
        region: &mut [u8],
        copy: impl FnOnce(&[u8], Received) -> Result<(), Errno>,
    ) -> Result<Received, Errno> {
        let head = self.rx.head(region).ok_or(EAGAIN)?;
        let (mut received, finished) = Received::of(self.kind, head.bytes.len(), want);
        received.connection = self.told(head.tag.connection);
        let peeks = flags & MSG_PEEK != 0;
        if peeks {
            received.flags = 0;
        }
        let copied = copy(&region[head.bytes.start..head.bytes.start + received.len], received);
        if peeks {
            return copied.map(|()| received);
        }
        if copied.is_ok() {
            self.stats.rx_bytes += received.len as u64;
            self.stats.rx_msgs += u64::from(finished);
        }
        if finished || copied.is_err() {
            self.rx.pop(region);
        } else {
            self.rx.shorten(region, received.len);
        }
        copied.map(|()| received)
    }
}

impl MuxState {
    /// Receives what a csock has, as long as there are buffers for it; with MSG_PEEK the next message alone.
    pub fn receive_into<M: Regions, S: Sink>(&mut self, csock: CsockId, flags: i32, memory: &mut M, sink: &mut S) {
        while let Some(want) = sink.room() {
            let received = self.receive(csock, want, flags, memory, |bytes, received| sink.put(bytes, received));
            if received == Err(EAGAIN) || flags & MSG_PEEK != 0 {
                return;
            }
        }
    }

    /// Receives the next message, or `want` bytes of it. `copy` puts them where they belong; if it fails the message is
    /// lost, as in the kernel, and its error is the answer. EAGAIN when there is no message.
    pub fn receive<M: Regions>(
        &mut self,
        csock: CsockId,
        want: usize,
        flags: i32,
        memory: &mut M,
        copy: impl FnOnce(&[u8], Received) -> Result<(), Errno>,
    ) -> Result<Received, Errno> {
        let state = &mut self.csocks[csock.index()];
        let before = state.rx.messages;
        let received = state.receive(want, flags, memory.region(Region::Received(csock)), copy);
        if state.rx.messages < before {
            self.note_if_empty(csock);
            self.refill_if_low(csock, memory);
        }
        received
    }

    /// Messages that a csock has.
    pub fn messages(&self, csock: CsockId) -> u32 {
        self.csocks[csock.index()].rx.messages
    }

    /// A csock that was full takes more once less than SO_RCVLOWAT is left in it.
    pub(crate) fn refill_if_low<M: Regions>(&mut self, csock: CsockId, memory: &mut M) {
        let state = &self.csocks[csock.index()];
        if state.rx.charge < u64::from(state.low_water) {
            self.refill(csock, memory);
        }
    }
}
