//! What a process leaves that is killed in the middle of an operation, and how the next one goes on.
//!
//! A process that dies with the mux's lock leaves any state between two stores of an operation. [`MuxState::repair`] makes
//! it one that operations leave. So that it can, they keep an order (`in_order`): a message is taken out of where it was
//! before it is put where it goes, what says that there is one is stored when the message is complete, and while bytes move
//! in or out of TCP, it is noted where they began: TCP tells how far they came (`transit`).
//!
//! | killed in the middle of | what comes of it |
//! |---|---|
//! | receiving a message, queueing it, or handing it to another csock | it is lost, or it is not; never is it there twice |
//! | dealing out what was peeked of a psock | what was dealt out is taken out of TCP; the rest is read again |
//! | writing queued messages to a psock | they are queued still but for what TCP has |
//! | writing a message that is not queued | it went out or it did not; where TCP has only a part, the psock is stopped for sending, with EPIPE |
//! | making a message | it is lost, with all parts of it |
//! | stopping a psock, or taking it away | messages that are for that one alone are dropped, as ever |
//! | moving a queue to the start of its region, over itself | the queue is lost |
//! | closing or disabling a csock | as if it had come to its end |
//!
//! TCP does not tell of a connection that is closed, nor of one that the program itself reads or writes as well. Then a
//! psock that was read receives no more, with EPIPE; one that was written to is stopped for sending, with EPIPE, and the
//! messages of that one write are lost: they may have gone out.
//!
//! Lists are linked anew, reservations that are not mutual are dropped, and all is left to be done outside that a dead
//! process may have taken upon itself: tokens, edges, sockets to read and to wait for. Of a state that is whole nothing
//! else is changed. Whoever repairs may be killed too: the next one repairs what is left then.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::buffer::Buffer;
use crate::errno::EPIPE;
use crate::id::{CsockId, Id, PsockId, Set};
use crate::list::Fifo;
use crate::loan::Lent;
use crate::mux::{CSOCK, Csock, MuxState, PSOCK};
use crate::outside::{Outside, Region, Regions, Tcp};
use crate::queue::{Queue, RECORD, record_len};
use crate::transmit::{Gone, csock, link, psock};

/// Bytes sent of a csock's head, when what was sent last is not its head.
const UNKNOWN: u32 = u32::MAX;

/// What comes before is stored before what comes after, as far as the end of the process can tell.
pub(crate) fn in_order() {
    compiler_fence(Ordering::SeqCst);
    #[cfg(test)]
    tests::may_be_killed();
}

impl MuxState {
    /// Makes a state whole whose lock's owner died. To be called with the lock, before anything else; and then
    /// [`MuxState::write_stalled`].
    pub fn repair<M: Regions, T: Tcp>(&mut self, outside: &mut Outside<'_, M, T>) {
        self.lent = Lent::NONE;
        every().for_each(|psock| self.repair_stream(psock, outside));
        every().for_each(|csock| self.repair_queues(csock, outside.memory));
        every().for_each(|psock| self.repair_write(psock, outside));
        every().for_each(|csock| self.repair_sent(csock, outside.memory));
        let memory = &mut *outside.memory;
        if self.held != Queue::EMPTY {
            self.held.repair_whole(memory.region(Region::Held));
        }
        every().for_each(|csock| self.repair_reservation(csock));
        every().for_each(|psock| self.repair_reserved(psock));
        self.repair_lists();
        self.repair_senders(memory);
        self.repair_steering(memory);
        self.repair_counts();
        self.leave_all_work();
    }

    /// A psock's buffer and parser.
    fn repair_stream<M: Regions, T: Tcp>(&mut self, psock: PsockId, outside: &mut Outside<'_, M, T>) {
        if !self.attached.contains(psock) {
            self.psocks[psock.index()] = PSOCK;
            return;
        }
        let dealt = !self.psocks[psock.index()].dealing.under_way() || self.repair_dealing(psock, outside);
        let state = &mut self.psocks[psock.index()];
        let len = outside.memory.region(Region::Psock(psock)).len();
        state.buffer.repair(len);
        let longest = u32::try_from(len.saturating_sub(RECORD)).unwrap_or(u32::MAX);
        let sound = state.strp.repair(longest) && (state.ready == 0 || state.strp.taken() == 0);
        let kept = state.strp.taken().max(state.ready as usize);
        if !dealt || !sound || kept > state.buffer.len() {
            state.strp.stop();
            (state.buffer, state.ready, state.posted) = (Buffer::EMPTY, 0, EPIPE);
            state.dealing.end();
        } else {
            state.buffer.truncate_by(state.buffer.len() - kept);
        }
    }

