//! Making messages.
//!
//! Reference: `kcm_sendmsg` in net/kcm/kcmsock.c. A message is *open* until a call ends it: for SOCK_DGRAM any without
//! MSG_MORE, for SOCK_SEQPACKET one with MSG_EOR (write and writev set it). A call of no bytes ends an open one, and makes
//! none. What is finished is flushed, unless earlier messages are still under way, which will take it along, or MSG_BATCH
//! holds it back; the next finished one without MSG_BATCH flushes all.
//!
//! SO_SNDBUF is looked at only where a message begins: the bytes that are queued then, an open message's included. One
//! message may be larger, and an open one may grow beyond it, up to the csock's region: a message that would not fit an
//! empty region is EMSGSIZE, one that does not fit behind what is queued gets EAGAIN. (The kernel has no such limit.)
//!
//! A message may be for one connection ([`MuxState::send_to`], which the kernel has not): see [`crate::transmit`].

use crate::errno::{EAGAIN, EINVAL, EMSGSIZE, ENOTCONN, EPIPE, Errno};
use crate::id::{CsockId, PsockId};
use crate::mux::{Kind, MuxState};
use crate::outside::{Outside, Region, Regions, Tcp};
use crate::queue::{RECORD, Tag};
use crate::receive::MSG_EOR;

/// MSG_MORE.
pub const MSG_MORE: i32 = 0x8000;
/// MSG_BATCH.
pub const MSG_BATCH: i32 = 0x40000;

impl Kind {
    /// Whether a send with these flags ends its message.
    pub(crate) fn ends(self, flags: i32) -> bool {
        match self {
            Self::Dgram => flags & MSG_MORE == 0,
            Self::SeqPacket => flags & MSG_EOR != 0,
        }
    }
}

impl MuxState {
    /// Sends `len` bytes, all or none: a message, or a part of one. `copy` fills them in; it may be called with no bytes.
    ///
    /// EAGAIN when SO_SNDBUF bytes or more are queued; what MSG_BATCH held back is flushed then, so that a call which may
    /// wait tries again whenever [`crate::Work::flushed`] has this csock. An error of `copy` is the answer too, after
    /// [`MuxState::cancel`].
    pub fn send<M: Regions, T: Tcp>(
        &mut self,
        csock: CsockId,
        call: (usize, i32),
        outside: &mut Outside<'_, M, T>,
        copy: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        self.send_to(csock, 0, call, outside, copy)
    }

    /// As [`MuxState::send`], on the connection of this name and no other; 0 for any. Of a message in parts the first part
    /// decides, and others have the same name, or 0.
    ///
    /// ENOTCONN when no psock has that name, EPIPE when that one is not to be sent on any more, or has an error posted; the
    /// open message is forgotten then. EINVAL for a part of a message that is for another one.
    pub fn send_to<M: Regions, T: Tcp>(
        &mut self,
        csock: CsockId,
        connection: u64,
        (len, flags): (usize, i32),
        outside: &mut Outside<'_, M, T>,
        copy: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let added = match self.destination(csock, connection) {
            Ok(_) => self.add(csock, connection, len, outside.memory, copy),
            Err(error) => {
                if error != EINVAL {
                    self.forget_open(csock);
                }
                Err(error)
            }
        };
        if added.is_err() {
            if self.csocks[csock.index()].wait_more {
                self.flush(csock, outside);
            }
            return added;
        }
        let state = &mut self.csocks[csock.index()];
        state.stats.tx_bytes += len as u64;
        if state.kind.ends(flags) {
            let busy = state.tx.messages > 0;
            if core::mem::take(&mut state.open) {
                let length = core::mem::take(&mut state.open_len);
                let tag = Tag { charge: length, connection: core::mem::take(&mut state.open_to) };
                state.tx.finish(outside.memory.region(Region::ToSend(csock)), length as usize, tag);
                state.stats.tx_msgs += 1;
            }
            if flags & MSG_BATCH != 0 {
                state.wait_more = true;
            } else if state.wait_more || !busy {
                self.flush(csock, outside);
            }
        }
        Ok(len)
    }

    /// The program's bytes could not be read: SOCK_DGRAM forgets the whole open message, SOCK_SEQPACKET keeps what it had
    /// before this call.
    pub fn cancel(&mut self, csock: CsockId) {
        let state = &self.csocks[csock.index()];
        if state.kind == Kind::Dgram || state.open_len == 0 {
            self.forget_open(csock);
        }
    }

    fn forget_open(&mut self, csock: CsockId) {
        let state = &mut self.csocks[csock.index()];
        if state.open {
            state.tx.discard(state.open_len as usize, state.open_to);
            (state.open, state.open_len, state.open_to) = (false, 0, 0);
        }
    }

    /// The psock that a message, or the next part of one, is to go to; none for any.
    pub(crate) fn destination(&self, csock: CsockId, connection: u64) -> Result<Option<PsockId>, Errno> {
        let state = &self.csocks[csock.index()];
        let wanted = if state.open { state.open_to } else { connection };
        if connection != 0 && connection != wanted {
            return Err(EINVAL);
        }
        if wanted == 0 {
            return Ok(None);
        }
        let id = self.named(wanted).ok_or(ENOTCONN)?;
        let psock = &self.psocks[id.index()];
        if psock.tx_stopped || psock.posted != 0 { Err(EPIPE) } else { Ok(Some(id)) }
    }

    /// Bytes queued on a csock, those of the open message included.
    pub fn queued(&self, csock: CsockId) -> u64 {
        let state = &self.csocks[csock.index()];
        state.tx.charge + u64::from(state.open_len)
    }

    /// Adds bytes to the open message, or opens one for this connection.
    fn add<M: Regions>(
        &mut self,
        csock: CsockId,
        connection: u64,
        len: usize,
        memory: &mut M,
        copy: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let queued = self.queued(csock);
        let state = &mut self.csocks[csock.index()];
        if !state.open && queued >= u64::from(state.send_buffer) {
            return Err(EAGAIN);
        }
        if len == 0 {
            return copy(&mut []).map(|()| 0);
        }
        let region = memory.region(Region::ToSend(csock));
        // A program's length may be any, such as -1.
        if (RECORD + state.open_len as usize).saturating_add(len) > region.len() {
            return Err(EMSGSIZE);
        }
        let room = if state.open { state.tx.extend(region, len) } else { state.tx.begin(region, len, connection) };
        let room = room.ok_or(EAGAIN)?;
        if !state.open {
            state.open_to = connection;
            state.open = true;
        }
        if let Err(error) = copy(&mut region[room]) {
            state.tx.retract(len);
            self.cancel(csock);
            return Err(error);
        }
        state.open_len += len as u32;
        Ok(len)
    }
}
