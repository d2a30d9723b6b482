//! Which csock gets a message.
//!
//! Reference: `kcm_rcv_ready`, `kcm_queue_rcv_skb`, `requeue_rx_msgs`, `reserve_rx_kcm`, `unreserve_rx_kcm`,
//! `kcm_recv_disable`, `kcm_recv_enable` in net/kcm/kcmsock.c.
//!
//! Csocks with room stand in a list. A psock with a message takes one out, gives it all that it
//! cuts in one batch, and puts it at the end. A csock that turns out to be full stays out until it is emptied. With nobody
//! in the list the psock waits with one cut message, and reads no more.
//!
//! The kernel takes the head of the list. Here, of those in it, first comes one whose reader sleeps, then one that holds
//! nothing, then the head: no message waits behind a busy socket's batch while an idle one could have it. Within each of
//! the three the list's order decides, so that with nobody reading, as with everybody, they take turns as in the kernel.
//!
//! Messages of a csock that is disabled or closed go, in their order, to one other as long as that has room. With nobody
//! to take them they are *held*. A csock that gets room takes what is held first, then the message of each psock that
//! waits, and only then stands in the list: nothing overtakes.

use crate::id::{CsockId, PsockId};
use crate::mux::MuxState;
use crate::outside::{Region, Regions};
use crate::queue::Message;
use crate::repair::in_order;

/// What a message occupies beside its bytes, as the kernel charges it to SO_RCVBUF.
pub const OVERHEAD: u32 = 1280;

/// The charge of a message of `len` bytes.
pub fn charge(len: usize) -> u32 {
    OVERHEAD.saturating_add(len as u32)
}

impl MuxState {
    /// KCM_RECV_DISABLE: this csock is to get no more, and what it has goes to others.
    pub fn disable<M: Regions>(&mut self, csock: CsockId, memory: &mut M) {
        if core::mem::replace(&mut self.csocks[csock.index()].disabled, true) {
            return;
        }
        self.receivers.remove(csock);
        self.requeue(csock, memory);
    }

    /// The opposite: it takes what waits for a receiver.
    pub fn enable<M: Regions>(&mut self, csock: CsockId, memory: &mut M) {
        if core::mem::replace(&mut self.csocks[csock.index()].disabled, false) {
            self.refill(csock, memory);
        }
    }

    /// KCM_RECV_DISABLE, as it is.
    pub fn disabled(&self, csock: CsockId) -> bool {
        self.csocks[csock.index()].disabled
    }

    /// Of the csocks with room, the one that is to have the next batch. A call on `caller` waits for messages right now.
    pub(crate) fn next_receiver(&self, caller: Option<CsockId>) -> Option<CsockId> {
        let messages = |id: CsockId| self.csocks[id.index()].rx.messages;
        let waits = |id: CsockId| self.csocks[id.index()].sleepers.saturating_add(u32::from(caller == Some(id)));
        let mut asked = self.sleeping;
        if let Some(caller) = caller {
            asked.insert(caller);
        }
        let free = self.lent.csocks.others();
        let waiting = self.receivers.first_of(asked.and(free), |id| waits(id) > messages(id));
        let first = |of| self.receivers.first_of(of, |_| true);
        waiting.or_else(|| first(self.holding.others().and(free))).or_else(|| first(free))
    }

    /// Whether a csock can take a message now.
    fn has_room<M: Regions>(&self, csock: CsockId, message: &Message, memory: &mut M) -> bool {
        let size = memory.region(Region::Received(csock)).len();
        let state = &self.csocks[csock.index()];
        state.accepts() && state.rx.fits(size, message)
    }

    /// Puts the message at the start of a psock's buffer into a csock's queue. False when that is full.
    pub(crate) fn queue_cut<M: Regions>(&mut self, csock: CsockId, psock: PsockId, len: usize, memory: &mut M) -> bool {
        let message = self.psocks[psock.index()].first(len, self.named);
        self.queue_message(csock, (Region::Psock(psock), message), memory)
    }

    /// The csock got room: it takes what waits for a receiver, and waits itself once nothing does. In between it may be
    /// full again.
    pub(crate) fn refill<M: Regions>(&mut self, csock: CsockId, memory: &mut M) {
        if self.receivers.contains(csock) || self.csocks[csock.index()].disabled {
            return;
        }
        while let Some(head) = self.held.head(memory.region(Region::Held)) {
            if !self.has_room(csock, &head, memory) {
                return;
            }
            self.held.pop(memory.region(Region::Held));
            in_order();
            self.queue_message(csock, (Region::Held, head), memory);
        }
        while let Some(psock) = self.ready.first() {
            let state = &self.psocks[psock.index()];
            let len = state.ready as usize;
            let message = state.first(len, self.named);
            if !self.has_room(csock, &message, memory) {
                return;
            }
            self.ready.remove(psock);
            let state = &mut self.psocks[psock.index()];
            state.ready = 0;
            in_order();
            state.buffer.consume(len);
            in_order();
            self.queue_message(csock, (Region::Psock(psock), message), memory);
            self.work.resumed.insert(psock);
        }
        self.receivers.push_back(csock);
    }

    /// Gives a csock's messages to others, or holds them. It is not in the list of receivers itself.
    pub(crate) fn requeue<M: Regions>(&mut self, csock: CsockId, memory: &mut M) {
        let from = Region::Received(csock);
        let mut target = None;
        while let Some(head) = self.csocks[csock.index()].rx.head(memory.region(from)) {
            target = target.or_else(|| self.next_receiver(None));
            if let Some(receiver) = target
                && !self.has_room(receiver, &head, memory)
            {
                self.receivers.remove(receiver);
                target = None;
                continue;
            }
            if target.is_none() && !self.held.fits(memory.region(Region::Held).len(), &head) {
                break;
            }
            self.csocks[csock.index()].rx.pop(memory.region(from));
            in_order();
            match target {
                Some(receiver) => _ = self.queue_message(receiver, (from, head), memory),
                None => _ = self.held.push_from(memory, Region::Held, (from, head.bytes), head.tag),
            }
        }
        self.note_if_empty(csock);
    }

    /// The csock has messages no more: its tokens are to go.
    pub(crate) fn note_if_empty(&mut self, csock: CsockId) {
        if self.csocks[csock.index()].rx.messages == 0 {
            self.holding.remove(csock);
            self.work.gained.remove(csock);
            self.work.emptied.insert(csock);
        }
    }

    pub(crate) fn note_gain(&mut self, csock: CsockId) {
        self.holding.insert(csock);
        self.work.emptied.remove(csock);
        self.work.gained.insert(csock);
    }

    fn queue_message<M: Regions>(&mut self, csock: CsockId, message: (Region, Message), memory: &mut M) -> bool {
        let taken = self.csocks[csock.index()].queue(csock, message, memory);
        if taken {
            self.note_gain(csock);
        }
        taken
    }
}
