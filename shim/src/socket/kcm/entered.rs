//! Being inside a mux: with its lock, and what is done before that is let go.

use super::local::Local;
use super::lower::News;
use super::mux::Mux;
use super::source::{EVENTS, Source};
use super::{pump, senders};
use crate::process;
use crate::socket::{stuck, wait};
use core::cell::Cell;
use libc::{EPOLLET, EPOLLIN};
use preloop_kcm::direct::NoSink;
use preloop_kcm::id::{CsockId, PsockId};
use preloop_kcm::outside::Outside;
use preloop_kcm::{MuxState, Set, Work};
use preloop_shm::mux::{Lent, Locked, MuxRegions};
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd};
use preloop_uapi::sync::Ordering;
use std::sync::{Arc, MutexGuard};

thread_local! {
    /// Whether this thread is inside a mux: a signal handler that comes in between must not wait for its lock.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a mux, and what runs now a signal handler.
pub fn is_inside() -> bool {
    INSIDE.get()
}

/// This thread's being inside a mux. It ends when the locks are let go, and not before.
#[derive(Debug)]
pub(super) struct Inside;

impl Inside {
    /// `None` when it is inside already.
    pub(super) fn begin() -> Option<Self> {
        if INSIDE.replace(true) { None } else { Some(Self) }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// A mux whose lock this thread has. What the core left to do is done before it lets go.
#[derive(Debug)]
pub struct Entered<'a> {
    /// Let go of before the process's own lock, as it was taken after it.
    locked: Locked<'a>,
    /// This process's descriptors.
    pub local: MutexGuard<'a, Local>,
    mux: &'a Arc<Mux>,
    /// Something is left unread that nobody was told of.
    pub(super) leaves_unread: bool,
    /// The psock that was read last for a call.
    pub(super) last_read: Option<PsockId>,
    /// Dropped when the locks are let go.
    _inside: Inside,
    /// Dropped last of all.
    pub news: News,
}

/// The core's view of a mux's outside.
pub type Outer<'a, 'b> = Outside<'a, MuxRegions<'b>, Local>;

impl<'a> Entered<'a> {
    /// Takes the locks, and looks at nothing yet.
    ///
    /// # Errors
    /// EAGAIN in a signal handler that came in while this very thread has them.
    pub fn begin(mux: &'a Arc<Mux>) -> Result<Self, Errno> {
        let inside = Inside::begin().ok_or(Errno::EAGAIN)?;
        // Threads of one process meet at its own lock: the other one the kernel passes on to whoever sleeps, however long
        // that takes to wake.
        let local = mux.local();
        let (locked, news) = (mux.lock(), News::default());
        Ok(Self { locked, local, mux, leaves_unread: false, last_read: None, _inside: inside, news })
    }

    /// Which mux.
    pub fn its_mux(&self) -> &'a Arc<Mux> {
        self.mux
    }
}

impl Entered<'_> {
    /// Which mux, to keep.
    pub fn mux(&self) -> Arc<Mux> {
        Arc::clone(self.mux)
    }

    /// Lends the regions of a csock's messages and of a psock.
    pub fn lend_regions(&mut self, psock: Option<PsockId>, csock: CsockId) -> Option<Lent> {
        self.locked.lend(psock, csock)
    }

    /// Takes them back.
    pub fn take_regions_back(&mut self, regions: Lent) {
        self.locked.take_back(regions);
    }

    /// Has the core do something.
    pub fn with<R>(&mut self, act: impl FnOnce(&mut MuxState, &mut Outer<'_, '_>) -> R) -> R {
        let (state, mut memory) = self.locked.parts();
        act(state, &mut Outside { memory: &mut memory, tcp: &mut self.local })
    }

    /// The state alone.
    pub fn state(&mut self) -> &mut MuxState {
        self.locked.parts().0
    }

    /// The state, and this process's descriptors, to look at.
    pub fn shown(&mut self) -> (&MuxState, &Local) {
        (self.locked.parts().0, &self.local)
    }

    /// Begins to watch a psock's TCP socket.
    pub fn watch_psock(&mut self, psock: PsockId, fd: Fd) -> Result<(), Errno> {
        self.local.watch(fd, EVENTS, Source::Psock(psock))?;
        self.local.hear(psock)?;
        pump::start(self.mux, &mut self.local)
    }

    /// Begins to watch a csock's far end, which hangs up when the csock has no holder any more.
    pub fn watch_far_end(&mut self, csock: CsockId, far: Fd) -> Result<(), Errno> {
        self.local.watch(far, EPOLLET as u32, Source::FarEnd(csock))
    }

    /// Opens the desk for newcomers.
    pub fn open_desk(&mut self, desk: Inner) -> Result<(), Errno> {
        let desk = process::adopt(desk);
        self.local.set_desk(desk);
        let watched = self.local.watch(desk, (EPOLLIN | EPOLLET) as u32, Source::Desk);
        let served = watched.and_then(|()| pump::start(self.mux, &mut self.local));
        if served.is_err() {
            self.local.set_desk(-1);
            process::disown(desk);
        }
        served
    }

    /// An error is posted on a psock: its TCP socket shows it, in this process and in its siblings.
    pub fn post(&mut self, psock: PsockId, error: i32) {
        let entry = self.mux.psock(psock);
        entry.error.store(error as u32, Ordering::Relaxed);
        entry.posts.fetch_add(1, Ordering::AcqRel);
        self.local.note_post(psock, entry, &mut self.news);
    }

    /// The core has posted errors on psocks.
    fn show(&mut self, posted: Set<PsockId>) {
        for psock in posted.iter() {
            let error = self.state().error(psock);
            self.post(psock, error);
        }
        if self.mux.is_shared() {
            self.mux.kick();
        }
    }

    /// Siblings may have posted errors.
    pub fn note_posts(&mut self) {
        for (psock, _) in self.local.psocks() {
            self.local.note_post(psock, self.mux.psock(psock), &mut self.news);
        }
    }

    /// Does what the core left to do.
    fn settle(&mut self) {
        while self.state().has_work() || self.recall() {
            let Work { gained, emptied, flushed, posted, resumed, .. } = self.state().take_work();
            for csock in emptied.iter() {
                self.local.hush(csock, self.mux.csock(csock));
            }
            for csock in gained.iter() {
                let waits = self.state().sleepers(csock) > 0;
                self.local.tell(csock, self.mux.csock(csock), waits);
            }
            for csock in flushed.iter() {
                senders::count_out_the_dead(self.mux, csock);
                if !self.local.tell_flushed(csock, self.mux.csock(csock)) {
                    self.mux.leave_untold(csock);
                }
            }
            if !posted.is_empty() {
                self.show(posted);
            }
            for psock in resumed.iter() {
                self.pull(psock, None, &mut NoSink);
            }
        }
        if self.mux.is_shared() {
            self.tell_untold();
        }
        let may_be_one = self.local.has_deadlines || self.mux.is_shared();
        let deadline = if may_be_one { self.state().next_deadline() } else { None };
        let deadline = if self.mux.is_shared() { self.agree(deadline) } else { deadline };
        let deadline = if self.local.ears.deaf { wait::sooner(deadline) } else { deadline };
        let deadline = if self.may_miss_ends() { stuck::by_next_look(deadline) } else { deadline };
        self.local.set_deadline(deadline.unwrap_or(0));
        // Readers on their own come again, or the pump finds that they do not.
        let is_seen_to = !self.mux.is_shared() && self.mux.readers.are_on_their_own();
        if self.leaves_unread && !is_seen_to && !self.state().unread().is_empty() {
            self.mux.kick();
        }
    }
}

impl Entered<'_> {
    /// When this process is to look for assembly time-outs: all that have the mux do at one time, since the one that knows of
    /// the next may be stopped or gone by then. They are told when it is sooner than they thought.
    fn agree(&self, deadline: Option<u64>) -> Option<u64> {
        let looks_at = &self.mux.header().looks_at;
        let agreed = looks_at.load(Ordering::Relaxed);
        match deadline {
            Some(sooner) if agreed == 0 || sooner < agreed => {
                looks_at.store(sooner, Ordering::Relaxed);
                self.mux.kick();
                deadline
            }
            _ => (agreed != 0).then_some(agreed),
        }
    }

    /// Tells of flushes in other processes, where this one can.
    fn tell_untold(&self) {
        for (word, n) in self.mux.header().untold.iter().zip(0u8..) {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits.trailing_zeros() as u8;
                bits &= bits - 1;
                let csock = CsockId(n * 64 + bit);
                if self.local.has_own_end(csock) {
                    word.fetch_and(!(1 << bit), Ordering::Relaxed);
                    self.local.tell_flushed(csock, self.mux.csock(csock));
                }
            }
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}
