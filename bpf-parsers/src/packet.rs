//! The bytes that a parser looks at.

/// A message, or the part of it that has arrived, and what follows it: offset 0 is the message's first byte.
pub trait Packet {
    /// How many bytes there are; programs see it as `skb->len`.
    fn len(&self) -> u32;

    /// Fills `into` from offset `at`; false, and `into` unchanged or partly filled, when not all of it is there.
    fn read(&self, at: u32, into: &mut [u8]) -> bool;

    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `N` bytes from offset `at`.
    fn array<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes).then_some(bytes)
    }
}

/// Bytes in one piece.
impl Packet for [u8] {
    fn len(&self) -> u32 {
        u32::try_from(<[u8]>::len(self)).unwrap_or(u32::MAX)
    }

    fn read(&self, at: u32, into: &mut [u8]) -> bool {
        match self.get(at as usize..).and_then(|rest| rest.get(..into.len())) {
            Some(from) => {
                into.copy_from_slice(from);
                true
            }
            None => false,
        }
    }

    #[inline]
    fn array<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.get(at as usize..)?.first_chunk().copied()
    }
}

/// Bytes in several pieces, one after the other.
impl Packet for [&[u8]] {
    fn len(&self) -> u32 {
        self.iter().fold(0, |sum, piece| sum.saturating_add(Packet::len(*piece)))
    }

    fn read(&self, at: u32, mut into: &mut [u8]) -> bool {
        let mut skip = at as usize;
        for piece in self {
            let rest = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            let (now, later) = into.split_at_mut(rest.len().min(into.len()));
            now.copy_from_slice(&rest[..now.len()]);
            into = later;
        }
        into.is_empty()
    }
}
