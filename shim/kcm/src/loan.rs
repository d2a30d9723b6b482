//! Receiving without the mux's lock.
//!
//! What a csock has received concerns that one alone, and messages of one psock that go to one csock no more than the two. A
//! call on the csock *borrows* it under the lock, with a psock if it is the csock's turn to get messages, receives and reads
//! without the lock, while others do the same with other sockets, and goes on so with the next calls, until it gives them
//! back under the lock.
//!
//! Nobody but the borrower touches the receiving side of what is lent meanwhile, nor their regions [`Region::Psock`] and
//! [`Region::Received`]:
//!
//! - [`MuxState::pull`] leaves a psock that is lent alone, and notes that somebody asked: then it is one of
//!   [`MuxState::unread`] when it comes back. [`MuxState::expire`] passes over it; its time-out is looked at again.
//! - Nothing is steered to a csock that is lent. It keeps its place in the list of receivers.
//! - A csock that has messages has them as long as it is lent: whoever takes the last one gives it back.
//! - Sending, sleeping and waking are of other fields, and go on.
//! - Where somebody waits for messages, or they for him, what is lent is to come back ([`MuxState::wanted_back`]): he goes
//!   before who has some.
//! - All else waits until nothing is lent ([`MuxState::lent`]): sockets that come and go, options, a fork, repair. A mux
//!   that other processes may have lends nothing, since a loan ends with the process that has it.

use zerocopy::TryFromBytes;

use crate::direct::Sink;
use crate::errno::{EAGAIN, Errno};
use crate::id::{CsockId, PsockId, Set};
use crate::mux::{CSOCK, Csock, MuxState, NO_COUNTS, PSOCK, Psock};
use crate::outside::{Outside, Region, Regions, Tcp};
use crate::pull::BATCH_BYTES;
use crate::strparser::Cut;

/// See [`MuxState::has_much`]: as SO_RCVBUF counts.
const MUCH: u64 = 32 << 10;
/// See [`MuxState::has_short`], in bytes.
const SHORT: u32 = 4 << 10;

/// What is lent.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, TryFromBytes)]
pub(crate) struct Lent {
    pub(crate) psocks: Set<PsockId>,
    pub(crate) csocks: Set<CsockId>,
    /// Those of the csocks that have a psock.
    reading: Set<CsockId>,
    /// Those of the psocks that somebody else was about to read.
    asked: Set<PsockId>,
}

impl Lent {
    pub(crate) const NONE: Self =
        Self { psocks: Set::EMPTY, csocks: Set::EMPTY, reading: Set::EMPTY, asked: Set::EMPTY };

    /// Whether this psock is lent; then it is noted that somebody asked.
    pub(crate) fn ask(&mut self, psock: PsockId) -> bool {
        let lent = self.psocks.contains(psock);
        if lent {
            self.asked.insert(psock);
        }
        lent
    }
}

/// A csock, and a psock perhaps, lent to a call on the csock. Their counts are those of the loan.
#[derive(Debug)]
#[must_use = "what is lent is to be given back"]
pub struct Loan {
    psock: Option<PsockId>,
    csock: CsockId,
    from: Psock,
    to: Csock,
    /// Messages are queued with the names of their connections.
    named: bool,
    /// TCP had no more.
    drained: bool,
    /// What is to be posted on the psock.
    failed: Option<Errno>,
}

impl MuxState {
    /// Lends a csock to a call on it, and a psock, if the next message of that would be for the csock. None where that is not so, or
    /// the csock alone would be of no use.
    pub fn lend(&mut self, psock: Option<PsockId>, csock: CsockId) -> Option<Loan> {
        let may = match psock {
            Some(psock) => self.may_read(psock, csock),
            None => self.csocks[csock.index()].rx.messages > 0,
        };
        if !may || !self.lent.csocks.insert(csock) {
            return None;
        }
        if let Some(psock) = psock {
            self.lent.psocks.insert(psock);
            self.lent.reading.insert(csock);
            self.unread.remove(psock);
        }
        let from = psock.map_or(PSOCK, |psock| Psock { stats: NO_COUNTS, ..self.psocks[psock.index()] });
        let to = Csock { stats: CSOCK.stats, ..self.csocks[csock.index()] };
        self.csocks[csock.index()].rx = CSOCK.rx;
        Some(Loan { psock, csock, from, to, named: self.named, drained: false, failed: None })
    }

