//! Who belongs to a mux.
//!
//! Reference: `kcm_create`, `init_kcm_sock`, `kcm_clone`, `kcm_attach`, `kcm_unattach`, `kcm_release`, `kcm_done` in
//! net/kcm/kcmsock.c. A csock or psock gets the lowest free index, which is its number in `/proc/net/kcm`; psocks are
//! free for sending in the order in which they were attached. Whether a TCP socket may be attached, and is not already,
//! the caller knows.

use crate::errno::{ENFILE, ENOENT, Errno};
use crate::id::{CsockId, PsockId};
use crate::mux::{CSOCK, Csock, Kind, MuxState, PSOCK, Psock};
use crate::outside::{Outside, Regions, Tcp};
use crate::queue::Queue;
use crate::repair::in_order;

/// What a new csock begins with: its type, SO_RCVBUF and SO_SNDBUF in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Type.
    pub kind: Kind,
    /// SO_RCVBUF, as getsockopt reads it.
    pub receive_buffer: u32,
    /// SO_SNDBUF, as getsockopt reads it.
    pub send_buffer: u32,
}

/// What a psock leaves behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detached {
    /// The error that is posted on the TCP socket, 0 for none.
    pub posted: Errno,
}

impl MuxState {
    /// Adds a csock: a mux's first, or a clone. It takes what waits for a receiver. ENFILE when all places are taken.
    pub fn open<M: Regions>(&mut self, options: Options, memory: &mut M) -> Result<CsockId, Errno> {
        let id = self.open.lowest_free().ok_or(ENFILE)?;
        let Options { kind, receive_buffer, send_buffer } = options;
        self.csocks[id.index()] = Csock { kind, receive_buffer, send_buffer, low_water: 1, ..CSOCK };
        in_order();
        self.open.insert(id);
        self.refill(id, memory);
        Ok(id)
    }

    /// Takes a csock out. What it was to send is dropped; what it had received goes to others, or waits for one. A psock
    /// in the middle of its messages is stopped for sending, with EPIPE.
    ///
    /// True for the mux's last one: the caller then unattaches all [`MuxState::psocks`], and the mux is done. ENOENT when
    /// there is no such csock.
    pub fn close<M: Regions, T: Tcp>(
        &mut self,
        csock: CsockId,
        outside: &mut Outside<'_, M, T>,
    ) -> Result<bool, Errno> {
        if !self.open.remove(csock) {
            return Err(ENOENT);
        }
        self.abandon_sending(csock);
        self.receivers.remove(csock);
        self.requeue(csock, outside.memory);
        // None are left unless the region for held messages is too small.
        let state = core::mem::replace(&mut self.csocks[csock.index()], CSOCK);
        self.stats.rx_ready_drops += u64::from(state.rx.messages);
        let work = &mut self.work;
        let sets = [&mut self.holding, &mut self.sleeping, &mut work.gained, &mut work.emptied, &mut work.flushed];
        for set in sets {
            set.remove(csock);
        }
        self.write_all(outside);
        let last = self.open.is_empty();
        if last {
            self.held = Queue::EMPTY;
        }
        Ok(last)
    }

    /// Adds a psock, the last in the rotation, unless a csock waits for one. Its name tells its connection from any other
    /// that there ever was ([`crate::receive::Received::connection`], [`MuxState::send_to`]); without one it is 0. ENFILE
    /// when all places are taken.
    pub fn attach<M: Regions, T: Tcp>(&mut self, name: u64, outside: &mut Outside<'_, M, T>) -> Result<PsockId, Errno> {
        let id = self.attached.lowest_free().ok_or(ENFILE)?;
        self.psocks[id.index()] = Psock { name, ..PSOCK };
        self.locate(id, outside.tcp);
        in_order();
        self.attached.insert(id);
        self.stats.attach += 1;
        self.work.resumed.insert(id);
        self.make_available(id);
        self.write_all(outside);
        Ok(id)
    }

    /// Takes a psock out. The message that it had cut for nobody is lost, and so is what was taken of an unfinished one;
    /// all that comes after it stands in TCP.
    /// If a csock was sending on it, it is stopped for sending, with EPIPE, and the message goes whole to another one, unless
    /// it is for this one.
    /// ENOENT when it is not attached.
    pub fn unattach<M: Regions, T: Tcp>(
        &mut self,
        psock: PsockId,
        outside: &mut Outside<'_, M, T>,
    ) -> Result<Detached, Errno> {
        if !self.attached.contains(psock) {
            return Err(ENOENT);
        }
        if self.ready.remove(psock) {
            self.stats.rx_ready_drops += 1;
        }
        self.stats.unattach += 1;
        self.withdraw(psock);
        self.attached.remove(psock);
        self.available.remove(psock);
        let state = core::mem::replace(&mut self.psocks[psock.index()], PSOCK);
        self.gone.add(&state.stats);
        self.unread.remove(psock);
        for set in [&mut self.work.posted, &mut self.work.stalled, &mut self.work.resumed] {
            set.remove(psock);
        }
        self.write_all(outside);
        Ok(Detached { posted: state.posted })
    }

    /// SO_RCVBUF of a csock, in bytes. It counts when the next message comes.
    pub fn set_receive_buffer(&mut self, csock: CsockId, bytes: u32) {
        self.csocks[csock.index()].receive_buffer = bytes;
    }

    /// SO_RCVLOWAT, 0 counting as 1: a csock that was full takes more when less than this is left in it.
    pub fn set_low_water(&mut self, csock: CsockId, bytes: u32) {
        self.csocks[csock.index()].low_water = bytes.max(1);
    }

    /// SO_SNDBUF of a csock, in bytes. It counts when the next message begins.
    pub fn set_send_buffer(&mut self, csock: CsockId, bytes: u32) {
        self.csocks[csock.index()].send_buffer = bytes;
    }

    /// Whether this csock's messages say which connection they came from. Those that were queued before any csock of the mux
    /// had this do not say it.
    pub fn set_addresses(&mut self, csock: CsockId, on: bool) {
        self.csocks[csock.index()].addresses = on;
        self.named |= on;
    }

    /// [`MuxState::set_addresses`], as it is.
    pub fn has_addresses(&self, csock: CsockId) -> bool {
        self.csocks[csock.index()].addresses
    }

    /// The psock of this name, which is not 0.
    pub(crate) fn named(&self, name: u64) -> Option<PsockId> {
        self.attached.iter().find(|psock| self.psocks[psock.index()].name == name)
    }

    /// A call on this csock goes to sleep until there is a message.
    pub fn reader_sleeps(&mut self, csock: CsockId) {
        let sleepers = &mut self.csocks[csock.index()].sleepers;
        *sleepers = sleepers.saturating_add(1);
        self.sleeping.insert(csock);
    }

    /// A call that slept does so no more. One that dies asleep stays counted: the csock then gets a batch before others
    /// whenever it is empty.
    pub fn reader_woke(&mut self, csock: CsockId) {
        let sleepers = &mut self.csocks[csock.index()].sleepers;
        *sleepers = sleepers.saturating_sub(1);
        if *sleepers == 0 {
            self.sleeping.remove(csock);
        }
    }

    /// Calls that sleep on a csock.
    pub fn sleepers(&self, csock: CsockId) -> u32 {
        self.csocks[csock.index()].sleepers
    }

    /// The place that the next [`MuxState::open`] takes.
    pub fn next_csock(&self) -> Option<CsockId> {
        self.open.lowest_free()
    }

    /// The place that the next [`MuxState::attach`] takes.
    pub fn next_psock(&self) -> Option<PsockId> {
        self.attached.lowest_free()
    }
}
