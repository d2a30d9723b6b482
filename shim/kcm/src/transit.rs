//! Bytes on their way out of TCP or into it: what is noted while they move, so that whoever finds the state of a killed
//! process can tell from TCP's own counts how far they had come.
//!
//! Positions are those of TCP's streams ([`Tcp::read_position`], [`Tcp::write_position`]). They are asked for at attach, and
//! by [`MuxState::repair`]; in between a psock counts along. When the program reads or writes the TCP socket itself, its
//! count does not fit, and what TCP tells says nothing: then the psock is stopped. A position that is not known fits to
//! none.
//!
//! **Reading.** Bytes are peeked, dealt out, and then taken at once. So TCP was read up to where they began, or as far as
//! they were to be taken, and no other place. What is dealt out is counted before somebody has it.
//!
//! **Writing.** TCP has any part of the bytes that one write was given. The messages that left are still in their region,
//! since nothing is put there during a write.

use core::ops::Range;

use zerocopy::TryFromBytes;

use crate::buffer::Buffer;
use crate::id::{CsockId, PsockId};
use crate::mux::MuxState;
use crate::outside::{Outside, Region, Regions, Tcp};
use crate::repair::in_order;
use crate::strparser::Strparser;
use crate::transmit::csock;

/// The position of a psock whose TCP socket does not tell it.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// What was peeked and is being dealt out.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, TryFromBytes)]
pub(crate) struct Dealing {
    /// The parser before it was shown any of it.
    before: Strparser,
    /// Where TCP stands, as long as nothing is taken out of it.
    position: u64,
    /// Where in the region the buffer begins.
    start: u32,
    /// Bytes in the buffer before those that were peeked.
    kept: u32,
    /// Bytes that were peeked; 0 when nothing is dealt out.
    peeked: u32,
    /// Bytes at the buffer's start that were dealt out.
    dealt: u32,
    /// Bytes that TCP is told to take.
    taking: u32,
}

/// A write under way.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, TryFromBytes)]
pub(crate) struct Writing {
    /// The position of the first byte of the csock's first message, or of the one that is sent straight.
    position: u64,
    /// Where in the csock's region that message is.
    start: u32,
    /// Length of the message that is sent straight; 0 when it is the csock's queue.
    straight: u32,
    /// Whether there is one.
    pub(crate) under_way: bool,
}

impl Dealing {
    pub(crate) const NONE: Self =
        Self { before: Strparser::NEW, position: 0, start: 0, kept: 0, peeked: 0, dealt: 0, taking: 0 };

    /// `peeked` bytes stand behind those of the buffer, which keeps `kept` ones from `start` on.
    pub(crate) fn begin(&mut self, before: Strparser, position: u64, (start, kept, peeked): (usize, usize, usize)) {
        let (start, kept) = (start as u32, kept as u32);
        *self = Self { before, position, start, kept, peeked: 0, dealt: 0, taking: 0 };
        in_order();
        self.peeked = peeked as u32;
        in_order();
    }

    /// `len` bytes more belong to somebody, as soon as he has them.
    pub(crate) fn deal(&mut self, len: usize) {
        self.dealt += len as u32;
        in_order();
    }

    /// Nobody took them.
    pub(crate) fn retract(&mut self, len: usize) {
        in_order();
        self.dealt -= len as u32;
    }

    /// `n` bytes are about to be taken.
    pub(crate) fn take(&mut self, n: usize) {
        self.taking = n as u32;
        in_order();
    }

    /// All is dealt out.
    pub(crate) fn end(&mut self) {
        in_order();
        self.peeked = 0;
    }

    /// Whether there is something that is being dealt out.
    pub(crate) fn under_way(&self) -> bool {
        self.peeked > 0
    }

    /// What is in the buffer when `taken` of the bytes peeked are.
    fn buffer(&self, taken: u32, region: usize) -> Option<Buffer> {
        let start = self.start.checked_add(self.dealt)?;
        let end = self.start.checked_add(self.kept)?.checked_add(taken)?;
        (taken <= self.peeked && start <= end && end as usize <= region).then(|| Buffer::new(start, end))
    }
}

impl Writing {
    pub(crate) const NONE: Self = Self { position: 0, start: 0, straight: 0, under_way: false };

    /// A csock's queue, which begins at `start`, is written from `position` on.
    pub(crate) fn begin(&mut self, position: u64, start: usize) {
        self.note(Self { position, start: start as u32, straight: 0, under_way: false });
    }

    /// A message of `len` bytes is written that is in no queue.
    pub(crate) fn begin_straight(&mut self, position: u64, len: usize) {
        self.note(Self { position, start: 0, straight: len as u32, under_way: false });
    }

    fn note(&mut self, this: Self) {
        *self = this;
        in_order();
        self.under_way = true;
        in_order();
    }

