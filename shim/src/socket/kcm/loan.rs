//! Receiving without the locks ([`preloop_kcm::loan`]): several threads at a time, each on a socket of its own.
//!
//! A call that leaves messages in its csock, and bytes in the psock that it has read, borrows the two on its way out. What it
//! borrowed lies in the csock's [`Slot`]. The next call on the csock takes from there, and reads TCP, cuts and copies with no
//! lock but the slot's, as long as there is something for yet another one: so neither tokens nor steering are its business.
//! What else there is to do takes the locks, and what was borrowed comes back.
//!
//! A slot's lock is taken last of all, and nothing else is taken with it: so whoever has the mux's may wait for it. That is
//! what all that enters the mux ([`Mux::enter`](super::mux::Mux::enter)) does, except calls that receive and send, and the pump: those look
//! whether somebody waits for messages meanwhile, and then take back what no call is about to read; a call that is finds out
//! when it has let go of the slot.
//!
//! While it reads, a thread is *inside* ([`super::entered::is_inside`]): a signal handler of its own gets EAGAIN. Nothing that it
//! does meanwhile waits, or is a cancellation point.

use super::csock::Sock;
use super::entered::{Entered, Inside};
use super::outside::{Borrowed, Reader};
use super::receive::Slots;
use preloop_kcm::MuxState;
use preloop_kcm::id::{CsockId, PLACES, PsockId};
use preloop_kcm::loan::Loan;
use preloop_kcm::outside::{Outside, Tcp};
use preloop_shm::mux::Lent;
use preloop_sys::{Fd, clock};
use preloop_uapi::sync::Ordering;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};

/// A csock that calls on it have borrowed, with a psock perhaps.
#[derive(Debug)]
struct Borrowing {
    loan: Loan,
    regions: Lent,
    /// The psock's TCP socket and parser.
    psock: Option<(Fd, Reader)>,
    /// Messages that calls had enough of without asking the mux's set.
    unasked: usize,
    /// For one call: what is left after it, others are to be told of.
    once: bool,
}

