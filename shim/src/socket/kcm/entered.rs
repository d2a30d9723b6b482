//! Being inside a mux: with its lock, and what is done before that is let go.

use super::local::Local;
use super::lower::{self, News};
use super::mux::Mux;
use super::source::{CHANGES, EVENTS, Source};
use super::stream::Stream;
use super::{pump, senders, share};
use crate::process;
use crate::socket::{stuck, wait};
use core::cell::Cell;
use libc::{EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT};
use preloop_kcm::direct::{NoSink, Sink};
use preloop_kcm::id::{CsockId, PsockId};
use preloop_kcm::outside::Outside;
use preloop_kcm::pull::Caller;
use preloop_kcm::{MuxState, Set, Work};
use preloop_shm::mux::{Locked, MuxRegions};
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, clock, event};
use preloop_uapi::sync::Ordering;
use std::sync::{Arc, MutexGuard};

/// Events taken from a mux's set at a time.
const AT_A_TIME: usize = 16;

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
struct Inside;

impl Inside {
    /// `None` when it is inside already.
    fn begin() -> Option<Self> {
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
    leaves_unread: bool,
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
        Ok(Self { locked: mux.lock(), local, mux, leaves_unread: false, _inside: inside, news: News::default() })
    }
}

impl Entered<'_> {
    /// Which mux.
    pub fn mux(&self) -> Arc<Mux> {
        Arc::clone(self.mux)
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

    /// Reads a psock, for a call that waits on a csock with its buffers, or for nobody. One whose TCP socket this process has not,
    /// for want of a descriptor, is left to those that have it.
    pub fn pull<S: Sink>(&mut self, psock: PsockId, csock: Option<CsockId>, sink: &mut S) {
        // Pumps of other processes would have to be told of the rest at each call, and wake.
        let (now, may_leave) = (clock::now(), !self.mux.is_shared());
        self.leaves_unread |= match self.local.tcp(psock) {
            Some(_) => self.with(|state, outside| state.pull(psock, Caller { csock, sink, now, may_leave }, outside)),
            None => self.state().leave_unread(psock),
        };
    }

    /// Reads on where TCP does not tell again, for a call that waits on a csock: the psocks that had no receiver for a message
    /// and now have one; and those that more was left in, until there is something for the next call.
    pub fn read_on<S: Sink>(&mut self, csock: CsockId, sink: &mut S) {
        loop {
            let resumed = self.state().take_resumed();
            if resumed.is_empty() {
                break;
            }
            for psock in resumed.iter() {
                self.pull(psock, Some(csock), sink);
            }
        }
        // Each in its turn: others would wait for one that always has more.
        for psock in self.state().unread().iter_behind(self.mux.readers.last_read()) {
            if sink.is_full() && self.state().messages(csock) > 0 {
                break;
            }
            self.mux.readers.reads(psock);
            self.pull(psock, Some(csock), sink);
        }
    }

    /// Does what the events of the mux's set say, and reads on where TCP does not tell again, for a call that waits on a csock,
    /// or for nobody. Nobody else does while calls receive without pause. True if that may not be all: the set has more.
    pub fn serve<S: Sink>(&mut self, csock: Option<CsockId>, sink: &mut S) -> bool {
        let unread = self.state().unread();
        self.hear(csock, sink);
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_A_TIME];
        let count = event::epoll_wait(self.local.set, &mut events, 0).unwrap_or(0);
        if csock.is_some() {
            self.mux.readers.asked(clock::now());
        }
        for event in &events[..count] {
            let (bits, what) = (event.events, event.u64);
            match Source::from_bits(what) {
                Source::Psock(psock) => self.psock_event(psock, bits, csock, sink),
                Source::FarEnd(csock) if bits & EPOLLHUP as u32 != 0 => super::csock::hung_up(self, csock),
                Source::FarEnd(_) => {}
                // Members were brought up to date by entering.
                Source::Kick => self.note_posts(),
                Source::Desk => share::serve_desk(self),
                Source::Timer => {
                    self.local.timer_rang();
                    self.look_at_clock();
                    self.look_around();
                }
                Source::Bell => {
                    self.local.ears.rang();
                    self.hear(csock, sink);
                }
            }
        }
        for psock in unread.iter() {
            if self.state().unread().contains(psock) {
                self.pull(psock, csock, sink);
            }
        }
        count == AT_A_TIME
    }

    /// Does what is to be done now, for nobody. True if that may not be all.
    pub fn serve_all(&mut self) -> bool {
        self.serve(None, &mut NoSink)
    }

    /// A call that received on a csock is about to leave the mux, for sleep or for good. Unless it comes again, for what it has
    /// left, the pump is to hear of the set.
    pub fn reader_leaves(&mut self, csock: CsockId) {
        let comes_again = self.state().messages(csock) > 0;
        if self.mux.readers.leave(comes_again) {
            pump::hear(self.mux, &self.local);
            // For what calls left that were on their own.
            self.leaves_unread = true;
        }
    }

    /// Does what peers say through shared memory.
    fn hear<S: Sink>(&mut self, csock: Option<CsockId>, sink: &mut S) {
        for psock in self.local.ears.news().iter() {
            self.news_of(psock, csock, sink);
        }
    }

    /// Whether a psock waits for room whose peer's end may not come.
    fn may_miss_ends(&mut self) -> bool {
        let mut psocks = self.local.ears.psocks().iter();
        psocks.any(|psock| self.state().stalled(psock) && self.local.stream(psock).is_some_and(Stream::may_miss_end))
    }

    /// A peer may have something to say, and no way to ring, or have died in silence.
    fn look_around(&mut self) {
        if self.local.ears.deaf || self.may_miss_ends() {
            for (psock, _) in self.local.psocks() {
                self.news_of(psock, None, &mut NoSink);
            }
        }
    }

    /// Bytes, room, or an end has come through shared memory.
    fn news_of<S: Sink>(&mut self, psock: PsockId, csock: Option<CsockId>, sink: &mut S) {
        self.pull(psock, csock, sink);
        if self.local.stream(psock).is_some_and(Stream::may_have_ended) && self.has_changed(psock, 0) {
            self.state().tcp_changed(psock);
        }
        if self.state().stalled(psock) {
            self.with(|state, outside| state.writable(psock, outside));
        }
    }

    fn psock_event<S: Sink>(&mut self, psock: PsockId, bits: u32, csock: Option<CsockId>, sink: &mut S) {
        if let Some((file, _)) = self.local.stream(psock).and_then(Stream::moved) {
            wait::note(file, bits as i16);
        }
        if bits & (EPOLLIN as u32 | CHANGES) != 0 {
            self.pull(psock, csock, sink);
        }
        // Bytes alone are no change of state; room alone may be one.
        if (bits & CHANGES != 0 || bits & EPOLLIN as u32 == 0) && self.has_changed(psock, bits) {
            self.state().tcp_changed(psock);
        }
        if bits & (EPOLLOUT as u32 | CHANGES) != 0 && self.state().stalled(psock) {
            self.with(|state, outside| state.writable(psock, outside));
        }
    }

    /// Lets go of a psock's TCP socket.
    pub fn forget(&mut self, psock: PsockId) {
        self.local.forget_psock(psock, &mut self.news);
    }

    /// Whether the state of a psock's TCP socket is another one than before; then that is remembered.
    pub fn has_changed(&mut self, psock: PsockId, bits: u32) -> bool {
        let (Some(stream), entry) = (self.local.stream(psock), self.mux.psock(psock)) else { return false };
        // The kernel's own error is overwritten by KCM's.
        let failed = bits & EPOLLERR as u32 != 0 && lower::take_kernels_error(stream.fd());
        let now = lower::seen(stream, bits);
        failed | (entry.seen.swap(now, Ordering::Relaxed) != now)
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
    fn note_posts(&mut self) {
        for (psock, _) in self.local.psocks() {
            self.local.note_post(psock, self.mux.psock(psock), &mut self.news);
        }
    }

    /// Does what the core left to do.
    fn settle(&mut self) {
        while self.state().has_work() {
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
    /// A message may have taken too long.
    fn look_at_clock(&mut self) {
        let now = clock::now();
        self.state().expire(now);
        let looks_at = &self.mux.header().looks_at;
        if looks_at.load(Ordering::Relaxed) <= now {
            looks_at.store(0, Ordering::Relaxed);
        }
    }

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