    /// A csock's messages, received and to be sent.
    fn repair_queues<M: Regions>(&mut self, csock: CsockId, memory: &mut M) {
        if !self.open.contains(csock) {
            if let Some(psock) = self.reserved_by(csock)
                && !self.psocks[psock.index()].tx_stopped
            {
                self.abort(psock);
                in_order();
            }
            // What it had received goes to others yet.
            self.csocks[csock.index()] = Csock { rx: self.csocks[csock.index()].rx, ..CSOCK };
        }
        let state = &mut self.csocks[csock.index()];
        if state.rx != Queue::EMPTY {
            state.rx.repair_whole(memory.region(Region::Received(csock)));
        }
        if state.tx != Queue::EMPTY || state.open {
            let region = memory.region(Region::ToSend(csock));
            let behind = state.tx.repair(region);
            if behind != if state.open { record_len(state.open_to) + state.open_len as usize } else { 0 } {
                state.tx.retract(behind);
                state.open = false;
            }
        }
        if !state.open {
            (state.open_len, state.open_to) = (0, 0);
        }
        state.low_water = state.low_water.max(u32::from(self.open.contains(csock)));
    }

    /// A write under way. If nobody can tell how far it came, the psock is stopped, and the messages are lost.
    fn repair_write<M: Regions, T: Tcp>(&mut self, psock: PsockId, outside: &mut Outside<'_, M, T>) {
        let state = &self.psocks[psock.index()];
        let linked = csock(state.tx_csock).filter(|&csock| self.reserved_by(csock) == Some(psock));
        if !state.writing.under_way || linked.is_some() && !state.tx_stopped && self.repair_writing(psock, outside) {
            return;
        }
        if !self.psocks[psock.index()].tx_stopped {
            self.abort(psock);
            in_order();
        }
        if let Some(csock) = linked {
            let (state, region) = (&mut self.csocks[csock.index()], outside.memory.region(Region::ToSend(csock)));
            while state.writing > 0 {
                state.tx.pop(region);
                in_order();
                state.writing -= 1;
            }
        }
        self.psocks[psock.index()].writing.end();
    }

    /// How much a psock has of a csock's first message.
    fn repair_sent<M: Regions>(&mut self, csock: CsockId, memory: &mut M) {
        let state = &mut self.csocks[csock.index()];
        state.writing = 0;
        if state.sent > 0 {
            let head = state.tx.head(memory.region(Region::ToSend(csock)));
            if head.is_none_or(|head| state.sent as usize >= head.bytes.len()) {
                state.sent = UNKNOWN;
            }
        }
    }

    /// The psock that a csock has and that has it.
    fn reserved_by(&self, csock: CsockId) -> Option<PsockId> {
        psock(self.csocks[csock.index()].tx_psock).filter(|&psock| {
            self.attached.contains(psock) && self.psocks[psock.index()].tx_csock == u16::from(csock.0) + 1
        })
    }

    /// What a csock has of a psock; it keeps it only if that has it too.
    fn repair_reservation(&mut self, csock: CsockId) {
        let state = &self.csocks[csock.index()];
        let (messages, sent) = (state.tx.messages, state.sent);
        let psock = self.reserved_by(csock);
        let keeps =
            messages > 0 && sent != UNKNOWN && psock.is_some_and(|psock| !self.psocks[psock.index()].tx_stopped);
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

    /// The other side of that.
    fn repair_reserved(&mut self, psock: PsockId) {
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
    }

    /// Nothing waits for a psock that is free, or is not sent on any more.
    fn repair_senders<M: Regions>(&mut self, memory: &mut M) {
        self.to_write = Set::EMPTY;
        for csock in every::<CsockId>() {
            if self.senders.contains(csock) {
                let wanted = self.head_goes_to(csock, memory.region(Region::ToSend(csock)));
                // Its head is dropped when it is written.
                self.to_write.assign(csock, matches!(wanted, Some(Err(Gone))));
                self.csocks[csock.index()].wants = wanted.and_then(Result::ok).flatten().map_or(0, link);
            }
        }
        while let Some((csock, psock)) = self.waits_in_vain() {
            self.available.remove(psock);
            self.senders.remove(csock);
            self.bind(csock, psock);
            self.psocks[psock.index()].stalled = true;
            self.to_write.remove(csock);
        }
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

    /// A csock that waits for a psock, and one that it could have.
    fn waits_in_vain(&self) -> Option<(CsockId, PsockId)> {
        self.senders.iter().find_map(|csock| Some((csock, self.free_for(csock)?)))
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
