//! The receiving side of one psock, and what it gives to one csock. Nothing here looks at the rest of the mux: so it is the
//! same for who holds the mux's lock ([`crate::pull`]) and for who was lent the two ([`crate::loan`]).

use crate::direct::Sink;
use crate::errno::{EAGAIN, EPIPE, Errno};
use crate::id::{CsockId, PsockId};
use crate::mux::{Csock, Psock};
use crate::outside::{Outside, Region, Regions, Tcp};
use crate::queue::{Message, RECORD, Tag};
use crate::stats::PsockStats;
use crate::steer::charge;
use crate::strparser::Look;

/// Bytes that one peek asks for at least, beside what is missing of the message at hand.
pub const PEEK_LEAST: usize = 4 << 10;
/// Bytes that one peek asks for at most, beside what is missing of the message at hand.
pub const PEEK_MOST: usize = 64 << 10;
/// Messages that are queued beside those that go straight to a caller with many buffers: so that he comes again.
const FEW: usize = 4;

impl Psock {
    /// Whether it reads its TCP socket, as long as it is attached.
    pub(crate) fn receives(&self) -> bool {
        !self.strp.stopped() && self.ready == 0 && !self.ended
    }

    /// Puts what TCP has behind the bytes that are taken: how many bytes, and whether that is all that there is now. `likely`
    /// so many can be dealt out. An error, which is to be posted, ends the stream.
    pub(crate) fn peek<M: Regions, T: Tcp>(
        &mut self,
        psock: PsockId,
        likely: usize,
        outside: &mut Outside<'_, M, T>,
    ) -> Result<(usize, bool), Errno> {
        let missing = self.strp.need().unwrap_or(0) as usize;
        if missing > PEEK_LEAST && self.strp.leaves_rest() {
            let available = outside.tcp.available(psock);
            // With nothing there it may be the end, which only a peek finds out.
            if available > 0 && available < missing {
                return Ok((0, true));
            }
        }
        let region = outside.memory.region(Region::Psock(psock));
        let want = missing + likely.clamp(PEEK_LEAST, PEEK_MOST);
        let want = want.min(region.len().saturating_sub(self.buffer.len()));
        let kept = self.buffer.len();
        let Some(room) = self.buffer.room(region, want).filter(|room| !room.is_empty()) else {
            return Ok((0, true));
        };
        match outside.tcp.peek(psock, &mut region[room]) {
            Ok(n) if n > 0 => {
                let start = self.buffer.filled().start;
                self.dealing.begin(self.strp, self.taken, (start, kept, n));
                self.buffer.fill(n);
                return Ok((n, n < want));
            }
            Ok(_) => self.ended = true,
            Err(EAGAIN) => {}
            Err(_) => {
                self.ended = true;
                return Err(EPIPE);
            }
        }
        Ok((0, true))
    }

    /// A look at the bytes of the buffer, `untaken` of which TCP has, and these are all that it has, or not.
    pub(crate) fn look<'t, M: Regions, T: Tcp>(
        psock: PsockId,
        (untaken, all): (usize, bool),
        outside: &'t mut Outside<'_, M, T>,
    ) -> (Look<'t, T>, &'t mut M) {
        let room = outside.memory.region(Region::Psock(psock)).len().saturating_sub(RECORD);
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let parser = outside.tcp.parser(psock);
        (Look { tcp: &mut *outside.tcp, parser, psock, untaken, all, room, limit: None }, &mut *outside.memory)
    }

    /// Messages were cut since its counts were these.
    pub(crate) fn count(&mut self, before: &PsockStats) {
        self.strp.count(&mut self.stats);
        let (bytes, messages) = (self.stats.rx_bytes - before.rx_bytes, self.stats.rx_msgs - before.rx_msgs);
        if messages > 0 {
            self.mean = bytes.div_ceil(messages) as u32;
        }
    }

    /// Takes from TCP what of the bytes peeked was dealt out or belongs to the message at the buffer's start, and forgets
    /// the rest: how many bytes were taken.
    pub(crate) fn take<T: Tcp>(&mut self, psock: PsockId, peeked: usize, tcp: &mut T) -> usize {
        let kept = self.strp.taken().max(self.ready as usize);
        let vain = self.buffer.len().saturating_sub(kept).min(peeked);
        self.buffer.truncate_by(vain);
        let taken = peeked - vain;
        if taken > 0 {
            self.dealing.take(taken);
            tcp.take(psock, taken);
            self.taken = self.taken.saturating_add(taken as u64);
        }
        self.dealing.end();
        taken
    }

    /// Nothing is cut any more. What was taken of the message at hand is lost; the rest is for raw reads.
    pub(crate) fn stop_receiving(&mut self) {
        let lost = self.strp.stop();
        self.buffer.consume(lost);
    }

    /// The message of `len` bytes at the start of the buffer. It is `named` after its connection, or not.
    pub(crate) fn first(&self, len: usize, named: bool) -> Message {
        let start = self.buffer.filled().start;
        Message { bytes: start..start + len, tag: self.tag(len, named) }
    }

    /// What is to be known of a message of `len` bytes that it cut.
    pub(crate) fn tag(&self, len: usize, named: bool) -> Tag {
        Tag { charge: charge(len), connection: if named { self.name } else { 0 } }
    }
}

impl Csock {
    /// Whether SO_RCVBUF lets it take a message now, of whatever length.
    pub(crate) fn accepts(&self) -> bool {
        self.rx.charge < u64::from(self.receive_buffer.max(1))
    }

    /// Bytes of messages with a length of `mean` that can probably be dealt out to it: those of the `left` buffers of its
    /// call, and as many as SO_RCVBUF lets be queued beside. If there are many buffers only a few are, since a queued message
    /// is copied once more.
    pub(crate) fn likely(&self, left: usize, mean: usize) -> usize {
        let room = u64::from(self.receive_buffer).saturating_sub(self.rx.charge);
        let queued = room.div_ceil(charge(mean).into()) as usize;
        let beside = if left > queued { queued.min(FEW) } else { queued };
        left.saturating_add(beside).saturating_mul(mean)
    }

    /// Whether a call has its buffers filled, and something is queued for which another one will come.
    pub(crate) fn has_enough<S: Sink>(&self, sink: &S) -> bool {
        self.rx.messages > 0 && sink.is_full()
    }

    /// Queues a message that stands in another region. False when there is no room.
    pub(crate) fn queue<M: Regions>(
        &mut self,
        this: CsockId,
        (source, message): (Region, Message),
        memory: &mut M,
    ) -> bool {
        self.accepts() && self.rx.push_from(memory, Region::Received(this), (source, message.bytes), message.tag)
    }
}
