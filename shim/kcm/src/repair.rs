//! What a process leaves that is killed in the middle of an operation, and how the next one goes on.
//!
//! A process that dies with the mux's lock leaves any state between two stores of an operation. [`MuxState::repair`] makes
//! it one that operations leave. So that it can, they keep an order (`in_order`): a message is taken out of where it was
//! before it is put where it goes, what says that there is one is stored when the message is complete, and marks stand
//! while bytes move in or out of TCP, which nobody can tell afterwards.
//!
//! | killed in the middle of | what comes of it |
//! |---|---|
//! | receiving a message, queueing it, or handing it to another csock | it is lost, or it is not; never is it there twice |
//! | dealing out what was peeked of a psock | the psock receives no more, with EPIPE: what of it stands in TCP was dealt out, or was not |
//! | writing to a psock | it is stopped for sending, with EPIPE, and the messages of that one write are lost: they may have gone out |
//! | making a message | it is lost, with all parts of it |
//! | moving a queue to the start of its region, over itself | the queue is lost |
//! | closing or disabling a csock | as if it had come to its end |
//!
//! Lists are linked anew, reservations that are not mutual are dropped, and all is left to be done outside that a dead
//! process may have taken upon itself: tokens, edges, sockets to read and to wait for. Of a state that is whole nothing
//! else is changed. Whoever repairs may be killed too: the next one repairs what is left then.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::buffer::Buffer;
use crate::errno::EPIPE;
use crate::id::{CsockId, Id, PsockId};
use crate::list::Fifo;
use crate::mux::{CSOCK, Csock, MuxState, PSOCK};
use crate::outside::{Region, Regions};
use crate::queue::{Queue, RECORD};
use crate::transmit::{csock, psock};

/// Bytes sent of a csock's head, when what was sent last is not its head.
const UNKNOWN: u32 = u32::MAX;

/// What comes before is stored before what comes after, as far as the end of the process can tell.
pub(crate) fn in_order() {
    compiler_fence(Ordering::SeqCst);
}

impl MuxState {
    /// Makes a state whole whose lock's owner died. To be called with the lock, before anything else.
    pub fn repair<M: Regions>(&mut self, memory: &mut M) {
        every().for_each(|psock| self.repair_stream(psock, memory));
        every().for_each(|csock| self.repair_queues(csock, memory));
        if self.held != Queue::EMPTY {
            self.held.repair_whole(memory.region(Region::Held));
        }
        every().for_each(|csock| self.repair_reservation(csock));
        every().for_each(|psock| self.repair_reserved(psock));
        self.repair_lists();
        self.repair_steering(memory);
        self.repair_counts();
        self.leave_all_work();
    }

    /// A psock's buffer and parser.
    fn repair_stream<M: Regions>(&mut self, psock: PsockId, memory: &mut M) {
        let state = &mut self.psocks[psock.index()];
        if !self.attached.contains(psock) {
            *state = PSOCK;
            return;
        }
        let len = memory.region(Region::Psock(psock)).len();
        state.buffer.repair(len);
        let longest = u32::try_from(len.saturating_sub(RECORD)).unwrap_or(u32::MAX);
        let sound = state.strp.repair(longest) && (state.ready == 0 || state.strp.taken() == 0);
        let kept = state.strp.taken().max(state.ready as usize);
        if state.dealing || !sound || kept > state.buffer.len() {
            state.strp.stop();
            (state.buffer, state.ready, state.posted) = (Buffer::EMPTY, 0, EPIPE);
            in_order();
            state.dealing = false;
        } else {
            state.buffer.truncate_by(state.buffer.len() - kept);
        }
    }

    /// A csock's messages, received and to be sent.
    fn repair_queues<M: Regions>(&mut self, csock: CsockId, memory: &mut M) {
        let state = &mut self.csocks[csock.index()];
        if !self.open.contains(csock) {
            // What it had received goes to others yet.
            *state = Csock { rx: state.rx, ..CSOCK };
        }
        if state.rx != Queue::EMPTY {
            state.rx.repair_whole(memory.region(Region::Received(csock)));
        }
        if state.tx != Queue::EMPTY || state.open {
            let region = memory.region(Region::ToSend(csock));
            let behind = state.tx.repair(region);
            if behind != if state.open { RECORD + state.open_len as usize } else { 0 } {
                state.tx.retract(behind);
                (state.open, state.open_len) = (false, 0);
            }
            let head = state.tx.head(region).map_or(0, |head| head.bytes.len());
            if state.writing > 0 || state.sent > 0 && state.sent as usize >= head {
                state.sent = UNKNOWN;
            }
            while state.writing > 0 {
                state.tx.pop(region);
                in_order();
                state.writing -= 1;
            }
        }
        state.writing = 0;
        if !state.open {
            state.open_len = 0;
        }
        state.low_water = state.low_water.max(u32::from(self.open.contains(csock)));
    }