    /// Whether a call on a csock may have a psock: if it has messages, nobody goes before it.
    fn may_read(&self, psock: PsockId, csock: CsockId) -> bool {
        let Csock { rx, sleepers, .. } = &self.csocks[csock.index()];
        let is_next = || match rx.messages {
            0 => self.next_receiver(Some(csock)) == Some(csock),
            _ => *sleepers == 0 && !self.somebody_waits(),
        };
        self.receives(psock) && !self.lent.psocks.contains(psock) && self.receivers.contains(csock) && is_next()
    }

    /// Whether a call on a csock has more before it than is copied at once: then it is to borrow the csock.
    pub fn has_much(&self, csock: CsockId) -> bool {
        self.csocks[csock.index()].rx.charge > MUCH
    }

    /// Whether a psock's messages are so short that to copy one once more, so that there is one for the next call, costs less than
    /// the mux's lock.
    pub fn has_short(&self, psock: PsockId) -> bool {
        self.psocks[psock.index()].mean <= SHORT
    }

    /// Whether there are csocks for several calls at a time.
    pub fn has_several(&self) -> bool {
        self.open.only().is_none()
    }

    /// The csocks that are lent.
    pub fn lent(&self) -> Set<CsockId> {
        self.lent.csocks
    }

    /// Those of them that are to come back as soon as no call is about to read them: with a psock that is for somebody else, or
    /// with room for what waits.
    pub fn wanted_back(&self) -> Set<CsockId> {
        if self.lent.csocks.is_empty() {
            Set::EMPTY
        } else if self.something_waits() {
            self.lent.csocks.and(self.receivers.all())
        } else if self.somebody_is_idle() {
            self.lent.reading
        } else {
            Set::EMPTY
        }
    }

    /// Whether there is a csock that would get messages before one that has some, or a message that waits for room.
    pub fn somebody_waits(&self) -> bool {
        self.something_waits() || self.somebody_is_idle()
    }

    fn something_waits(&self) -> bool {
        !self.ready.is_empty() || self.held.messages > 0
    }

    fn somebody_is_idle(&self) -> bool {
        let busy = self.holding.and(self.sleeping.others());
        let is_idle = |id: CsockId| self.csocks[id.index()].rx.messages < self.csocks[id.index()].sleepers.max(1);
        self.receivers.first_of(busy.others().and(self.lent.csocks.others()), is_idle).is_some()
    }

    /// Takes back what was lent, at this time in nanoseconds, and deals out what the borrower could not. True when there may be
    /// more to read: see [`MuxState::pull`].
    pub fn give_back<M: Regions, T: Tcp>(
        &mut self,
        loan: Loan,
        now: impl FnOnce() -> u64,
        outside: &mut Outside<'_, M, T>,
    ) -> bool {
        let Loan { psock, csock, to, .. } = &loan;
        let (csock, psock) = (*csock, *psock);
        let (gained, waits) = (loan.from.stats.rx_msgs > 0, self.something_waits());
        self.lent.csocks.remove(csock);
        let receiver = &mut self.csocks[csock.index()];
        receiver.rx = to.rx;
        receiver.stats.rx_msgs += to.stats.rx_msgs;
        receiver.stats.rx_bytes += to.stats.rx_bytes;
        if receiver.rx.messages > 0 && gained {
            self.note_gain(csock);
        } else if self.holding.contains(csock) {
            self.note_if_empty(csock);
        }
        if self.receivers.contains(csock) && (gained || waits) {
            self.receivers.remove(csock);
            if loan.from.ready == 0 {
                self.refill(csock, outside.memory);
            }
        } else {
            self.refill_if_low(csock, outside.memory);
        }
        self.lent.reading.remove(csock);
        psock.is_some_and(|psock| self.take_back(psock, loan, now, outside))
    }

    fn take_back<M: Regions, T: Tcp>(
        &mut self,
        psock: PsockId,
        loan: Loan,
        now: impl FnOnce() -> u64,
        outside: &mut Outside<'_, M, T>,
    ) -> bool {
        let Loan { from: Psock { buffer, strp, dealing, taken, mean, ended, ready, mut stats, .. }, .. } = loan;
        self.lent.psocks.remove(psock);
        if stats.rx_msgs > 0 {
            // The mux adds up when a csock is taken for a batch, the first message of which is counted then.
            stats.rx_msgs -= 1;
            self.psocks[psock.index()].stats.rx_msgs += 1;
            self.add_received(psock);
        }
        let state = &mut self.psocks[psock.index()];
        *state = Psock { buffer, strp, dealing, taken, mean, ended, ready, ..*state };
        state.stats.add(&stats);
        if let Some(error) = loan.failed {
            self.post(psock, error);
        }
        if ready > 0 {
            // The csock is full: it is out of the list until it is emptied.
            self.ready.push_back(psock);
            self.serve_ready(outside.memory);
        }
        if loan.drained && !self.psocks[psock.index()].strp.is_between() {
            self.psocks[psock.index()].strp.keep_time(psock, now(), outside.tcp);
        }
        let asked = self.lent.asked.remove(psock);
        let more = (asked || !loan.drained) && self.receives(psock);
        self.unread.assign(psock, more);
        more
    }

