//! Straight from a psock's region into the buffers of the call that pulls.
//!
//! When it is this call's csock's turn and nothing is queued there, messages go to the caller's buffers ([`Sink`]), and no other
//! memory is touched. They are steered and counted as if they had been queued and then received, but not charged: they take
//! no room in the queue, so that its turn goes on as long as it has buffers, and then as long as SO_RCVBUF lets it.

use core::ops::Range;

use crate::errno::Errno;
use crate::id::{CsockId, PsockId};
use crate::mux::{Csock, Kind, MuxState, Psock};
use crate::outside::{Region, Regions, Tcp};
use crate::pull::Batch;
use crate::queue::Message;
use crate::receive::Received;
use crate::strparser::{Cut, Look, Seen};
use crate::transit::Dealing;

/// The buffers of a call that waits for messages: recvmmsg's, or one of recv's.
pub trait Sink {
    /// Bytes that the next buffer takes; none when there is no buffer left.
    fn room(&self) -> Option<usize>;
    /// Whether there were buffers, and none is left.
    fn is_full(&self) -> bool {
        self.room().is_none()
    }
    /// Buffers that are left, as far as that is known.
    fn left(&self) -> usize {
        usize::from(self.room().is_some())
    }
    /// Fills the next buffer, and turns to the one behind it. An error is for the sink to remember; the message is lost.
    fn put(&mut self, bytes: &[u8], received: Received) -> Result<(), Errno>;
    /// Fills one buffer after the other with what there is for it, until one cannot be filled: that message, the last, is
    /// lost, and the answer.
    fn fill<'a>(&mut self, messages: &mut impl Messages<'a>) -> Result<(), Received> {
        while let Some((bytes, received)) = self.room().and_then(|room| messages.next(room)) {
            self.put(bytes, received).map_err(|_| received)?;
        }
        Ok(())
    }
}

/// Messages for buffers.
pub trait Messages<'a> {
    /// The next one, for a buffer of so many bytes; none when there is none that has room. It is the caller's then.
    fn next(&mut self, room: usize) -> Option<(&'a [u8], Received)>;
}

/// No buffers.
#[derive(Clone, Copy, Debug)]
pub struct NoSink;

impl Sink for NoSink {
    fn room(&self) -> Option<usize> {
        None
    }

    fn is_full(&self) -> bool {
        false
    }

    fn put(&mut self, _bytes: &[u8], _received: Received) -> Result<(), Errno> {
        Ok(())
    }
}

/// Whole messages that go to the caller one after the other, and are counted together.
struct Run<'a, 'b, 'c, T: Tcp> {
    bytes: &'a [u8],
    look: &'b mut Look<'c, T>,
    dealing: &'b mut Dealing,
    kind: Kind,
    connection: u64,
    /// What was seen of the message behind them.
    seen: Option<Seen>,
    /// Messages, and bytes of them that had no room.
    dealt: u64,
    cut_off: usize,
}

impl<'a, T: Tcp> Messages<'a> for Run<'a, '_, '_, T> {
    #[inline(always)]
    fn next(&mut self, room: usize) -> Option<(&'a [u8], Received)> {
        if self.bytes.is_empty() || self.seen.is_some() {
            return None;
        }
        let seen = self.look.parse(self.bytes);
        let Seen::Whole(len) = seen else {
            self.seen = Some(seen);
            return None;
        };
        let (received, finished) = Received::of(self.kind, len, room);
        if !finished {
            self.seen = Some(seen);
            return None;
        }
        // Before he has it: see `crate::transit`.
        self.dealing.deal(len);
        let message;
        (message, self.bytes) = self.bytes.split_at(len);
        self.dealt += 1;
        self.cut_off += len - received.len;
        Some((&message[..received.len], Received { connection: self.connection, ..received }))
    }
}

