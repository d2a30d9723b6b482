//! A linear buffer: filled at its end, emptied at its start, begun again when it is empty.
//!
//! A ring would cut messages in two at its end, and a parser wants each in one piece. So bytes are moved to the start of
//! the region when its end is reached, and earlier when few are left, so that traffic stays in few pages.

use core::ops::Range;

use zerocopy::TryFromBytes;

/// With no more bytes than this left, and at least as many gone before them, they are moved to the start.
const FEW: u32 = 4096;

/// Which part of a region is filled. All zeros is the empty buffer. Offsets are bytes from the region's start.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, TryFromBytes)]
pub struct Buffer {
    start: u32,
    end: u32,
}

impl Buffer {
    /// The empty buffer.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes in it, as offsets into the region.
    pub fn filled(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Makes room for `want` bytes at the end and says where; none when they do not fit.
    pub fn room(&mut self, region: &mut [u8], want: usize) -> Option<Range<usize>> {
        let wasteful = self.start >= FEW && self.end - self.start <= FEW;
        if wasteful || self.end as usize + want > region.len() {
            if self.len() + want > region.len() {
                return None;
            }
            region.copy_within(self.filled(), 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        Some(self.end as usize..self.end as usize + want)
    }

    /// `n` bytes were put at the end, into what [`Buffer::room`] had answered.
    pub fn fill(&mut self, n: usize) {
        self.end += n as u32;
    }

    /// `n` bytes at the start are no longer needed.
    pub fn consume(&mut self, n: usize) {
        self.start = self.end.min(self.start + n as u32);
        if self.start == self.end {
            *self = Self::EMPTY;
        }
    }

    /// Takes `n` bytes back from the end.
    pub fn truncate_by(&mut self, n: usize) {
        self.end = self.start.max(self.end.saturating_sub(n as u32));
        if self.start == self.end {
            *self = Self::EMPTY;
        }
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
