//! What a mux needs from outside, and the caller supplies: memory for bytes, and the TCP sockets.

use core::fmt::Debug;
use core::ops::Range;

use crate::errno::Errno;
use crate::id::{CsockId, PsockId};

/// One of a mux's regions of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Region {
    /// Bytes of a psock that no csock has yet.
    Psock(PsockId),
    /// Messages that a csock has received.
    Received(CsockId),
    /// Messages that a csock is to send.
    ToSend(CsockId),
    /// Messages of csocks that were disabled or closed, for which there is no other yet.
    Held,
}

/// The regions of a mux. A region keeps its length and its bytes as long as its socket is in the mux; when a close was
/// killed in its middle, until [`crate::MuxState::repair`].
///
/// The longest message is by [`crate::queue::RECORD`] bytes shorter than a psock's region, and `Received` regions are no
/// shorter than those. `Held` has room for all that csocks can have: as many bytes as all `Received` regions together
/// (address space; pages are taken as they are used).
pub trait Regions {
    /// The bytes of a region. It may be mapped only now.
    fn region(&mut self, which: Region) -> &mut [u8];
    /// Copies between two regions that are not the same.
    fn copy(&mut self, source: Region, from: Range<usize>, target: Region, at: usize);
}

/// A psock's program.
pub trait Parse {
    /// What it says of the bytes from a message's first one on, as many as there are. Its results: see [`crate::strparser`].
    fn parse(&mut self, bytes: &[u8]) -> i32;
}

/// The TCP sockets behind psocks. No call waits.
pub trait Tcp {
    /// The program of one of them.
    type Parser: Parse + Debug;

    /// Copies bytes that stay in TCP: the next call begins with the same ones. As many as there are; less than fits only
    /// when that is all. `Ok(0)` is the end of the stream, and so is any error but [`crate::errno::EAGAIN`]: nothing there
    /// now.
    fn peek(&mut self, psock: PsockId, into: &mut [u8]) -> Result<usize, Errno>;
    /// Takes `n` bytes out of TCP, which the last peek has shown, or [`Tcp::available`] has counted. If a raw read was quicker there are fewer: it must not
    /// wait for more.
    fn take(&mut self, psock: PsockId, n: usize);
    /// SIOCINQ: bytes that a peek would find. Cheaper than one that copies thousands.
    fn available(&mut self, psock: PsockId) -> usize;
    /// Writes some of `parts`, one after the other, without a signal; [`crate::errno::EAGAIN`] when none would fit. Any
    /// other error, or `Ok(0)`, takes the psock out of sending.
    fn write(&mut self, psock: PsockId, parts: &[&[u8]]) -> Result<usize, Errno>;
    /// How far TCP's stream was read, in bytes from any place that stays the same; none when TCP does not tell. Asked at
    /// attach, and by [`crate::MuxState::repair`].
    fn read_position(&mut self, psock: PsockId) -> Option<u64>;
    /// How far it was written, likewise.
    fn write_position(&mut self, psock: PsockId) -> Option<u64>;
    /// SO_RCVBUF: the longest message, in bytes.
    fn receive_limit(&mut self, psock: PsockId) -> u32;
    /// SO_RCVTIMEO in nanoseconds, 0 for none: how long the assembly of a message may take.
    fn receive_time(&mut self, psock: PsockId) -> u64;
    /// Bytes that the stream has room for whatever its reader leaves there: how much of an unfinished message may stand in
    /// it until all is there.
    fn room(&mut self, _psock: PsockId) -> u32 {
        u32::MAX
    }
    /// The program, for all messages of one look.
    fn parser(&mut self, psock: PsockId) -> Self::Parser;
}

/// Both, as an operation gets them.
#[derive(Debug)]
pub struct Outside<'a, M, T> {
    /// The regions.
    pub memory: &'a mut M,
    /// The TCP sockets.
    pub tcp: &'a mut T,
}
