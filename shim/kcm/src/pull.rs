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
use crate::errno::{EAGAIN, EPIPE, ETIMEDOUT, Errno};
use crate::id::{CsockId, PsockId, Set};
use crate::mux::{Csock, MuxState};
use crate::outside::{Outside, Region, Regions, Tcp};
use crate::queue::RECORD;
use crate::stats::PsockStats;
use crate::steer::charge;
use crate::strparser::{Cut, Look};

/// After so many bytes a batch ends, so that one psock does not keep others waiting.
pub const BATCH_BYTES: usize = 256 << 10;
/// Bytes that one peek asks for at least, beside what is missing of the message at hand.
pub const PEEK_LEAST: usize = 4 << 10;
/// Bytes that one peek asks for at most, beside what is missing of the message at hand.
pub const PEEK_MOST: usize = 64 << 10;
/// Messages that are queued beside those that go straight to a caller with many buffers: so that he comes again.
const FEW: usize = 16;

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
        let mut batch = Batch { psock, serving: None, caller };
        let (mut taken, mut drained) = (0, false);
        while !drained && taken < BATCH_BYTES && self.receives(psock) && !self.has_enough(&batch) {
            let likely = self.likely(&batch);
            let peeked;
            (peeked, drained) = self.peek(psock, likely, outside);
            if peeked > 0 {
                self.cut(&mut batch, (peeked, drained), outside);
                let n = self.take(psock, peeked, outside.tcp);
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
        self.csocks[csock.index()].rx.messages > 0
            && batch.caller.sink.is_full()
            && batch.serving.or_else(|| self.next_receiver(Some(csock))) == Some(csock)
    }

    /// Bytes that can probably be dealt out to whoever has the next message: those of his buffers, and as many as SO_RCVBUF
    /// lets be queued beside. If he has many buffers only a few are, since a queued message is copied once more.
    fn likely<S: Sink>(&self, batch: &Batch<'_, S>) -> usize {
        let left = |csock| if batch.caller.csock == Some(csock) { batch.caller.sink.left() } else { 0 };
        let goes_on = |csock: &CsockId| self.accepts(*csock) || left(*csock) > 0;
        let next = batch.serving.filter(goes_on).or_else(|| self.next_receiver(batch.caller.csock));
        let Some(csock) = next else { return 0 };
        let mean = self.psocks[batch.psock.index()].mean as usize;
        let Csock { rx, receive_buffer, .. } = &self.csocks[csock.index()];
        let room = u64::from(*receive_buffer).saturating_sub(rx.charge);
        let (left, queued) = (left(csock), room.div_ceil(charge(mean).into()) as usize);
        let beside = if left > queued { queued.min(FEW) } else { queued };
        left.saturating_add(beside).saturating_mul(mean)
    }

    /// Psocks to be pulled once more, whatever TCP says.
    pub fn unread(&self) -> Set<PsockId> {
        self.unread
    }

    /// A psock is to be pulled by somebody else, who has its TCP socket. True when nobody was to before.
    pub fn leave_unread(&mut self, psock: PsockId) -> bool {
        self.receives(psock) && self.unread.insert(psock)
    }

    /// Whether this psock reads its TCP socket, now and as long as nobody tells otherwise.
    pub fn receives(&self, psock: PsockId) -> bool {
        let state = &self.psocks[psock.index()];
        self.attached.contains(psock) && !state.strp.stopped() && state.ready == 0 && !state.ended
    }

    /// When the first assembly time-out ends, in nanoseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        self.attached.iter().map(|psock| self.psocks[psock.index()].strp.deadline).filter(|&at| at > 0).min()
    }

    /// Ends receiving, with ETIMEDOUT, on psocks whose message took too long.
    pub fn expire(&mut self, now: u64) {
        for psock in self.attached.iter() {
            let state = &mut self.psocks[psock.index()];
            if state.strp.late(now) {
                state.stats.rx_timeouts += 1;
                self.stop_receiving(psock, ETIMEDOUT);
            }
        }
    }

    /// Cuts and deals out what is in the buffer, `untaken` bytes of which TCP has, and these are all that it has, or not.
    fn cut<M: Regions, T: Tcp, S: Sink>(
        &mut self,
        batch: &mut Batch<'_, S>,
        (untaken, all): (usize, bool),
        outside: &mut Outside<'_, M, T>,
    ) {
        let psock = batch.psock;
        let room = outside.memory.region(Region::Psock(psock)).len().saturating_sub(RECORD);
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let parser = outside.tcp.parser(psock);
        let PsockStats { rx_msgs, rx_bytes, .. } = self.psocks[psock.index()].stats;
        let mut look = Look { tcp: &mut *outside.tcp, parser, psock, untaken, all, room, limit: None };
        loop {
            match self.cut_direct(batch, &mut look, outside.memory) {
                Cut::More => break,
                Cut::Message(len) => self.deal(batch, len, outside.memory),
                Cut::Error(error) => self.stop_receiving(psock, error),
            }
        }
        let state = &mut self.psocks[psock.index()];
        state.strp.count(&mut state.stats);
        let (bytes, messages) = (state.stats.rx_bytes - rx_bytes, state.stats.rx_msgs - rx_msgs);
        if messages > 0 {
            state.mean = bytes.div_ceil(messages) as u32;
        }
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

    /// Puts what TCP has behind the bytes that are taken: how many bytes, and whether that is all that there is now. `likely`
    /// so many can be dealt out.
    fn peek<M: Regions, T: Tcp>(
        &mut self,
        psock: PsockId,
        likely: usize,
        outside: &mut Outside<'_, M, T>,
    ) -> (usize, bool) {
        let state = &mut self.psocks[psock.index()];
        let missing = state.strp.need().unwrap_or(0) as usize;
        if missing > PEEK_LEAST && state.strp.leaves_rest() {
            let available = outside.tcp.available(psock);
            // With nothing there it may be the end, which only a peek finds out.
            if available > 0 && available < missing {
                return (0, true);
            }
        }
        let region = outside.memory.region(Region::Psock(psock));
        let want = missing + likely.clamp(PEEK_LEAST, PEEK_MOST);
        let want = want.min(region.len().saturating_sub(state.buffer.len()));
        let kept = state.buffer.len();
        let Some(room) = state.buffer.room(region, want).filter(|room| !room.is_empty()) else {
            return (0, true);
        };
        match outside.tcp.peek(psock, &mut region[room]) {
            Ok(n) if n > 0 => {
                let start = state.buffer.filled().start;
                state.dealing.begin(state.strp, state.taken, (start, kept, n));
                state.buffer.fill(n);
                return (n, n < want);
            }
            Ok(_) => state.ended = true,
            Err(EAGAIN) => {}
            Err(_) => {
                state.ended = true;
                self.post(psock, EPIPE);
            }
        }
        (0, true)
    }

    /// Takes from TCP what of the bytes peeked was dealt out or belongs to the message at the buffer's start, and forgets
    /// the rest: how many bytes were taken.
    fn take<T: Tcp>(&mut self, psock: PsockId, peeked: usize, tcp: &mut T) -> usize {
        let state = &mut self.psocks[psock.index()];
        let kept = state.strp.taken().max(state.ready as usize);
        let vain = state.buffer.len().saturating_sub(kept).min(peeked);
        state.buffer.truncate_by(vain);
        let taken = peeked - vain;
        if taken > 0 {
            state.dealing.take(taken);
            tcp.take(psock, taken);
            state.taken = state.taken.saturating_add(taken as u64);
        }
        state.dealing.end();
        taken
    }

    /// Nothing is cut any more. What was taken of the message at hand is lost; the rest is for raw reads.
    fn stop_receiving(&mut self, psock: PsockId, error: Errno) {
        let state = &mut self.psocks[psock.index()];
        let lost = state.strp.stop();
        state.buffer.consume(lost);
        self.post(psock, error);
    }
}
