//! Reading a psock: bytes out of TCP, messages out of them, a csock for each.
//!
//! Reference: `strp_read_sock` in net/strparser/strparser.c, `kcm_rcv_strparser`, `kcm_read_sock_done` in
//! net/kcm/kcmsock.c. What the kernel does in TCP's callback, or in its work queue, one call of [`MuxState::pull`] does:
//! it reads until there is nothing, or [`BATCH_BYTES`] were taken, or nobody has room. That is one batch.
//!
//! # Nothing is read ahead
//!
//! Bytes are peeked first. When messages are cut and dealt out, exactly those bytes are taken that belong to them, or to
//! the beginning of one that is not whole ([`crate::strparser`]); the rest was shown in vain, and stands in TCP for raw
//! reads, polls and unattach. A psock peeks no more than it can probably deal out, going by the length of its last
//! messages.
//!
//! # Straight to the caller
//!
//! A call that found its csock empty pulls for itself, and gives its buffers along ([`crate::direct`]). When they are full,
//! and its csock holds something for which another call will come, the batch ends, if that is all the same to others
//! ([`Caller::may_leave`]).

use crate::direct::Sink;
use crate::errno::{ETIMEDOUT, Errno};
use crate::id::{CsockId, PsockId, Set};
use crate::mux::{MuxState, Psock};
use crate::outside::{Outside, Regions, Tcp};
use crate::strparser::Cut;

/// After so many bytes a batch ends, so that one psock does not keep others waiting.
pub const BATCH_BYTES: usize = 256 << 10;

/// Who pulls.
#[derive(Debug)]
pub struct Caller<'a, S> {
    /// The csock that it waits on; none for one that only serves the psocks.
    pub csock: Option<CsockId>,
    /// Its buffers.
    pub sink: &'a mut S,
    /// The time now, in nanoseconds of any clock that does not jump.
    pub now: u64,
    /// Whether the batch may end when its buffers are full: somebody will look at what it leaves, without being told each time.
    pub may_leave: bool,
}

/// One call of [`MuxState::pull`].
pub(crate) struct Batch<'a, S> {
    pub(crate) psock: PsockId,
    /// Who gets it.
    pub(crate) serving: Option<CsockId>,
    pub(crate) caller: Caller<'a, S>,
}

impl MuxState {
    /// Reads a psock, and deals out what it has. True when there may be more to read although TCP does not say so again:
    /// then it is one of [`MuxState::unread`], for whoever comes first.
    pub fn pull<M: Regions, T: Tcp, S: Sink>(
        &mut self,
        psock: PsockId,
        caller: Caller<'_, S>,
        outside: &mut Outside<'_, M, T>,
    ) -> bool {
        if self.lent.ask(psock) {
            return false;
        }
        let mut batch = Batch { psock, serving: None, caller };
        let (mut taken, mut drained) = (0, false);
        while !drained && taken < BATCH_BYTES && self.receives(psock) && !self.has_enough(&batch) {
            let likely = self.likely(&batch);
            let peeked;
            (peeked, drained) = self.peek(psock, likely, outside);
            if peeked > 0 {
                self.cut(&mut batch, (peeked, drained), outside);
                let n = self.psocks[psock.index()].take(psock, peeked, outside.tcp);
                taken += n;
                drained |= n == 0;
            }
        }
        if let Some(csock) = batch.serving {
            self.refill(csock, outside.memory);
        }
        if drained {
            self.psocks[psock.index()].strp.keep_time(psock, batch.caller.now, outside.tcp);
        }
        let more = !drained && self.receives(psock);
        self.unread.assign(psock, more);
        more
    }

    /// Whether the next message would be for a call that has its buffers filled, and whose csock holds something for which
    /// another one will come.
    fn has_enough<S: Sink>(&self, batch: &Batch<'_, S>) -> bool {
        let Some(csock) = batch.caller.csock.filter(|_| batch.caller.may_leave) else { return false };
        self.csocks[csock.index()].has_enough(batch.caller.sink)
            && batch.serving.or_else(|| self.next_receiver(Some(csock))) == Some(csock)
    }