    /// What a csock has of a psock; it keeps it only if that has it too.
    fn repair_reservation(&mut self, csock: CsockId) {
        let state = &self.csocks[csock.index()];
        let (messages, sent) = (state.tx.messages, state.sent);
        let psock = psock(state.tx_psock).filter(|&psock| {
            self.attached.contains(psock) && self.psocks[psock.index()].tx_csock == u16::from(csock.0) + 1
        });
        let keeps = psock.is_some_and(|psock| {
            let state = &self.psocks[psock.index()];
            messages > 0 && sent != UNKNOWN && !state.writing && !state.tx_stopped
        });
        if keeps {
            return;
        }
        if let Some(psock) = psock
            && sent > 0
            && !self.psocks[psock.index()].tx_stopped
        {
            self.abort(psock);
        }
        let state = &mut self.csocks[csock.index()];
        (state.tx_psock, state.sent) = (0, 0);
    }

    /// The other side of that. A psock that was being written to is stopped.
    fn repair_reserved(&mut self, psock: PsockId) {
        if self.psocks[psock.index()].writing && !self.psocks[psock.index()].tx_stopped {
            self.abort(psock);
            in_order();
        }
        self.psocks[psock.index()].writing = false;
        let state = &self.psocks[psock.index()];
        let mutual =
            csock(state.tx_csock).is_some_and(|csock| self.csocks[csock.index()].tx_psock == u16::from(psock.0) + 1);
        let state = &mut self.psocks[psock.index()];
        if !mutual {
            state.tx_csock = 0;
        }
        // Whatever it was about to send goes on when its TCP socket is found to have room.
        state.stalled = mutual;
    }

    fn repair_lists(&mut self) {
        for id in every::<CsockId>() {
            let csock = &self.csocks[id.index()];
            self.holding.assign(id, csock.rx.messages > 0);
            self.sleeping.assign(id, csock.sleepers > 0);
        }
        let Self { csocks, psocks, open, attached, .. } = self;
        let receives = |id: CsockId| open.contains(id) && !csocks[id.index()].disabled;
        self.receivers.repair(receives, |id| receives(id) && csocks[id.index()].rx.messages == 0);
        let sends = |id: CsockId| {
            let csock = &csocks[id.index()];
            open.contains(id) && csock.tx_psock == 0 && csock.tx.messages > 0
        };
        self.senders.repair(sends, |id| sends(id) && !csocks[id.index()].wait_more);
        let waits = |id: PsockId| attached.contains(id) && psocks[id.index()].ready > 0;
        self.ready.repair(waits, waits);
        let free = |id: PsockId| {
            let psock = &psocks[id.index()];
            attached.contains(id) && psock.tx_csock == 0 && !psock.tx_stopped
        };
        self.available.repair(free, free);
        while !self.available.is_empty()
            && let Some(csock) = self.senders.pop_front()
            && let Some(psock) = self.available.pop_front()
        {
            self.bind(csock, psock);
            self.psocks[psock.index()].stalled = true;
        }
        self.to_write = crate::Set::EMPTY;
    }

    /// Nothing waits for a receiver while there is one, and csocks that are closed or disabled have nothing.
    fn repair_steering<M: Regions>(&mut self, memory: &mut M) {
        if self.open.is_empty() {
            self.held = Queue::EMPTY;
        }
        if self.held.messages > 0 || !self.ready.is_empty() {
            let mut receivers = core::mem::replace(&mut self.receivers, Fifo::EMPTY);
            while let Some(csock) = receivers.pop_front() {
                self.refill(csock, memory);
            }
        }
        for csock in every::<CsockId>() {
            let state = &self.csocks[csock.index()];
            if (state.disabled || !self.open.contains(csock)) && state.rx.messages > 0 {
                self.requeue(csock, memory);
            }
            if !self.open.contains(csock) {
                self.csocks[csock.index()] = CSOCK;
                self.holding.remove(csock);
            }
        }
    }

    fn repair_counts(&mut self) {
        self.stats.repair();
        self.gone.repair();
        self.csocks.iter_mut().for_each(|csock| csock.stats.repair());
        for psock in &mut self.psocks {
            psock.stats.repair();
            psock.saved.keep_below(&psock.stats);
        }
    }

    /// What there was to do outside may have been taken by the one that died.
    fn leave_all_work(&mut self) {
        for csock in every::<CsockId>() {
            let open = self.open.contains(csock);
            let has = self.csocks[csock.index()].rx.messages > 0;
            self.work.gained.assign(csock, open && has);
            self.work.emptied.assign(csock, open && !has);
            self.work.flushed.assign(csock, open);
        }
        for psock in every::<PsockId>() {
            let (state, attached) = (&self.psocks[psock.index()], self.attached.contains(psock));
            self.work.posted.assign(psock, attached && state.posted != 0);
            self.work.stalled.assign(psock, attached && state.stalled);
            self.work.resumed.assign(psock, attached && self.receives(psock));
        }
    }
}

impl Queue {
    /// Keeps what is complete.
    fn repair_whole(&mut self, region: &[u8]) {
        let behind = self.repair(region);
        self.retract(behind);
    }
}

/// All indexes.
fn every<T: Id>() -> impl Iterator<Item = T> {
    (0..=u8::MAX).map(T::at)
}

#[cfg(test)]
mod tests;
