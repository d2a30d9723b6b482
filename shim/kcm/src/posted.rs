//! Errors that KCM posts on an attached TCP socket. All else that this shows to calls on its own descriptor is the
//! kernel's: bytes that KCM has not taken stand in TCP.
//!
//! Reference: `report_csk_error`, `psock_state_change` in net/kcm/kcmsock.c, `strp_abort_strp` in
//! net/strparser/strparser.c.

use crate::errno::{EPIPE, Errno};
use crate::id::PsockId;
use crate::mux::MuxState;

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

    /// Whether parsing ended with an error: what comes is for raw reads.
    pub fn receiving_ended(&self, psock: PsockId) -> bool {
        self.psocks[psock.index()].strp.stopped()
    }

    pub(crate) fn post(&mut self, psock: PsockId, error: Errno) {
        self.psocks[psock.index()].posted = error;
        self.work.posted.insert(psock);
    }
}
