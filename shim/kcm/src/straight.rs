//! Sending straight from the caller's bytes.
//!
//! A message goes from the caller's memory into TCP when one call makes all of it, nothing is queued on its csock, and a
//! psock is free. It is stored only if TCP does not take all of it: then whole, since it goes whole to another psock if
//! this one fails. All else goes through [`MuxState::send_to`], and whichever way it went, the result is the same, in the
//! counts and in the rotation of psocks too. One exception: when the write of a message for one connection fails, its
//! sender is told.

use crate::errno::{EAGAIN, EFAULT, EPIPE, Errno};
use crate::id::{CsockId, PsockId};
use crate::mux::MuxState;
use crate::outside::{Outside, Region, Regions, Tcp};
use crate::queue::{RECORD, Tag};
use crate::send::MSG_BATCH;

/// The bytes of one call, wherever they are: the program's `iovec`s, which nobody has looked at yet.
pub trait Source<T> {
    /// Writes them to a TCP socket, as [`Tcp::write`] does: all at once, or a part from the start on. EFAULT for a bad
    /// address, with nothing written.
    fn write(&mut self, psock: PsockId, tcp: &mut T) -> Result<usize, Errno>;
    /// Copies all of them; `into` is as long as they are. Its error is the call's.
    fn copy(&mut self, into: &mut [u8]) -> Result<(), Errno>;
}

/// Bytes that can be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Slices<'a>(pub &'a [&'a [u8]]);

impl<T: Tcp> Source<T> for Slices<'_> {
    fn write(&mut self, psock: PsockId, tcp: &mut T) -> Result<usize, Errno> {
        tcp.write(psock, self.0)
    }

    fn copy(&mut self, mut into: &mut [u8]) -> Result<(), Errno> {
        for part in self.0 {
            let to = into.split_off_mut(..part.len()).ok_or(EFAULT)?;
            to.copy_from_slice(part);
        }
        Ok(())
    }
}

impl MuxState {
    /// Sends the `len` bytes of `source`, as [`MuxState::send_to`] does, and does not store them if it need not.
    ///
    /// If a part is written and the rest then proves to have a bad address, the psock is stopped for sending, with EPIPE.
    pub fn send_from<M: Regions, T: Tcp>(
        &mut self,
        csock: CsockId,
        connection: u64,
        (len, flags): (usize, i32),
        outside: &mut Outside<'_, M, T>,
        source: &mut impl Source<T>,
    ) -> Result<usize, Errno> {
        let state = &self.csocks[csock.index()];
        let whole = !state.open && state.kind.ends(flags) && flags & MSG_BATCH == 0 && len > 0;
        let free = state.tx.messages == 0 && state.send_buffer > 0 && !self.available.is_empty();
        if whole
            && free
            && len.saturating_add(RECORD) <= outside.memory.region(Region::ToSend(csock)).len()
            && let Ok(wanted) = self.destination(csock, connection)
            && let Some(result) = self.send_straight(csock, (connection, wanted), len, outside, source)
        {
            return result;
        }
        self.send_to(csock, connection, (len, flags), outside, |into| source.copy(into))
    }

    /// None when no psock is left to send on, or not the one that is wanted; nothing was sent then.
    fn send_straight<M: Regions, T: Tcp>(
        &mut self,
        csock: CsockId,
        (connection, wanted): (u64, Option<PsockId>),
        len: usize,
        outside: &mut Outside<'_, M, T>,
        source: &mut impl Source<T>,
    ) -> Option<Result<usize, Errno>> {
        while wanted.map_or(!self.available.is_empty(), |psock| self.available.contains(psock)) {
            let psock = self.reserve(csock, wanted)?;
            let to = &mut self.psocks[psock.index()];
            let failed = core::mem::take(&mut to.posted) != 0;
            to.writing.begin_straight(to.given, len);
            let written = if failed { Err(EPIPE) } else { source.write(psock, outside.tcp) };
            let result = match written {
                Err(EFAULT) => Err(EFAULT),
                Err(EAGAIN) => self.store(csock, connection, (len, 0), outside.memory, source),
                Ok(sent) if sent >= len => Ok(()),
                Ok(sent) if sent > 0 => self.store(csock, connection, (len, sent), outside.memory, source),
                Ok(_) | Err(_) => {
                    self.abort(psock);
                    self.psocks[psock.index()].writing.end();
                    self.retry(csock, psock);
                    continue;
                }
            };
            self.end_straight(csock, psock, (len, written.unwrap_or(0)), result.is_ok());
            self.write_all(outside);
            return Some(result.map(|()| len));
        }
        None
    }

    /// Queues the message, of which `sent` bytes have left.
    fn store<M: Regions, T: Tcp>(
        &mut self,
        csock: CsockId,
        connection: u64,
        (len, sent): (usize, usize),
        memory: &mut M,
        source: &mut impl Source<T>,
    ) -> Result<(), Errno> {
        let (state, region) = (&mut self.csocks[csock.index()], memory.region(Region::ToSend(csock)));
        let room = state.tx.begin(region, len, connection).ok_or(EAGAIN)?;
        if let Err(error) = source.copy(&mut region[room]) {
            state.tx.discard(len, connection);
            return Err(error);
        }
        state.sent = sent as u32;
        state.tx.finish(region, len, Tag { charge: len as u32, connection });
        Ok(())
    }

    /// Counts what was sent, and gives the psock back unless it waits with the rest.
    fn end_straight(&mut self, csock: CsockId, psock: PsockId, (len, sent): (usize, usize), taken: bool) {
        let (from, to) = (&mut self.csocks[csock.index()], &mut self.psocks[psock.index()]);
        to.stats.tx_bytes += sent as u64;
        to.given = to.given.saturating_add(sent as u64);
        if taken {
            from.wait_more = false;
            from.stats.tx_bytes += len as u64;
            from.stats.tx_msgs += 1;
            self.work.flushed.insert(csock);
        }
        let stalled = from.tx.messages > 0;
        to.stalled = stalled;
        if stalled {
            self.work.stalled.insert(psock);
        } else if taken {
            to.stats.tx_msgs += 1;
        } else if sent > 0 {
            self.abort(psock);
        }
        self.psocks[psock.index()].writing.end();
        if !stalled {
            self.unreserve(csock, psock);
        }
    }
}
