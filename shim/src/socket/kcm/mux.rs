//! A mux as this process has it.

use super::local::Local;
use super::lower::{self, News};
use super::vault::{Member, Vault};
use super::{proc, pump, registry, share};
use crate::fork;
use crate::process;
use core::cell::Cell;
use libc::{EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP};
use preloop_kcm::id::{CsockId, PsockId};
use preloop_kcm::outside::Outside;
use preloop_kcm::pull::{Caller, NoSink, Sink};
use preloop_kcm::stats::{MuxStats, PsockStats};
use preloop_kcm::{MuxState, Set, Work};
use preloop_shm::mux::{Locked, MuxMemory, MuxRegions};
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, clock};
use preloop_uapi::mux::{CsockEntry, MuxHeader, PLACES, PsockEntry};
use preloop_uapi::sync::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// What a psock's epoll entry waits for.
const EVENTS: u32 = (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) as u32;
/// Events that tell of a change of a TCP socket's state.
const CHANGES: u32 = (EPOLLRDHUP | EPOLLHUP | EPOLLERR) as u32;
/// Events taken from a mux's set at a time.
const AT_A_TIME: usize = 16;

/// What an entry of a mux's epoll set stands for, in the 64 bits that the kernel keeps for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Psock(PsockId),
    FarEnd(CsockId),
    Kick,
    Timer,
    Desk,
}

impl Source {
    fn to_bits(self) -> u64 {
        match self {
            Self::Psock(PsockId(n)) => u64::from(n),
            Self::FarEnd(CsockId(n)) => 1 << 8 | u64::from(n),
            Self::Kick => 2 << 8,
            Self::Timer => 3 << 8,
            Self::Desk => 4 << 8,
        }
    }