    /// Bytes that can probably be dealt out to whoever has the next message.
    fn likely<S: Sink>(&self, batch: &Batch<'_, S>) -> usize {
        let left = |csock| if batch.caller.csock == Some(csock) { batch.caller.sink.left() } else { 0 };
        let goes_on = |csock: &CsockId| self.csocks[csock.index()].accepts() || left(*csock) > 0;
        let next = batch.serving.filter(goes_on).or_else(|| self.next_receiver(batch.caller.csock));
        let mean = self.psocks[batch.psock.index()].mean as usize;
        next.map_or(0, |csock| self.csocks[csock.index()].likely(left(csock), mean))
    }

    fn peek<M: Regions, T: Tcp>(
        &mut self,
        psock: PsockId,
        likely: usize,
        outside: &mut Outside<'_, M, T>,
    ) -> (usize, bool) {
        self.psocks[psock.index()].peek(psock, likely, outside).unwrap_or_else(|error| {
            self.post(psock, error);
            (0, true)
        })
    }

    /// Psocks to be pulled once more, whatever TCP says.
    pub fn unread(&self) -> Set<PsockId> {
        self.unread
    }

    /// A psock is to be pulled by somebody else, who has its TCP socket. True when nobody was to before.
    pub fn leave_unread(&mut self, psock: PsockId) -> bool {
        !self.lent.ask(psock) && self.receives(psock) && self.unread.insert(psock)
    }

    /// Whether this psock reads its TCP socket, now and as long as nobody tells otherwise.
    pub fn receives(&self, psock: PsockId) -> bool {
        self.attached.contains(psock) && self.psocks[psock.index()].receives()
    }

    /// When the first assembly time-out ends, in nanoseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        self.attached.iter().map(|psock| self.psocks[psock.index()].strp.deadline).filter(|&at| at > 0).min()
    }

    /// Ends receiving, with ETIMEDOUT, on psocks whose message took too long.
    pub fn expire(&mut self, now: u64) {
        for psock in self.attached.iter() {
            let state = &mut self.psocks[psock.index()];
            if state.strp.late(now) && !self.lent.psocks.contains(psock) {
                state.stats.rx_timeouts += 1;
                self.stop_receiving(psock, ETIMEDOUT);
            }
        }
    }

    /// Cuts and deals out what is in the buffer, of which so much was peeked, and that was all that TCP has, or not.
    fn cut<M: Regions, T: Tcp, S: Sink>(
        &mut self,
        batch: &mut Batch<'_, S>,
        peeked: (usize, bool),
        outside: &mut Outside<'_, M, T>,
    ) {
        let psock = batch.psock;
        let before = self.psocks[psock.index()].stats;
        let (mut look, memory) = Psock::look(psock, peeked, outside);
        loop {
            match self.cut_direct(batch, &mut look, memory) {
                Cut::More => break,
                Cut::Message(len) => self.deal(batch, len, memory),
                Cut::Error(error) => self.stop_receiving(psock, error),
            }
        }
        self.psocks[psock.index()].count(&before);
    }

    /// Finds a csock for the message of `len` bytes at the start of the buffer, or makes the psock wait with it.
    fn deal<M: Regions, S: Sink>(&mut self, batch: &mut Batch<'_, S>, len: usize, memory: &mut M) {
        loop {
            let Some(csock) = batch.serving.or_else(|| self.reserve_receiver(batch)) else {
                self.psocks[batch.psock.index()].ready = len as u32;
                self.ready.push_back(batch.psock);
                return;
            };
            self.psocks[batch.psock.index()].dealing.deal(len);
            let direct = self.put_direct(csock, batch, len, memory);
            let dealt = direct || self.queue_cut(csock, batch.psock, len, memory);
            let state = &mut self.psocks[batch.psock.index()];
            if dealt {
                state.buffer.consume(len);
                return;
            }
            state.dealing.retract(len);
            batch.serving = None;
        }
    }

    fn reserve_receiver<S>(&mut self, batch: &mut Batch<'_, S>) -> Option<CsockId> {
        self.add_received(batch.psock);
        batch.serving = self.next_receiver(batch.caller.csock);
        let csock = batch.serving?;
        self.receivers.remove(csock);
        Some(csock)
    }

    /// Nothing is cut any more.
    fn stop_receiving(&mut self, psock: PsockId, error: Errno) {
        self.psocks[psock.index()].stop_receiving();
        self.post(psock, error);
    }
}
