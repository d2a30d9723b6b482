//! What a parser's return value means to KCM.

use crate::eval::Fault;

/// What is known of the message that a parser looked at, as the kernel's `net/strparser` reads the return value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not enough has arrived to tell: 0, or a load past the end.
    NeedMore,
    /// The whole message has that many bytes, from its first one on.
    Length(u32),
    /// The stream is broken: the error number for the TCP socket.
    Error(u32),
}

impl Verdict {
    /// The verdict of a run: R0 as 32 bits with a sign. A fault is an error, by [`Fault::errno`].
    pub fn of(run: Result<u32, Fault>) -> Self {
        match run.map(|r0| r0 as i32) {
            Ok(0) => Self::NeedMore,
            Ok(length @ 1..) => Self::Length(length.unsigned_abs()),
            Ok(error) => Self::Error(error.unsigned_abs()),
            Err(fault) => Self::Error(fault.errno().unsigned_abs()),
        }
    }
}
