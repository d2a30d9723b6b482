//! Messages in a row in one region. Before each stands a record of eight bytes: its length, and its charge.

use core::ops::Range;

use zerocopy::TryFromBytes;

use crate::buffer::Buffer;
use crate::outside::{Region, Regions};

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

    /// Adds a message of `len` bytes, and says where they are to be put; none when there is no room.
    pub fn push(&mut self, region: &mut [u8], len: usize, charge: u32) -> Option<Range<usize>> {
        let room = self.begin(region, len)?;
        self.finish(region, len, charge);
        Some(room)
    }

    /// Adds the message that stands in `source` at `from`. False, and nothing is done, when there is no room.
    pub fn push_from<M: Regions>(
        &mut self,
        memory: &mut M,
        this: Region,
        (source, from): (Region, Range<usize>),
        charge: u32,
    ) -> bool {
        let Some(room) = self.push(memory.region(this), from.len(), charge) else {
            return false;
        };
        memory.copy(source, from, this, room.start);
        true
    }

    /// The message at the head.
    pub fn head(&self, region: &[u8]) -> Option<Message> {
        (self.messages > 0).then(|| self.message_at(region, self.buffer.filled().start))
    }

    /// All messages, from the head.
    pub fn iter<'a>(&self, region: &'a [u8]) -> impl Iterator<Item = Message> + use<'a> {
        let (this, mut at, mut left) = (*self, self.buffer.filled().start, self.messages);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let message = this.message_at(region, at);
            at = message.bytes.end;
            Some(message)
        })
    }

    /// Takes the head out.
    pub fn pop(&mut self, region: &[u8]) -> Option<Message> {
        let head = self.head(region)?;
        self.messages -= 1;
        self.charge = self.charge.saturating_sub(u64::from(head.charge));
        self.buffer.consume(RECORD + head.bytes.len());
        Some(head)
    }

    /// Takes `n` bytes off the start of the head, which keeps its charge. `n` is less than the head's length.
    pub fn shorten(&mut self, region: &mut [u8], n: usize) {
        if let Some(head) = self.head(region) {
            self.buffer.consume(n);
            let at = self.buffer.filled().start;
            write_record(region, at, head.bytes.len() - n, head.charge);
        }
    }

    /// Opens a message at the end, with room for `len` bytes. It is not in the queue before [`Queue::finish`].
    pub fn begin(&mut self, region: &mut [u8], len: usize) -> Option<Range<usize>> {
        let room = self.buffer.room(region, RECORD + len)?;
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
        self.messages += 1;
        self.charge += u64::from(charge);
    }

    /// What a record says is cut to what is in the queue: a wrong one gives wrong bytes, not a panic.
    fn message_at(&self, region: &[u8], at: usize) -> Message {
        let word =
            |at: usize| region.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let (start, end) = (at + RECORD, self.buffer.filled().end);
        let start = start.min(end);
        Message { bytes: start..end.min(start + word(at) as usize), charge: word(at + 4) }
    }
}

fn write_record(region: &mut [u8], at: usize, len: usize, charge: u32) {
    if let Some(record) = region.get_mut(at..at + RECORD) {
        record[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        record[4..].copy_from_slice(&charge.to_ne_bytes());
    }
}
