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
//! reads, polls and unattach. A psock peeks no more than it could probably take: a little more than in the last batch that
//! ended for want of room, and twice as much each time that nothing was shown in vain.
//!
//! # Straight to the caller
//!
//! A call that found its csock empty pulls for itself, and gives its buffers along ([`Sink`]). When it is this csock's
//! turn, messages go from the psock's region into those buffers, and no other memory is touched. Whatever does not fit is
//! queued. They are steered and counted as if they had been queued and then received, but not charged: they take no room
//! in the queue, so that its turn goes on as long as it has buffers, and then as long as SO_RCVBUF lets it.

use crate::errno::{EAGAIN, EPIPE, ETIMEDOUT, Errno};
use crate::id::{CsockId, PsockId, Set};
use crate::mux::{Kind, MuxState};
use crate::outside::{Outside, Region, Regions, Tcp};
use crate::queue::RECORD;
use crate::receive::Received;
use crate::strparser::{Cut, Look};

/// After so many bytes a batch ends, so that one psock does not keep others waiting.
pub const BATCH_BYTES: usize = 256 << 10;
/// Bytes that one peek asks for at least, beside what is missing of the message at hand.
pub const PEEK_LEAST: usize = 4 << 10;
/// Bytes that one peek asks for at most, beside what is missing of the message at hand.
pub const PEEK_MOST: usize = 64 << 10;

/// The buffers of a call that waits for messages: recvmmsg's, or one of recv's.
pub trait Sink {
    /// Bytes that the next buffer takes; none when there is no buffer left.
    fn room(&self) -> Option<usize>;
    /// Fills the next buffer, and turns to the one behind it. An error is for the sink to remember; the message is lost.
    fn put(&mut self, bytes: &[u8], received: Received) -> Result<(), Errno>;
}

/// No buffers.
#[derive(Clone, Copy, Debug)]
pub struct NoSink;

impl Sink for NoSink {
    fn room(&self) -> Option<usize> {
        None
    }

    fn put(&mut self, _bytes: &[u8], _received: Received) -> Result<(), Errno> {
        Ok(())
    }
}

/// Who pulls.
#[derive(Debug)]
pub struct Caller<'a, S> {
    /// The csock that it waits on; none for one that only serves the psocks.
    pub csock: Option<CsockId>,
    /// Its buffers.
    pub sink: &'a mut S,
    /// The time now, in nanoseconds of any clock that does not jump.
    pub now: u64,
}