    fn from_bits(bits: u64) -> Self {
        match (bits >> 8, bits as u8) {
            (0, n) => Self::Psock(PsockId(n)),
            (1, n) => Self::FarEnd(CsockId(n)),
            (2, _) => Self::Kick,
            (3, _) => Self::Timer,
            _ => Self::Desk,
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Mux {
    /// Its number in this process.
    number: u64,
    memory: MuxMemory,
    memfd: Fd,
    /// Wakes the pumps of all processes that have the mux: an eventfd that nobody reads.
    kick: Fd,
    /// Made when another process may come to have it.
    vault: OnceLock<Vault>,
    /// Csocks, by bits, that a signal handler let go of while its thread was inside a mux: whoever enters next does the rest.
    left: [AtomicU64; PLACES / 64],
    local: Mutex<Local>,
}

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

impl Mux {
    /// Makes a mux.
    ///
    /// # Errors
    /// EMFILE, ENOMEM and their like.
    pub fn make() -> Result<Arc<Self>, Errno> {
        let (memory, memfd) = MuxMemory::create()?;
        let kick = Inner::from_raw(call::eventfd()?).move_high();
        Self::with(memory, memfd, kick, OnceLock::new())
    }

    /// A mux that another process made, in whose vault is what this one needs.
    ///
    /// # Errors
    /// ENOENT when it is not; EMFILE and its like.
    pub fn open(memory: MuxMemory, memfd: Inner, vault: Vault) -> Result<Arc<Self>, Errno> {
        // Whoever looks into the vault has the lock.
        let locked = lock(&memory);
        let found = vault.find(Member::Kick);
        drop(locked);
        let Some([Some(kick), ..]) = found else { return Err(Errno::ENOENT) };
        let mux = Self::with(memory, memfd, kick.move_high(), OnceLock::from(vault))?;
        // All that is there is new to this process.
        mux.local().members = mux.header().members.load(Ordering::Acquire).wrapping_sub(1);
        Ok(mux)
    }

    fn with(memory: MuxMemory, memfd: Inner, kick: Inner, vault: OnceLock<Vault>) -> Result<Arc<Self>, Errno> {
        // Handlers of pthread_atfork(3) make none.
        if fork::is_inside() {
            return Err(Errno::EAGAIN);
        }
        let local = Local::new()?;
        local.watch(kick.fd(), (EPOLLIN | EPOLLET) as u32, Source::Kick.to_bits())?;
        let (memfd, kick) = (process::adopt(memfd), process::adopt(kick));
        let local = Mutex::new(local);
        // One that becomes known now is held still by a fork, or is not in the child.
        let _no_fork = fork::may_not_fork();
        let mux =
            Arc::new(Self { number: registry::number(), memory, memfd, kick, vault, left: Default::default(), local });
        registry::add(&mux);
        Ok(mux)
    }

    /// Its number in this process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What is known without the lock.
    pub fn header(&self) -> &MuxHeader {
        self.memory.header()
    }

    /// What is known of a csock beside its state.
    pub fn csock(&self, csock: CsockId) -> &CsockEntry {
        &self.header().csocks[usize::from(csock.0)]
    }

    /// What is known of a psock beside its state.
    pub fn psock(&self, psock: PsockId) -> &PsockEntry {
        &self.header().psocks[usize::from(psock.0)]
    }

    /// Its name on this host.
    pub fn id(&self) -> u64 {
        self.header().id.load(Ordering::Relaxed)
    }

    /// Its memory.
    pub fn memfd(&self) -> Fd {
        self.memfd
    }

    /// Its eventfd.
    pub fn kick_fd(&self) -> Fd {
        self.kick
    }

    /// Its vault, if other processes may have it too.
    pub fn vault(&self) -> Option<&Vault> {
        self.vault.get()
    }

    /// Its vault, made if need be. For who holds its lock, or is about to fork.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub fn make_vault(&self) -> Result<&Vault, Errno> {
        if let Some(vault) = self.vault.get() {
            return Ok(vault);
        }
        let vault = Vault::make(self.id())?;
        Ok(self.vault.get_or_init(|| vault))
    }

    /// Whether other processes may have it too.
    pub fn is_shared(&self) -> bool {
        self.header().shared.load(Ordering::Acquire) != 0
    }

    /// Its counts, when nobody has it any more but who lets it go.
    pub fn last_statistics(&self) -> (MuxStats, PsockStats) {
        lock(&self.memory).parts().0.statistics()
    }

    /// This process holds a csock no more, but its thread may not enter now.
    pub fn leave_later(&self, csock: CsockId) {
        self.left[usize::from(csock.0 / 64)].fetch_or(1 << (csock.0 % 64), Ordering::AcqRel);
        self.kick();
    }

    /// A flush was to be told of, by a process that has the csock.
    fn leave_untold(&self, csock: CsockId) {
        self.header().untold[usize::from(csock.0 / 64)].fetch_or(1 << (csock.0 % 64), Ordering::Relaxed);
        self.kick();
    }

    /// Takes what [`Mux::leave_later`] left.
    fn take_left(&self) -> Vec<CsockId> {
        let left = self.left.each_ref().map(|word| match word.load(Ordering::Relaxed) {
            0 => 0,
            _ => word.swap(0, Ordering::AcqRel),
        });
        let is_left = |n: &u8| left[usize::from(n / 64)] >> (n % 64) & 1 != 0;
        if left == [0; PLACES / 64] { Vec::new() } else { (0..=u8::MAX).filter(is_left).map(CsockId).collect() }
    }

    /// A member came or went: other processes are to take note.
    pub fn members_changed(&self) {
        self.header().members.fetch_add(1, Ordering::AcqRel);
        if self.is_shared() {
            self.kick();
        }
    }

    /// This process's descriptors of it, with no regard to the state (for fork).
    pub fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Wakes the pumps of all processes that have it.
    pub fn kick(&self) {
        let _ = call::write(self.kick, &1u64.to_ne_bytes());
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// EAGAIN in a signal handler that came in while this very thread has the lock.
    pub fn enter(self: &Arc<Self>) -> Result<Entered<'_>, Errno> {
        let inside = Inside::begin().ok_or(Errno::EAGAIN)?;
        let locked = lock(&self.memory);
        let mut entered = Entered { local: self.local(), locked, mux: self, _inside: inside, news: News::default() };
        let needs_repair = self.header().needs_repair.swap(0, Ordering::AcqRel) != 0;
        let members = self.header().members.load(Ordering::Acquire);
        // For a repair all TCP sockets have to be there, to be asked how far the dead one had come with them.
        if core::mem::replace(&mut entered.local.members, members) != members || needs_repair {
            share::sync(&mut entered);
        }
        if needs_repair {
            entered.with(|state, outside| {
                state.repair(outside);
                state.write_stalled(outside);
            });
            for csock in entered.state().csocks().iter() {
                entered.local.recount(csock, self.csock(csock));
            }
            crate::log::debug_kcm(format_args!("mux {}: a process was killed inside", self.number));
            // It had no time to say what it had changed.
            self.members_changed();
        }
        for csock in self.take_left() {
            super::csock::let_go(&mut entered, csock);
        }
        Ok(entered)
    }

    /// What the pump does when the mux's set has something for it. If that is not all, the set has something again.
    pub fn serve(self: &Arc<Self>) {
        let Ok(mut entered) = self.enter() else { return };
        entered.serve(None, &mut NoSink);
        for psock in entered.state().unread().iter() {
            entered.pull(psock, None, &mut NoSink);
        }
    }

    /// In a forked child: what belongs to the parent alone is made anew.
    pub fn after_fork(self: &Arc<Self>) {
        let mut local = self.local();
        if local.renew().is_err() {
            return;
        }
        let edges = (EPOLLIN | EPOLLET) as u32;
        let _ = local.watch(self.kick, edges, Source::Kick.to_bits());
        if let Some(desk) = local.desk() {
            let _ = local.watch(desk, edges, Source::Desk.to_bits());
        }
        for (csock, _) in local.csocks() {
            if let Some(far) = local.far_end(csock) {
                let _ = local.watch(far, EPOLLET as u32, Source::FarEnd(csock).to_bits());
            }
        }
        for (psock, _) in local.psocks() {
            if let Some(tcp) = local.tcp(psock) {
                let _ = local.watch(tcp, EVENTS, Source::Psock(psock).to_bits());
            }
        }
        let _ = pump::start(self, &local);
    }

    /// Has the pump serve it, which a call does that attaches: for a process that may share it, whose pump takes note of what
    /// others do.
    pub fn have_pump(self: &Arc<Self>) {
        if let Ok(entered) = self.enter() {
            let _ = pump::start(self, &entered.local);
        }
    }
}

/// The lock. That its owner died is left for who enters next: for a repair TCP has to be asked.
fn lock(memory: &MuxMemory) -> Locked<'_> {
    let locked = memory.lock();
    if locked.owner_died() {
        memory.header().needs_repair.store(1, Ordering::Release);
    }
    locked
}

impl Drop for Mux {
    fn drop(&mut self) {
        let mut news = News::default();
        let mut local = self.local();
        pump::stop(&local);
        proc::remember(self);
        local.give_up(&mut news);
        drop(local);
        process::disown(self.kick);
        process::disown(self.memfd);
    }
}

/// A mux whose lock this thread has. What the core left to do is done before it lets go.
#[derive(Debug)]
pub struct Entered<'a> {
    /// This process's descriptors.
    pub local: MutexGuard<'a, Local>,
    locked: Locked<'a>,
    mux: &'a Arc<Mux>,
    /// Dropped when the locks are let go.
    _inside: Inside,
    /// Dropped last of all.
    pub news: News,
}

