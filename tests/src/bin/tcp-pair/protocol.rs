//! What a client asks of the server: its first bytes, four little-endian numbers.

use std::io::{Read, Write};

use anyhow::{Result, bail};

use crate::exchange::Plan;

/// Bytes of a request.
const LEN: usize = 32;

/// What the connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    /// The client sends until it shuts down; the server then says how many bytes came.
    Stream,
    /// The server sends every message of so many bytes back.
    PingPong { size: u64 },
    /// Both send pseudo-random bytes, see [`crate::exchange`].
    Exchange(Plan),
}

impl Request {
    pub(crate) fn send(self, mut to: impl Write) -> Result<()> {
        let words = match self {
            Self::Stream => [1, 0, 0, 0],
            Self::PingPong { size } => [2, size, 0, 0],
            Self::Exchange(Plan { bytes, seed, dialogue }) => [3, bytes, seed, dialogue],
        };
        let mut message = [0; LEN];
        for (part, word) in message.chunks_exact_mut(8).zip(words) {
            part.copy_from_slice(&u64::to_le_bytes(word));
        }
        Ok(to.write_all(&message)?)
    }

    pub(crate) fn receive(mut from: impl Read) -> Result<Self> {
        let mut message = [0; LEN];
        from.read_exact(&mut message)?;
        let mut words = [0; 4];
        for (word, part) in words.iter_mut().zip(message.chunks_exact(8)) {
            *word = part.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        }
        match words {
            [1, ..] => Ok(Self::Stream),
            [2, size, ..] => Ok(Self::PingPong { size }),
            [3, bytes, seed, dialogue] => Ok(Self::Exchange(Plan { bytes, seed, dialogue })),
            [kind, ..] => bail!("unknown request {kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, Request};

    #[test]
    fn requests_arrive_as_sent() {
        let requests = [
            Request::Stream,
            Request::PingPong { size: 14 },
            Request::Exchange(Plan { bytes: 1 << 40, seed: 2, dialogue: 3 }),
        ];
        for request in requests {
            let mut wire = Vec::new();
            request.send(&mut wire).unwrap();
            assert_eq!(Request::receive(&wire[..]).unwrap(), request);
        }
    }
}