/// One call of [`MuxState::pull`].
struct Batch<'a, S> {
    psock: PsockId,
    /// Who gets it.
    serving: Option<CsockId>,
    caller: Caller<'a, S>,
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
        while !drained && taken < BATCH_BYTES && self.receives(psock) {
            let is_last = self.has_room_for_none(&batch);
            let peeked;
            (peeked, drained) = self.peek(psock, is_last, outside);
            if peeked > 0 {
                self.cut(&mut batch, (peeked, drained), outside);
                let n = self.take(psock, peeked, outside.tcp);
                taken += n;
                drained |= n == 0;
            }
        }
        let state = &mut self.psocks[psock.index()];
        if taken > 0 && state.ready > 0 {
            // Nobody had room for more: a little more than this is enough the next time.
            state.window = (taken + taken / 4).min(PEEK_MOST) as u32;
        }
        if let Some(csock) = batch.serving {
            self.refill(csock, outside.memory);
        }
        let more = !drained && self.receives(psock);
        self.unread.assign(psock, more);
        more
    }

    /// Whether the next message has to wait for a receiver: the last one that is cut then.
    fn has_room_for_none<S: Sink>(&self, batch: &Batch<'_, S>) -> bool {
        let is_full = |csock| !self.accepts(csock) && batch.caller.sink.room().is_none();
        batch.serving.is_some_and(is_full) && self.receivers.is_empty()
    }

    /// Psocks to be pulled once more, whatever TCP says.
    pub fn unread(&self) -> Set<PsockId> {
        self.unread
    }

    /// Bytes without which no message of this psock gets whole, at least 1: what SO_RCVLOWAT of its TCP socket may be.
    pub fn missing(&self, psock: PsockId) -> usize {
        self.psocks[psock.index()].strp.need().map_or(1, |need| need.max(1) as usize)
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
        let mut look = Look { tcp: &mut *outside.tcp, psock, now: batch.caller.now, untaken, all, room, limit: None };
        loop {
            match self.cut_straight(batch, &mut look, outside.memory) {
                Cut::More => break,
                Cut::Message(len) => self.deal(batch, len, outside.memory),
                Cut::Error(error) => self.stop_receiving(psock, error),
            }
        }
        let state = &mut self.psocks[psock.index()];
        state.strp.count(&mut state.stats);
    }

    /// Cuts messages, and puts them into the caller's buffers as long as each is the caller's and has room in one. The answer
    /// is what else was found.
    fn cut_straight<M: Regions, T: Tcp, S: Sink>(
        &mut self,
        batch: &mut Batch<'_, S>,
        look: &mut Look<'_, T>,
        memory: &mut M,
    ) -> Cut {
        let from = &mut self.psocks[batch.psock.index()];
        if from.ready > 0 || from.strp.stopped() {
            return Cut::More;
        }
        let mine = batch.serving.filter(|csock| batch.caller.csock == Some(*csock));
        let mut to = mine.map(|csock| &mut self.csocks[csock.index()]).filter(|to| to.rx.messages == 0);
        let sink = &mut *batch.caller.sink;
        let mut bytes = &memory.region(Region::Psock(batch.psock))[from.buffer.filled()];
        while !bytes.is_empty() {
            let cut = from.strp.next(bytes, look, &mut from.stats);
            let (Cut::Message(len), Some(to), Some(room)) = (cut, to.as_mut(), sink.room()) else { return cut };
            let (mut received, finished) = Received::of(to.kind, len, room);
            if !finished {
                return cut;
            }
            received.connection = to.told(from.name);
            from.dealing.deal(len);
            let message;
            (message, bytes) = bytes.split_at(len);
            if sink.put(&message[..received.len], received).is_ok() {
                to.stats.rx_bytes += received.len as u64;
                to.stats.rx_msgs += 1;
            }
            from.buffer.consume(len);
        }
        Cut::More
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

    /// Puts the message into the caller's buffers, if it is for the caller and nothing is queued before it.
    fn put_direct<M: Regions, S: Sink>(
        &mut self,
        csock: CsockId,
        batch: &mut Batch<'_, S>,
        len: usize,
        memory: &mut M,
    ) -> bool {
        let sink = &mut *batch.caller.sink;
        if batch.caller.csock != Some(csock) || self.csocks[csock.index()].rx.messages > 0 || sink.room().is_none() {
            return false;
        }
        let tag = self.tag(batch.psock, len);
        let state = &mut self.csocks[csock.index()];
        let from = self.psocks[batch.psock.index()].buffer.filled().start;
        let region = memory.region(Region::Psock(batch.psock));
        let mut done = 0;
        while let Some(room) = sink.room() {
            let (mut received, finished) = Received::of(state.kind, len - done, room);
            received.connection = state.told(tag.connection);
            let put = sink.put(&region[from + done..from + done + received.len], received);
            done += received.len;
            if put.is_ok() {
                state.stats.rx_bytes += received.len as u64;
                state.stats.rx_msgs += u64::from(finished);
            }
            if finished || put.is_err() {
                return true;
            }
        }
        // Out of buffers in the middle of a SOCK_SEQPACKET message. There is room for its rest, the queue being empty.
        let rest = (Region::Psock(batch.psock), from + done..from + len);
        let queued = state.rx.push_from(memory, Region::Received(csock), rest, tag);
        debug_assert!(queued && state.kind == Kind::SeqPacket);
        self.note_gain(csock);
        true
    }

    /// Puts what TCP has behind the bytes that are taken: how many bytes, and whether that is all that there is now. Few for
    /// the last message.
    fn peek<M: Regions, T: Tcp>(
        &mut self,
        psock: PsockId,
        is_last: bool,
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
        let window = if is_last { PEEK_LEAST } else { (state.window as usize).clamp(PEEK_LEAST, PEEK_MOST) };
        let want = missing + window;
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
            if vain == 0 {
                state.window = state.window.max((2 * taken).min(PEEK_MOST) as u32);
            }
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