    /// A psock waits with a message: whoever has room takes it.
    fn serve_ready<M: Regions>(&mut self, memory: &mut M) {
        while !self.ready.is_empty()
            && let Some(csock) = self.next_receiver(None)
        {
            self.receivers.remove(csock);
            self.refill(csock, memory);
        }
    }
}

impl Loan {
    /// Messages that the csock has.
    pub fn messages(&self) -> u32 {
        self.to.rx.messages
    }

    /// Whether the next call may have it as it is: there is something for that one, and nothing to be done with the lock.
    pub fn may_go_on(&self) -> bool {
        let Csock { rx, low_water, .. } = &self.to;
        let has_some = rx.messages > 0 && rx.charge >= u64::from(*low_water);
        let between = !self.drained || self.from.strp.is_between();
        has_some && self.failed.is_none() && self.from.receives() && between
    }

    /// Receives what the csock has, as long as there are buffers for it.
    pub fn receive<M: Regions, S: Sink>(&mut self, sink: &mut S, memory: &mut M) {
        let region = memory.region(Region::Received(self.csock));
        while let Some(want) = sink.room() {
            if self.to.receive(want, 0, region, |bytes, received| sink.put(bytes, received)) == Err(EAGAIN) {
                return;
            }
        }
    }

    /// Reads one batch, as [`MuxState::pull`] does, for the call's buffers and its csock's queue. Of `outside` only the two
    /// regions and the one TCP socket are asked for, and that for what reading takes.
    pub fn read<M: Regions, T: Tcp, S: Sink>(&mut self, sink: &mut S, outside: &mut Outside<'_, M, T>) {
        let Some(psock) = self.psock else { return };
        let mut taken = 0;
        self.drained = false;
        while !self.drained && taken < BATCH_BYTES && self.from.receives() && !self.to.has_enough(sink) {
            let likely = self.to.likely(sink.left(), self.from.mean as usize);
            let peeked;
            (peeked, self.drained) = self.peek(psock, likely, outside);
            if peeked > 0 {
                self.cut(psock, sink, (peeked, self.drained), outside);
                let n = self.from.take(psock, peeked, outside.tcp);
                taken += n;
                self.drained |= n == 0;
            }
        }
    }

    fn peek<M: Regions, T: Tcp>(
        &mut self,
        psock: PsockId,
        likely: usize,
        outside: &mut Outside<'_, M, T>,
    ) -> (usize, bool) {
        self.from.peek(psock, likely, outside).unwrap_or_else(|error| {
            self.failed = Some(error);
            (0, true)
        })
    }

    fn cut<M: Regions, T: Tcp, S: Sink>(
        &mut self,
        psock: PsockId,
        sink: &mut S,
        peeked: (usize, bool),
        outside: &mut Outside<'_, M, T>,
    ) {
        let before = self.from.stats;
        let (mut look, memory) = Psock::look(psock, peeked, outside);
        loop {
            match self.from.cut_direct(Some((&mut self.to, &mut *sink)), &mut look, memory) {
                Cut::More => break,
                Cut::Message(len) => self.deal(psock, len, sink, memory),
                Cut::Error(error) => {
                    self.from.stop_receiving();
                    self.failed = Some(error);
                }
            }
        }
        self.from.count(&before);
    }

    /// Deals out the message of `len` bytes at the start of the buffer, or has the psock wait with it.
    fn deal<M: Regions, S: Sink>(&mut self, psock: PsockId, len: usize, sink: &mut S, memory: &mut M) {
        let message = self.from.first(len, self.named);
        let dealt = self.to.put_direct(self.csock, (psock, message.clone()), sink, memory)
            || self.to.queue(self.csock, (Region::Psock(psock), message), memory);
        if dealt {
            self.from.buffer.consume(len);
        } else {
            self.from.ready = len as u32;
        }
    }
}