impl Psock {
    /// Cuts messages, and puts them into the buffers of `to`'s call as long as each has room in one. The answer is what else
    /// was found.
    pub(crate) fn cut_direct<M: Regions, T: Tcp, S: Sink>(
        &mut self,
        to: Option<(&mut Csock, &mut S)>,
        look: &mut Look<'_, T>,
        memory: &mut M,
    ) -> Cut {
        if self.ready > 0 || self.strp.stopped() {
            return Cut::More;
        }
        let mut bytes = &memory.region(Region::Psock(look.psock))[self.buffer.filled()];
        let mut seen = None;
        if let Some((to, sink)) = to
            && to.rx.messages == 0
            && self.strp.is_between()
        {
            let (kind, connection, dealing) = (to.kind, to.told(self.name), &mut self.dealing);
            let mut run = Run { bytes, look, dealing, kind, connection, seen, dealt: 0, cut_off: 0 };
            let filled = sink.fill(&mut run);
            let Run { bytes: left, seen: found, dealt, cut_off, .. } = run;
            let taken = bytes.len() - left.len();
            (bytes, seen) = (left, found);
            let lost = filled.err().map_or(0, |lost| lost.len);
            to.stats.rx_msgs += dealt - u64::from(filled.is_err());
            to.stats.rx_bytes += (taken - cut_off - lost) as u64;
            self.strp.cut_whole(dealt, taken, &mut self.stats);
            self.buffer.consume(taken);
        }
        if seen.is_none() && !bytes.is_empty() {
            seen = Some(self.strp.see(bytes, look));
        }
        seen.map_or(Cut::More, |seen| self.strp.cut(seen, bytes, look, &mut self.stats))
    }
}

impl Csock {
    /// Puts a message of a psock's region into its call's buffers, if nothing is queued before it. It may take several of
    /// them; what is left of it is queued.
    pub(crate) fn put_direct<M: Regions, S: Sink>(
        &mut self,
        this: CsockId,
        (psock, message): (PsockId, Message),
        sink: &mut S,
        memory: &mut M,
    ) -> bool {
        if self.rx.messages > 0 || sink.room().is_none() {
            return false;
        }
        let region = memory.region(Region::Psock(psock));
        let Message { bytes: Range { mut start, end }, tag } = message;
        while let Some(room) = sink.room() {
            let (mut received, finished) = Received::of(self.kind, end - start, room);
            received.connection = self.told(tag.connection);
            let put = sink.put(&region[start..start + received.len], received);
            start += received.len;
            if put.is_ok() {
                self.stats.rx_bytes += received.len as u64;
                self.stats.rx_msgs += u64::from(finished);
            }
            if finished || put.is_err() {
                return true;
            }
        }
        // Out of buffers in the middle of a SOCK_SEQPACKET message. There is room for its rest, the queue being empty.
        let queued = self.rx.push_from(memory, Region::Received(this), (Region::Psock(psock), start..end), tag);
        debug_assert!(queued && self.kind == Kind::SeqPacket);
        true
    }
}

impl MuxState {
    /// Cuts messages, and puts them into the caller's buffers as long as each is the caller's and has room in one. The answer
    /// is what else was found.
    pub(crate) fn cut_direct<M: Regions, T: Tcp, S: Sink>(
        &mut self,
        batch: &mut Batch<'_, S>,
        look: &mut Look<'_, T>,
        memory: &mut M,
    ) -> Cut {
        let mine = batch.serving.filter(|csock| batch.caller.csock == Some(*csock));
        let to = mine.map(|csock| (&mut self.csocks[csock.index()], &mut *batch.caller.sink));
        self.psocks[batch.psock.index()].cut_direct(to, look, memory)
    }

    /// Puts the message of `len` bytes at the start of a psock's buffer into the caller's buffers, if it is for the caller and
    /// nothing is queued before it.
    pub(crate) fn put_direct<M: Regions, S: Sink>(
        &mut self,
        csock: CsockId,
        batch: &mut Batch<'_, S>,
        len: usize,
        memory: &mut M,
    ) -> bool {
        let message = self.psocks[batch.psock.index()].first(len, self.named);
        let to = &mut self.csocks[csock.index()];
        let put = batch.caller.csock == Some(csock)
            && to.put_direct(csock, (batch.psock, message), batch.caller.sink, memory);
        if put && to.rx.messages > 0 {
            self.note_gain(csock);
        }
        put
    }
}