/// The core's view of a mux's outside.
pub type Outer<'a, 'b> = Outside<'a, MuxRegions<'b>, Local>;

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
        self.local.watch(fd, EVENTS, Source::Psock(psock).to_bits())?;
        pump::start(self.mux, &self.local)
    }

    /// Begins to watch a csock's far end, which hangs up when the csock has no holder any more.
    pub fn watch_far_end(&mut self, csock: CsockId, far: Fd) -> Result<(), Errno> {
        self.local.watch(far, EPOLLET as u32, Source::FarEnd(csock).to_bits())
    }

    /// Opens the desk for newcomers.
    pub fn open_desk(&mut self, desk: Inner) -> Result<(), Errno> {
        let desk = process::adopt(desk);
        let watched = self.local.watch(desk, (EPOLLIN | EPOLLET) as u32, Source::Desk.to_bits());
        let served = watched.and_then(|()| pump::start(self.mux, &self.local));
        match served {
            Ok(()) => self.local.set_desk(desk),
            Err(_) => process::disown(desk),
        }
        served
    }

    /// Reads a psock, for a call that waits on a csock with its buffers, or for nobody.
    pub fn pull<S: Sink>(&mut self, psock: PsockId, csock: Option<CsockId>, sink: &mut S) {
        let now = clock::now();
        self.with(|state, outside| state.pull(psock, Caller { csock, sink, now }, outside));
    }

    /// Reads the psocks that had no receiver for a message and now have one, for a call that waits on a csock.
    pub fn resume<S: Sink>(&mut self, csock: CsockId, sink: &mut S) {
        loop {
            let resumed = self.state().take_resumed();
            if resumed.is_empty() {
                break;
            }
            for psock in resumed.iter() {
                self.pull(psock, Some(csock), sink);
            }
        }
    }

    /// Does what the events of the mux's set say, for a call that waits on a csock, or for nobody. Answers how many there
    /// were.
    pub fn serve<S: Sink>(&mut self, csock: Option<CsockId>, sink: &mut S) -> usize {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_A_TIME];
        let count = call::epoll_wait(self.local.set, &mut events, 0).unwrap_or(0);
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
                    self.state().expire(clock::now());
                }
            }
        }
        count
    }

    fn psock_event<S: Sink>(&mut self, psock: PsockId, bits: u32, csock: Option<CsockId>, sink: &mut S) {
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
        let (Some(fd), entry) = (self.local.tcp(psock), self.mux.psock(psock)) else { return false };
        // The kernel's own error is overwritten by KCM's.
        let failed = bits & EPOLLERR as u32 != 0 && lower::take_kernels_error(fd);
        let now = lower::seen(fd, bits);
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
        // A sibling that knows of one may end before it comes.
        let may_be_one = self.local.has_deadlines || self.mux.is_shared();
        let deadline = if may_be_one { self.state().next_deadline() } else { None };
        self.local.set_deadline(deadline.unwrap_or(0), Source::Timer.to_bits());
        if !self.state().unread().is_empty() {
            self.mux.kick();
        }
    }
}

impl Entered<'_> {
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
