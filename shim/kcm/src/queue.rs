//! Messages in a row in one region. Before each stands a record of eight bytes: its length, and its charge. The name of the
//! connection that a message came from or is to go to takes eight more, where there is one; the length says so.
//!
//! A message comes in last of all when it is complete, and goes out first of all: whoever is killed in the middle loses
//! that message at most ([`crate::repair`]).

use core::ops::Range;

use zerocopy::TryFromBytes;

use crate::buffer::Buffer;
use crate::outside::{Region, Regions};
use crate::repair::in_order;

/// Bytes that a message needs in a region beside its own, at most.
pub const RECORD: usize = 16;
/// Bytes of a record without a name.
const UNNAMED: usize = 8;
/// In a record's length: a name follows.
const NAMED: u32 = 1 << 31;

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
    /// What is known of it.
    pub tag: Tag,
}

/// What is known of a message beside its bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tag {
    /// What it adds to [`Queue::charge`].
    pub charge: u32,
    /// The connection that it came from or is to go to ([`crate::MuxState::attach`]); 0 for any.
    pub connection: u64,
}

/// Bytes of the record of a message of this connection.
pub(crate) fn record_len(connection: u64) -> usize {
    if connection == 0 { UNNAMED } else { RECORD }
}

impl Queue {
    /// The empty queue.
    pub const EMPTY: Self = Self { buffer: Buffer::EMPTY, messages: 0, charge: 0 };

    /// Whether there is room for this message in a region of `size`.
    pub fn fits(&self, size: usize, message: &Message) -> bool {
        self.buffer.len() + record_len(message.tag.connection) + message.bytes.len() <= size
    }

    /// Adds the message that stands in `source` at `from`. False, and nothing is done, when there is no room.
    pub fn push_from<M: Regions>(
        &mut self,
        memory: &mut M,
        this: Region,
        (source, from): (Region, Range<usize>),
        tag: Tag,
    ) -> bool {
        let len = from.len();
        let Some(room) = self.begin(memory.region(this), len, tag.connection) else {
            return false;
        };
        memory.copy(source, from, this, room.start);
        self.finish(memory.region(this), len, tag);
        true
    }

    /// The message at the head.
    #[inline]
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
    #[inline]
    pub fn pop(&mut self, region: &[u8]) -> Option<Message> {
        let head = self.head(region)?;
        self.buffer.consume(head.bytes.end - self.start());
        in_order();
        self.messages -= 1;
        self.charge = self.charge.saturating_sub(u64::from(head.tag.charge));
        Some(head)
    }

    /// Takes `n` bytes off the start of the head, which keeps its charge. `n` is less than the head's length.
    pub fn shorten(&mut self, region: &mut [u8], n: usize) {
        if let Some(head) = self.pop(region) {
            in_order();
            let record = record_len(head.tag.connection);
            let (at, len) = (head.bytes.start + n - record, head.bytes.len() - n);
            write_record(region, at, len, head.tag);
            self.messages += 1;
            self.charge += u64::from(head.tag.charge);
            in_order();
            self.buffer.restore(at, record + len);
        }
    }

    /// Opens a message of this connection at the end, with room for `len` bytes. It is not in the queue before
    /// [`Queue::finish`].
    pub fn begin(&mut self, region: &mut [u8], len: usize, connection: u64) -> Option<Range<usize>> {
        let record = record_len(connection);
        let room = self.buffer.room(region, record + len)?;
        // What stands here of former messages is no record of this one.
        write_record(region, room.start, 0, Tag::default());
        in_order();
        self.buffer.fill(record + len);
        Some(room.start + record..room.end)
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

    /// Forgets the open message, which has `len` bytes and was opened for this connection.
    pub fn discard(&mut self, len: usize, connection: u64) {
        self.buffer.truncate_by(record_len(connection) + len);
    }

    /// Ends the open message, which has `len` bytes and was opened for the tag's connection.
    pub fn finish(&mut self, region: &mut [u8], len: usize, tag: Tag) {
        let at = self.buffer.filled().end - len - record_len(tag.connection);
        write_record(region, at, len, tag);
        in_order();
        self.messages += 1;
        self.charge += u64::from(tag.charge);
    }

    /// Keeps the messages from the head on that are complete, and counts them anew. The answer is how many bytes stand
    /// behind them.
    pub(crate) fn repair(&mut self, region: &[u8]) -> usize {
        self.buffer.repair(region.len());
        let (mut at, mut messages, mut charge) = (self.buffer.filled().start, 0, 0);
        for message in self.iter(region) {
            at = message.bytes.end;
            messages += 1;
            charge += u64::from(message.tag.charge);
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
        let record = word(region, at)?;
        let (len, mut start, mut connection) = (record as u32, at + UNNAMED, 0);
        if len & NAMED != 0 {
            connection = word(region, start)?;
            start = at + RECORD;
        }
        let end = start + (len & !NAMED) as usize;
        let tag = Tag { charge: (record >> 32) as u32, connection };
        (start < end && end <= self.buffer.filled().end).then_some(Message { bytes: start..end, tag })
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

/// The length in the low half, the charge in the high one.
fn write_record(region: &mut [u8], at: usize, len: usize, tag: Tag) {
    let named = if tag.connection == 0 { 0 } else { NAMED };
    write_word(region, at, u64::from(tag.charge) << 32 | u64::from(len as u32 | named));
    if named != 0 {
        write_word(region, at + UNNAMED, tag.connection);
    }
}

fn word(region: &[u8], at: usize) -> Option<u64> {
    region.get(at..at + size_of::<u64>())?.try_into().ok().map(u64::from_ne_bytes)
}

fn write_word(region: &mut [u8], at: usize, value: u64) {
    if let Some(word) = region.get_mut(at..at + size_of::<u64>()) {
        word.copy_from_slice(&value.to_ne_bytes());
    }
}
