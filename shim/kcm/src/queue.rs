//! Messages in a row in one region. Before each stands a record of eight bytes: its length, and its charge.
//!
//! A message comes in last of all when it is complete, and goes out first of all: whoever is killed in the middle loses
//! that message at most ([`crate::repair`]).

use core::ops::Range;

use zerocopy::TryFromBytes;

use crate::buffer::Buffer;
use crate::outside::{Region, Regions};
use crate::repair::in_order;

/// Bytes that a message needs in a region beside its own.
pub const RECORD: usize = 8;

/// A queue of messages. All zeros is the empty one.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, TryFromBytes)]
pub struct Queue {
    buffer: Buffer,
    /// Messages in it.
    pub messages: u32,
    /// Sum of their charges, whatever those count.
    pub charge: u64,
}

/// A message in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where its bytes are.
    pub bytes: Range<usize>,
    /// What it adds to [`Queue::charge`].
    pub charge: u32,
}

impl Queue {
    /// The empty queue.
    pub const EMPTY: Self = Self { buffer: Buffer::EMPTY, messages: 0, charge: 0 };

    /// Whether there is room for a message of `len` bytes in a region of `size`.
    pub fn fits(&self, size: usize, len: usize) -> bool {
        self.buffer.len() + RECORD + len <= size
    }

    /// Adds the message that stands in `source` at `from`. False, and nothing is done, when there is no room.
    pub fn push_from<M: Regions>(
        &mut self,
        memory: &mut M,
        this: Region,
        (source, from): (Region, Range<usize>),
        charge: u32,
    ) -> bool {
        let len = from.len();
        let Some(room) = self.begin(memory.region(this), len) else {
            return false;
        };
        memory.copy(source, from, this, room.start);
        self.finish(memory.region(this), len, charge);
        true
    }

    /// The message at the head.
    pub fn head(&self, region: &[u8]) -> Option<Message> {
        (self.messages > 0).then(|| self.message_at(region, self.buffer.filled().start))?
    }

    /// All messages, from the head.
    pub fn iter<'a>(&self, region: &'a [u8]) -> impl Iterator<Item = Message> + use<'a> {
        let (this, mut at, mut left) = (*self, self.buffer.filled().start, self.messages);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let message = this.message_at(region, at)?;
            at = message.bytes.end;
            Some(message)
        })
    }

    /// Takes the head out.
    pub fn pop(&mut self, region: &[u8]) -> Option<Message> {
        let head = self.head(region)?;
        self.buffer.consume(RECORD + head.bytes.len());
        in_order();
        self.messages -= 1;
        self.charge = self.charge.saturating_sub(u64::from(head.charge));
        Some(head)
    }

    /// Takes `n` bytes off the start of the head, which keeps its charge. `n` is less than the head's length.
    pub fn shorten(&mut self, region: &mut [u8], n: usize) {
        if let Some(head) = self.pop(region) {
            in_order();
            let (at, len) = (head.bytes.start + n - RECORD, head.bytes.len() - n);
            write_record(region, at, len, head.charge);
            self.messages += 1;
            self.charge += u64::from(head.charge);
            in_order();
            self.buffer.restore(at, RECORD + len);
        }
    }

    /// Opens a message at the end, with room for `len` bytes. It is not in the queue before [`Queue::finish`].
    pub fn begin(&mut self, region: &mut [u8], len: usize) -> Option<Range<usize>> {
        let room = self.buffer.room(region, RECORD + len)?;
        // What stands here of former messages is no record of this one.
        write_record(region, room.start, 0, 0);
        in_order();
        self.buffer.fill(RECORD + len);
        Some(room.start + RECORD..room.end)
    }

    /// Makes room for `len` bytes more in the open message.
    pub fn extend(&mut self, region: &mut [u8], len: usize) -> Option<Range<usize>> {
        let room = self.buffer.room(region, len)?;
        self.buffer.fill(len);
        Some(room)
    }

    /// Takes `n` bytes off the end of the open message.
    pub fn retract(&mut self, n: usize) {
        self.buffer.truncate_by(n);
    }

    /// Forgets the open message, which has `len` bytes.
    pub fn discard(&mut self, len: usize) {
        self.buffer.truncate_by(RECORD + len);
    }

    /// Ends the open message, which has `len` bytes.
    pub fn finish(&mut self, region: &mut [u8], len: usize, charge: u32) {
        let at = self.buffer.filled().end - len - RECORD;
        write_record(region, at, len, charge);
        in_order();
        self.messages += 1;
        self.charge += u64::from(charge);
    }

    /// Keeps the messages from the head on that are complete, and counts them anew. The answer is how many bytes stand
    /// behind them.
    pub(crate) fn repair(&mut self, region: &[u8]) -> usize {
        self.buffer.repair(region.len());
        let (mut at, mut messages, mut charge) = (self.buffer.filled().start, 0, 0);
        for message in self.iter(region) {
            at = message.bytes.end;
            messages += 1;
            charge += u64::from(message.charge);
        }
        (self.messages, self.charge) = (messages, charge);
        self.buffer.filled().end - at
    }

    /// Where in its region the queue begins.
    pub(crate) fn start(&self) -> usize {
        self.buffer.filled().start
    }

    /// Whether nothing is in it, no open message either.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Bytes of the messages that were taken out since the queue, which is not empty now, began at `start`; none when it
    /// cannot have begun there.
    pub(crate) fn gone_since(&self, region: &[u8], start: usize) -> Option<u64> {
        let (mut at, mut gone) = (start, 0);
        while at < self.start() {
            let message = self.message_at(region, at)?;
            gone += message.bytes.len() as u64;
            at = message.bytes.end;
        }
        (at == self.start()).then_some(gone)
    }

    /// None when what the record says is not all in the queue, or nothing: no message is empty.
    fn message_at(&self, region: &[u8], at: usize) -> Option<Message> {
        let record: &[u8; RECORD] = region.get(at..at + RECORD)?.try_into().ok()?;
        let [a, b, c, d, charge @ ..] = *record;
        let start = at + RECORD;
        let end = start + u32::from_ne_bytes([a, b, c, d]) as usize;
        (start < end && end <= self.buffer.filled().end)
            .then(|| Message { bytes: start..end, charge: u32::from_ne_bytes(charge) })
    }
}

#[cfg(test)]
impl Queue {
    /// Wrong numbers.
    pub(crate) fn scramble(&mut self, mut random: impl FnMut() -> u64) {
        match random() % 3 {
            0 => self.buffer.scramble(random),
            1 => self.messages = random() as u32,
            _ => self.charge = random(),
        }
    }
}

fn write_record(region: &mut [u8], at: usize, len: usize, charge: u32) {
    if let Some(record) = region.get_mut(at..at + RECORD) {
        record[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        record[4..].copy_from_slice(&charge.to_ne_bytes());
    }
}
