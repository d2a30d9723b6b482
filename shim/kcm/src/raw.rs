//! What an attached TCP socket shows to calls on its own descriptor: errors that KCM posts on it, and bytes that were
//! read ahead of what KCM takes.
//!
//! Reference: `report_csk_error`, `psock_state_change` in net/kcm/kcmsock.c, `strp_abort_strp` in
//! net/strparser/strparser.c. Unread are: after a parser's error, all but what had been taken of the message; while nobody
//! has room, what follows the message that waits; in the middle of a message, what came after its length was known. Raw
//! reads take bytes from under the parser then, as they do in the kernel.

use crate::errno::{EPIPE, Errno};
use crate::id::PsockId;
use crate::mux::MuxState;
use crate::outside::{Region, Regions};

impl MuxState {
    /// TCP told of a change: a FIN or a reset, or that a connect came through. Any posts EPIPE.
    pub fn tcp_changed(&mut self, psock: PsockId) {
        self.post(psock, EPIPE);
    }

    /// SO_ERROR of the TCP socket, as far as it is KCM's: the error posted there, which is taken off by reading it; 0 for
    /// none. One that is not read makes the next send on this psock fail.
    pub fn take_error(&mut self, psock: PsockId) -> Errno {
        core::mem::take(&mut self.psocks[psock.index()].posted)
    }

    /// The same without taking it off: whether the TCP socket polls as having an error.
    pub fn error(&self, psock: PsockId) -> Errno {
        self.psocks[psock.index()].posted
    }

    /// Whether parsing ended with an error: what comes is for raw reads, first what is unread here, then TCP's.
    pub fn receiving_ended(&self, psock: PsockId) -> bool {
        self.psocks[psock.index()].strp.stopped()
    }

    /// Bytes that raw reads of the TCP socket find here.
    pub fn unread(&self, psock: PsockId) -> usize {
        let state = &self.psocks[psock.index()];
        state.buffer.len().saturating_sub(self.taken(psock))
    }

    /// A raw read, or peek: how many bytes were put into `into`.
    pub fn read_raw<M: Regions>(&mut self, psock: PsockId, into: &mut [u8], peek: bool, memory: &mut M) -> usize {
        let (taken, n) = (self.taken(psock), into.len().min(self.unread(psock)));
        let buffer = &mut self.psocks[psock.index()].buffer;
        let region = memory.region(Region::Psock(psock));
        let from = buffer.filled().start + taken;
        into[..n].copy_from_slice(&region[from..from + n]);
        if !peek && taken == 0 {
            buffer.consume(n);
        } else if !peek {
            buffer.cut_out(region, taken, n);
        }
        n
    }

    pub(crate) fn post(&mut self, psock: PsockId, error: Errno) {
        self.psocks[psock.index()].posted = error;
        self.work.posted.insert(psock);
    }

    /// Bytes at the start of the buffer that are KCM's.
    fn taken(&self, psock: PsockId) -> usize {
        let state = &self.psocks[psock.index()];
        state.strp.taken().max(state.ready as usize)
    }
}