    /// It is over, and accounted for.
    pub(crate) fn end(&mut self) {
        in_order();
        self.under_way = false;
    }
}

impl MuxState {
    /// Where a new psock's streams are.
    pub(crate) fn locate<T: Tcp>(&mut self, psock: PsockId, tcp: &mut T) {
        let read = tcp.read_position(psock).unwrap_or(UNKNOWN);
        let written = tcp.write_position(psock).unwrap_or(UNKNOWN);
        let state = &mut self.psocks[psock.index()];
        (state.taken, state.given) = (read, written);
    }

    /// Ends what was being dealt out: as if it had not begun, or with what is dealt out taken. False when TCP does not tell
    /// what was taken, or something else was.
    pub(crate) fn repair_dealing<M: Regions, T: Tcp>(
        &mut self,
        psock: PsockId,
        outside: &mut Outside<'_, M, T>,
    ) -> bool {
        let len = outside.memory.region(Region::Psock(psock)).len();
        let Some(read) = outside.tcp.read_position(psock) else { return false };
        let state = &mut self.psocks[psock.index()];
        let Dealing { before, position, kept, dealt, taking, .. } = state.dealing;
        if position == UNKNOWN {
            return false;
        }
        let taken = match read.checked_sub(position) {
            Some(0) => 0,
            Some(n) if n == u64::from(taking) => taking,
            _ => return false,
        };
        // A message is longer than what was kept of it.
        let owed = if taken > 0 { 0 } else { dealt.saturating_sub(kept) };
        let Some(buffer) = state.dealing.buffer(taken + owed, len) else { return false };
        if taken == 0 {
            // Whatever else was found will be found again.
            (state.strp, state.ready) = (if dealt == 0 { before } else { Strparser::NEW }, 0);
        }
        if owed > 0 {
            if outside.tcp.available(psock) < owed as usize {
                return false;
            }
            state.dealing.take(owed as usize);
            outside.tcp.take(psock, owed as usize);
        }
        let state = &mut self.psocks[psock.index()];
        state.taken = position + u64::from(taken + owed);
        state.buffer = buffer;
        state.dealing.end();
        true
    }

    /// Ends a write where TCP ended it: messages that left are no longer queued. False when TCP does not tell how far it
    /// came, or has a part of a message that is nowhere else.
    pub(crate) fn repair_writing<M: Regions, T: Tcp>(
        &mut self,
        psock: PsockId,
        outside: &mut Outside<'_, M, T>,
    ) -> bool {
        let state = &self.psocks[psock.index()];
        let Writing { position, start, straight, .. } = state.writing;
        let written = outside.tcp.write_position(psock).filter(|&at| state.given != UNKNOWN && at >= state.given);
        let (Some(written), Some(csock)) = (written, csock(state.tx_csock)) else { return false };
        let region = outside.memory.region(Region::ToSend(csock));
        let tx = &self.csocks[csock.index()].tx;
        let gone = written.checked_sub(position);
        let whole = gone == Some(0) || gone == Some(u64::from(straight));
        let begins = match (straight, tx.is_empty()) {
            (0, true) => Some(written),
            (0, false) => tx.gone_since(region, start as usize).and_then(|gone| position.checked_add(gone)),
            (_, true) => whole.then_some(written),
            (_, false) => Some(position),
        };
        let Some(sent) = begins.and_then(|begins| written.checked_sub(begins)) else { return false };
        if tx.iter(region).map(|message| message.bytes.len() as u64).sum::<u64>() < sent {
            return false;
        }
        self.drop_sent(csock, sent as u32, region);
        let state = &mut self.psocks[psock.index()];
        state.given = written;
        state.writing.end();
        true
    }

    /// Of a csock's messages so many bytes have left.
    fn drop_sent(&mut self, csock: CsockId, mut sent: u32, region: &[u8]) {
        let state = &mut self.csocks[csock.index()];
        while let Some(Range { start, end }) = state.tx.head(region).map(|head| head.bytes)
            && end - start <= sent as usize
        {
            state.tx.pop(region);
            in_order();
            sent -= (end - start) as u32;
        }
        (state.sent, state.writing) = (sent, 0);
    }
}

#[cfg(test)]
impl Dealing {
    /// Wrong numbers.
    pub(crate) fn scramble(&mut self, mut random: impl FnMut() -> u64) {
        (self.position, self.start, self.kept) = (random(), random() as u32, random() as u32);
        (self.peeked, self.dealt, self.taking) = (random() as u32, random() as u32, random() as u32);
        self.before.scramble(random);
    }
}

#[cfg(test)]
impl Writing {
    /// Wrong numbers.
    pub(crate) fn scramble(&mut self, mut random: impl FnMut() -> u64) {
        (self.position, self.start, self.straight) = (random(), random() as u32, random() as u32);
        self.under_way = random() & 1 == 0;
    }
}
