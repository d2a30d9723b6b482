//! A linear buffer: filled at its end, emptied at its start, begun again when it is empty.
//!
//! A ring would cut messages in two at its end, and a parser wants each in one piece. So bytes are moved to the start of
//! the region when its end is reached, and earlier when few are left, so that traffic stays in few pages.

use core::ops::Range;

use crate::repair::in_order;
use zerocopy::TryFromBytes;

/// With no more bytes than this left, and at least as many gone before them, they are moved to the start.
const FEW: u32 = 4096;

/// Which part of a region is filled. All zeros is the empty buffer. Offsets are bytes from the region's start.
///
/// Both offsets stand in one word, so that they change at once: whoever is killed leaves the one state or the other.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, TryFromBytes)]
pub struct Buffer {
    /// The start, and above it the end.
    span: u64,
}

impl Buffer {
    /// The empty buffer.
    pub const EMPTY: Self = Self { span: 0 };
    /// What it is while bytes are moved over others that are still needed.
    const TORN: Self = Self { span: u32::MAX as u64 };

    /// The bytes between two offsets.
    pub(crate) fn new(start: u32, end: u32) -> Self {
        if start >= end { Self::EMPTY } else { Self { span: u64::from(end) << 32 | u64::from(start) } }
    }

    fn start(&self) -> u32 {
        self.span as u32
    }

    fn end(&self) -> u32 {
        (self.span >> 32) as u32
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.end().saturating_sub(self.start()) as usize
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.start() >= self.end()
    }

    /// The bytes in it, as offsets into the region.
    pub fn filled(&self) -> Range<usize> {
        self.start().min(self.end()) as usize..self.end() as usize
    }

    /// Makes room for `want` bytes at the end and says where; none when they do not fit.
    pub fn room(&mut self, region: &mut [u8], want: usize) -> Option<Range<usize>> {
        let (filled, len) = (self.filled(), self.len());
        let wasteful = self.start() >= FEW && len <= FEW as usize;
        if wasteful || filled.end + want > region.len() {
            if len + want > region.len() {
                return None;
            }
            if filled.start < len {
                *self = Self::TORN;
            }
            in_order();
            region.copy_within(filled, 0);
            in_order();
            *self = Self::new(0, len as u32);
        }
        let end = self.end() as usize;
        Some(end..end + want)
    }

    /// `n` bytes were put at the end, into what [`Buffer::room`] had answered.
    pub fn fill(&mut self, n: usize) {
        *self = Self::new(self.start(), self.end() + n as u32);
    }

    /// `n` bytes at the start are no longer needed.
    pub fn consume(&mut self, n: usize) {
        *self = Self::new(self.start().saturating_add(n as u32), self.end());
    }

    /// Takes `n` bytes back from the end.
    pub fn truncate_by(&mut self, n: usize) {
        *self = Self::new(self.start(), self.end().saturating_sub(n as u32));
    }

    /// Puts `n` bytes back before the start, where they were consumed just now.
    pub(crate) fn restore(&mut self, at: usize, n: usize) {
        let end = if self.is_empty() { at + n } else { self.end() as usize };
        *self = Self::new(at as u32, end as u32);
    }

    /// Empties it if it was torn, or is not within its region of `len` bytes.
    pub(crate) fn repair(&mut self, len: usize) {
        if self.is_empty() || self.end() as usize > len {
            *self = Self::EMPTY;
        }
    }
}

#[cfg(test)]
impl Buffer {
    /// Wrong offsets.
    pub(crate) fn scramble(&mut self, mut random: impl FnMut() -> u64) {
        self.span = random() << 32 | random() & u64::from(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::{Buffer, FEW};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]
        #[test]
        fn keeps_bytes_in_order(steps in prop::collection::vec((0..4u8, 0..3000usize), 0..100)) {
            let (mut region, mut buffer, mut model) = (vec![0; 20000], Buffer::EMPTY, VecDeque::new());
            let mut number = 0u8;
            for (step, n) in steps {
                match step {
                    0 | 1 => {
                        let room = buffer.room(&mut region, n);
                        prop_assert_eq!(room.is_some(), model.len() + n <= region.len());
                        if let Some(room) = room {
                            for byte in &mut region[room] {
                                *byte = number;
                                model.push_back(number);
                                number = number.wrapping_add(1);
                            }
                            buffer.fill(n);
                        }
                    }
                    2 => {
                        buffer.consume(n);
                        model.drain(..n.min(model.len()));
                    }
                    _ => {
                        buffer.truncate_by(n);
                        model.truncate(model.len().saturating_sub(n));
                    }
                }
                prop_assert!(region[buffer.filled()].iter().eq(&model));
            }
        }
    }

    #[test]
    fn traffic_stays_at_the_start() {
        let (mut region, mut buffer) = (vec![0; 1 << 20], Buffer::EMPTY);
        buffer.room(&mut region, 10).expect("an empty buffer has room");
        buffer.fill(10);
        for _ in 0..1000 {
            let room = buffer.room(&mut region, 1000).expect("there is room");
            assert!(room.end <= 2 * FEW as usize);
            buffer.fill(1000);
            buffer.consume(1000);
        }
    }
}