/// Where a csock's is, if there is one. By itself in its cache lines: threads have one each.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot {
    borrowing: Mutex<Option<Borrowing>>,
    is_filled: AtomicBool,
    /// It is to come back when the call that has the lock is done.
    is_recalled: AtomicBool,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Borrowing>> {
        self.borrowing.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// None when a call has the lock.
    fn try_lock(&self) -> Option<MutexGuard<'_, Option<Borrowing>>> {
        match self.borrowing.try_lock() {
            Ok(borrowing) => Some(borrowing),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// The slots of a mux's csocks, made as they are needed.
#[derive(Debug)]
pub struct Loans(Box<[OnceLock<Box<Slot>>; PLACES]>);

impl Loans {
    /// All empty.
    pub fn none() -> Self {
        Self(Box::new([const { OnceLock::new() }; PLACES]))
    }

    fn slot(&self, csock: CsockId) -> Option<&Slot> {
        self.0[usize::from(csock.0)].get().map(|slot| &**slot)
    }
}

/// What a call received without the locks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// All that it is to.
    Enough,
    /// Nothing, or not all; or there is something else to be done.
    NotAll,
    /// It is to ask the mux's set, for the sake of others.
    Asks,
}

/// Receives on a csock from what calls on it have borrowed.
pub fn receive(sock: &Sock, slots: &mut impl Slots) -> Came {
    let slot = sock.mux.loans.slot(sock.id).filter(|slot| slot.is_filled.load(Relaxed));
    let (Some(slot), Some(_inside)) = (slot, Inside::begin()) else { return Came::NotAll };
    let came = slot.lock().as_mut().map_or(Came::NotAll, |borrowing| borrowing.receive(sock, slots));
    // Whoever found the lock taken has said before that he wants it back.
    fence(SeqCst);
    if slot.is_recalled.load(Relaxed) { Came::NotAll } else { came }
}

impl Borrowing {
    fn receive(&mut self, sock: &Sock, slots: &mut impl Slots) -> Came {
        let mux = &sock.mux;
        let (before, mut memory) = (slots.filled(), mux.lent(&mut self.regions));
        self.loan.receive(slots, &mut memory);
        if let Some((fd, reader)) = &self.psock
            && (slots.room().is_some() || self.loan.messages() == 0)
        {
            let mut tcp = Borrowed::new(*fd, reader);
            self.loan.read(slots, &mut Outside { memory: &mut memory, tcp: &mut tcp });
        }
        // A set that wants edges is told of each batch.
        let wants_edges = || mux.csock(sock.id).edges.load(Ordering::Relaxed) != 0;
        let is_to_tell = self.once || self.psock.is_some() && wants_edges();
        if is_to_tell || slots.filled() == before || !self.loan.may_go_on() {
            return Came::NotAll;
        }
        mux.readers.go_on_without_asking();
        self.unasked += slots.filled() - before;
        if mux.readers.is_to_ask(&mut self.unasked, clock::now) { Came::Asks } else { Came::Enough }
    }
}

impl Entered<'_> {
    /// Lends a csock to the next calls if there is something for them, with the psock that the last one has read if nobody goes
    /// before them.
    pub fn lend(&mut self, csock: CsockId) {
        if self.may_lend() && self.state().messages(csock) > 0 {
            let may = |state: &MuxState, psock| state.unread().contains(psock) && state.has_short(psock);
            let read = self.last_read.filter(|psock| may(self.state(), *psock));
            let _ =
                read.is_some_and(|psock| self.lend_with(Some(psock), csock, true)) || self.lend_with(None, csock, true);
        }
    }

    /// Lends a csock to a call that goes on without the locks, beside calls on others, when there is much for it, or a psock that
    /// has more than was read last. True if it is to do so. All others that wait for messages of the csock are `told` of those
    /// that it has, or are to be told after this call.
    pub fn lend_now(&mut self, csock: CsockId, slots: &impl Slots, told: bool) -> bool {
        if slots.room().is_none() || !self.may_lend() || !self.state().has_several() {
            return false;
        }
        if self.state().messages(csock) > 0 {
            return self.state().has_much(csock) && self.lend_with(None, csock, told);
        }
        let readers = &self.its_mux().readers;
        let mut unread = self.state().unread().iter_behind(readers.last_read());
        let read = unread.find(|psock| self.lend_with(Some(*psock), csock, false));
        if let Some(psock) = read {
            readers.reads(psock);
            self.last_read = read;
        }
        read.is_some()
    }

    fn may_lend(&self) -> bool {
        !self.its_mux().is_shared()
    }

    fn lend_with(&mut self, psock: Option<PsockId>, csock: CsockId, told: bool) -> bool {
        let stream = psock.and_then(|psock| self.lendable(psock));
        if stream.is_some() != psock.is_some() {
            return false;
        }
        let Some(loan) = self.state().lend(psock, csock) else { return false };
        let Some(regions) = self.lend_regions(psock, csock) else {
            self.give_back(loan);
            return false;
        };
        let slot = self.its_mux().loans.0[usize::from(csock.0)].get_or_init(Box::default);
        *slot.lock() = Some(Borrowing { loan, regions, psock: stream, unasked: 0, once: !told });
        slot.is_filled.store(true, Relaxed);
        true
    }

    /// The TCP socket and the parser of a psock whose connection has not moved to shared memory: the rings are read under the
    /// lock.
    fn lendable(&mut self, psock: PsockId) -> Option<(Fd, Reader)> {
        let fd = self.local.stream(psock).filter(|stream| stream.moved().is_none())?.fd();
        Some((fd, self.local.parser(psock)))
    }

    /// Takes back what calls on a csock have borrowed, when none is about to read it.
    pub fn take_back(&mut self, csock: CsockId) {
        if self.state().lent().contains(csock)
            && let Some(slot) = self.its_mux().loans.slot(csock)
        {
            self.take_from(slot, slot.lock());
        }
    }

    /// Takes back all that calls have borrowed.
    pub fn take_all_back(&mut self) {
        for csock in self.state().lent().iter() {
            self.take_back(csock);
        }
    }

    /// If somebody waits for messages, takes back what no call is about to read, and has calls that are bring it. True if
    /// something came back.
    pub fn recall(&mut self) -> bool {
        let mut came_back = false;
        for csock in self.state().wanted_back().iter() {
            let Some(slot) = self.its_mux().loans.slot(csock) else { continue };
            slot.is_recalled.store(true, Relaxed);
            fence(SeqCst);
            if let Some(borrowing) = slot.try_lock() {
                self.take_from(slot, borrowing);
                came_back = true;
            }
        }
        came_back
    }

    fn take_from(&mut self, slot: &Slot, mut borrowing: MutexGuard<'_, Option<Borrowing>>) {
        slot.is_filled.store(false, Relaxed);
        slot.is_recalled.store(false, Relaxed);
        if let Some(Borrowing { loan, regions, .. }) = borrowing.take() {
            drop(borrowing);
            self.take_regions_back(regions);
            self.give_back(loan);
        }
    }

    fn give_back(&mut self, loan: Loan) {
        // What it leaves is for whoever comes, unless it is read on here.
        self.leaves_unread |= self.with(|state, outside| state.give_back(loan, clock::now, outside));
    }
}
