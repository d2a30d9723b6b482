//! epoll over rings and other descriptors together.
//!
//! The kernel's set stays underneath: other descriptors, the TCP sockets' FIN and errors and the set's own bell are
//! waited for there. A connection is registered with a tag instead of the program's data, and asked only for what
//! the kernel still knows of it. Above, the set keeps a list of entries that may be ready, as the kernel does (`rdllist`
//! in fs/eventpoll.c): an entry gets there when the peer noted news for it, when it is added or modified, or when the
//! connection moves; it stays there while it is level-triggered and ready.

mod ctl;
mod members;
mod registered;
mod wait;

use crate::fdtable;
use crate::fork;
use crate::process;
use crate::socket::bell::Bell;
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::poll::{IN, OUT, RDHUP, View, look};
use crate::socket::sock::phase;
use members::Member;
use preloop_shm::counted::Counted;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, event, process as system};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

pub use ctl::{ask_anew, control, forget_file, forget_number, take_over};

/// An epoll set that the program made.
#[derive(Debug)]
pub struct Set {
    fd: AtomicI32,
    /// Descriptors of this process that stand for it.
    descriptors: AtomicU32,
    /// Has, or once had, a connection of ours: until then every call is the kernel's.
    active: AtomicBool,
    /// Threads inside the kernel's own call, from before the set was active.
    plain: AtomicU32,
    /// A forked sibling has it too: what is in the kernel's set is not this process's alone.
    shared: AtomicBool,
    /// Its descriptor is itself polled, or is in another set: the bell must ring although nobody sleeps in this one.
    polled: AtomicBool,
    spin: AtomicU32,
    state: Mutex<State>,
}

/// One registration.
#[derive(Debug)]
struct Entry {
    fd: Fd,
    /// The descriptor it is registered under in the kernel's set: another one after `fd` was closed.
    registered: Fd,
    file: Counted<OpenFile>,
    /// As the program gave them, with EPOLLET and its like.
    events: u32,
    data: u64,
    /// What the kernel was asked for last.
    asked: u32,
    /// EPOLLONESHOT has fired.
    disarmed: bool,
    /// The program took it out, the kernel does not know: see [`Entry::may_park`].
    parked: bool,
    /// Is in `State::ready`, and to be looked at.
    listed: bool,
    /// What the program was told of the stream's end since it last asked: an edge that comes once.
    told: u32,
    /// How far the ring was filled when the program was last told of TCP's last bytes.
    behind: u64,
    /// The call that reported it last, so that no answer has it twice.
    reported: (u64, usize),
    /// The memory in whose waiters the set is entered for this entry.
    joined: Option<Arc<Link>>,
}

#[derive(Debug, Default)]
struct State {
    entries: FxHashMap<u64, Entry>,
    /// Entries by descriptor and open file, the address of its shared part.
    numbers: FxHashMap<(Fd, usize), u64>,
    next: u64,
    ready: VecDeque<u64>,
    members: Vec<Member>,
    bell: Option<Arc<Bell>>,
    /// The bell's number in the kernel's set.
    bell_entry: u64,
    sleepers: u32,
    /// Some connection has memory but no way to tell the set of news: its group has no room for one more waiter.
    deaf: bool,
    /// Counts the calls.
    call: u64,
    /// Answers given without asking the kernel.
    unasked: u32,
    asked_at: u64,
}

const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
/// What may stand beside it.
const WITH_EXCLUSIVE: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP | libc::EPOLLWAKEUP | libc::EPOLLET) as u32;

/// What of an entry's events says how to tell, and not what.
const HOW: u32 = (libc::EPOLLET | libc::EPOLLONESHOT | libc::EPOLLEXCLUSIVE | libc::EPOLLWAKEUP) as u32;

/// Marks the kernel's data of an entry as ours: in the upper half a random number that is no address and no small
/// integer, in the lower half the number of the entry, or of the bell.
fn tag() -> u64 {
    static TAG: OnceLock<u64> = OnceLock::new();
    *TAG.get_or_init(|| (0xb000_0000 | system::random() & 0x0fff_ffff) << 32)
}

/// Makes what all sets have in common: before a fork, so that both sides have the same.
pub fn start() {
    tag();
}

fn tagged(entry: u64) -> u64 {
    tag() | entry
}

fn untag(data: u64) -> Option<u64> {
    (data >> 32 == tag() >> 32).then_some(data & 0xffff_ffff)
}

/// A set was made.
pub fn made(fd: Fd) {
    if fork::is_inside() || process::is_uncounted() {
        return;
    }
    // A number that comes back from the kernel is free: what stood there was closed unseen.
    let set = Set {
        fd: AtomicI32::new(fd),
        descriptors: AtomicU32::new(1),
        active: AtomicBool::new(false),
        plain: AtomicU32::new(0),
        shared: AtomicBool::new(false),
        polled: AtomicBool::new(false),
        spin: AtomicU32::new(crate::socket::wait::SPIN_FIRST),
        state: Mutex::new(State { next: 1, ..State::default() }),
    };
    fdtable::set_epoll(fd, Some(Arc::new(set)));
}

impl Set {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn fd(&self) -> Fd {
        self.fd.load(Ordering::Relaxed)
    }

    /// Whether the set has, or had, a connection of ours.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// The connection of an entry has memory, or moved, or ended: look at it anew, and tell who sleeps.
    pub fn reconsider(&self, entry: u64) {
        let mut state = self.state();
        state.join(entry);
        state.list(entry);
        state.wake_others();
    }

    /// The set's own descriptor is waited for elsewhere: from now on the bell rings for every news.
    pub fn is_polled(&self) {
        if !self.polled.swap(true, Ordering::AcqRel) {
            self.rest(&mut self.state());
        }
    }

    /// Nobody is about to look at the set. One that is itself polled stays declared asleep, so that the next news rings;
    /// and when something is ready already, its bell says so to whoever polls it or sleeps in it.
    fn rest(&self, state: &mut State) {
        if self.polled.load(Ordering::Acquire) && state.bell.is_some() {
            state.sleep();
            state.harvest();
            state.drop_unready(self.fd());
        }
        if !state.ready.is_empty() {
            state.wake_others();
        }
    }

    /// A thread enters the kernel's own call, unless the set has become active. Whoever makes it active afterwards knows
    /// of the thread.
    pub fn enter_plain(&self) -> bool {
        self.plain.fetch_add(1, Ordering::SeqCst);
        let plain = !self.active.load(Ordering::SeqCst);
        if !plain {
            self.plain.fetch_sub(1, Ordering::SeqCst);
        }
        plain
    }

    /// It came back from there.
    pub fn leave_plain(&self) {
        let others = self.plain.fetch_sub(1, Ordering::SeqCst) > 1;
        if others && self.is_active() {
            // It may have emptied the bell that was rung for all of them.
            self.wake_plain(&self.state());
        }
    }

    /// Has the threads in the kernel's own call come back: they know nothing of the set's bell and what it stands for.
    fn wake_plain(&self, state: &State) {
        if self.plain.load(Ordering::SeqCst) > 0
            && let Some(bell) = &state.bell
        {
            bell.ring();
        }
    }

    /// Nothing in the set changes while the answer lives (for fork).
    pub fn freeze(&self) -> impl Drop + use<'_> {
        self.state()
    }

    /// The process forks, and both sides will have the set.
    pub fn is_shared(&self) {
        self.shared.store(true, Ordering::Release);
    }

    /// In a forked child: bell and waiters are the parent's. What the child adds has numbers of its own, since both
    /// processes hear of all events in the one kernel set.
    pub fn after_fork(&self) {
        let mut state = self.state();
        state.bell = None;
        state.members.clear();
        state.entries.values_mut().for_each(|entry| entry.joined = None);
        state.next = system::random() & 0xffff_ffff | 1;
        state.sleepers = 0;
        self.plain.store(0, Ordering::Relaxed);
    }

    /// The kernel made another descriptor of the set.
    pub fn duplicated(&self) {
        self.descriptors.fetch_add(1, Ordering::AcqRel);
    }

    /// The program closes a descriptor of the set; with the last one its entries go.
    pub fn closes(self: &Arc<Self>, fd: Fd) {
        if process::is_uncounted() {
            return;
        }
        if self.descriptors.fetch_sub(1, Ordering::AcqRel) > 1 {
            if self.fd() == fd {
                self.fd.store(fdtable::epoll_fd_of(self).unwrap_or(-1), Ordering::Relaxed);
            }
            return;
        }
        let sleepers = self.state().sleepers;
        if sleepers > 0
            && let Ok(kept) = call::duplicate_high(fd)
        {
            // Calls that sleep in it go on, as in the kernel.
            self.fd.store(process::adopt(Inner::from_raw(kept)), Ordering::Relaxed);
            return;
        }
        self.end();
    }

    /// A call is over. The last one that slept in a set which was closed meanwhile ends it.
    fn ends_if_closed(&self) {
        if self.descriptors.load(Ordering::Acquire) == 0 && self.state().sleepers == 0 {
            process::disown(self.fd.swap(-1, Ordering::Relaxed));
            self.end();
        }
    }

    /// Its entries go.
    fn end(&self) {
        let mut state = self.state();
        let ids: Vec<u64> = state.entries.keys().copied().collect();
        let gone: Vec<Entry> = ids.iter().filter_map(|id| state.remove(*id)).collect();
        state.bell = None;
        drop(state);
        for (id, entry) in ids.iter().zip(&gone) {
            entry.file.unwatch_set(self, *id);
        }
    }
}

impl State {
    /// The set's bell, made and put into the kernel's set at first need.
    fn bell(&mut self, set: Fd) -> Result<(), Errno> {
        if self.bell.is_some() {
            return Ok(());
        }
        let bell = Bell::new()?;
        let entry = self.number();
        event::epoll_ctl(set, libc::EPOLL_CTL_ADD, bell.fd(), libc::EPOLLIN as u32, tagged(entry))?;
        self.bell_entry = entry;
        self.bell = Some(Arc::new(bell));
        // In a forked child there are entries already.
        let ids: Vec<u64> = self.entries.keys().copied().collect();
        for id in ids {
            self.join(id);
            self.list(id);
        }
        Ok(())
    }

    /// A number for an entry.
    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = self.next % 0xffff_fffe + 1;
        number
    }

    /// Puts an entry on the list of those that may be ready.
    fn list(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.listed) {
            // Bytes that come later are KCM's, and no news.
            if entry.file.is_attached() && look(&entry.file).report(entry.events, 0) == 0 {
                return;
            }
            entry.listed = true;
            self.ready.push_back(id);
        }
    }

    /// Takes entries that are not ready off the list: the kernel's poll of a set, `set`, looks at them, too.
    fn drop_unready(&mut self, set: Fd) {
        let Self { ready, entries, .. } = self;
        ready.retain(|id| {
            let Some(entry) = entries.get_mut(id) else { return false };
            let is_quiet = entry.disarmed || entry.parked || !entry.listed;
            // While TCP's last bytes are there the kernel says so; it will not when the ring's are next.
            let view = look(&entry.file);
            entry.catch_up(set, *id, view);
            let is_ready = view.report(entry.events, 0) != 0 || entry.file.sock.rx_is_draining();
            entry.listed = !is_quiet && is_ready;
            entry.listed
        });
    }

    /// Rings for the threads that sleep in the set, when there may be something for them.
    fn wake_others(&self) {
        if let Some(bell) = self.bell.as_ref().filter(|bell| bell.seq.load(Ordering::Relaxed) & 1 == 1) {
            bell.ring();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        self.part(id);
        let entry = self.entries.remove(&id)?;
        self.numbers.remove(&entry.key());
        Some(entry)
    }
}

/// What the kernel tells entries of a set apart by: the descriptor and the open file.
fn key(fd: Fd, file: &OpenFile) -> (Fd, usize) {
    (fd, core::ptr::from_ref(file.sock) as usize)
}

impl Entry {
    /// A registration of which the kernel was asked nothing.
    fn new(fd: Fd, file: Counted<OpenFile>, (events, data): (u32, u64)) -> Self {
        Self {
            fd,
            registered: fd,
            file,
            events,
            data,
            asked: 0,
            disarmed: false,
            parked: false,
            listed: false,
            told: 0,
            behind: 0,
            reported: (0, 0),
            joined: None,
        }
    }

    fn key(&self) -> (Fd, usize) {
        key(self.fd, &self.file)
    }

    fn is_edge(&self) -> bool {
        self.events & libc::EPOLLET as u32 != 0
    }

    fn is_exclusive(&self) -> bool {
        self.events & EXCLUSIVE != 0
    }

    fn is_level(&self) -> bool {
        self.events & (libc::EPOLLET | libc::EPOLLONESHOT) as u32 == 0
    }

    /// Whether the kernel's registration may outlive EPOLL_CTL_DEL. Programs that add and delete a connection around
    /// every request would make two system calls for a registration that, in the ring, only tells of the end. It ends
    /// with its descriptor, which must therefore be the only one.
    fn may_park(&self) -> bool {
        const TELLS: u32 = IN | OUT;
        self.asked & TELLS == 0
            && !self.is_exclusive()
            && self.file.sock.phase() == phase::SMC
            && self.file.descriptors.load(Ordering::Acquire) == 1
    }

    /// What to ask the kernel for, with the program's EPOLLET, EPOLLONESHOT and so on.
    fn wish(&self, view: View) -> u32 {
        let mut ask = view.ask(self.events & !HOW);
        if self.is_exclusive() && ask & RDHUP != 0 {
            // The kernel refuses it beside EPOLLEXCLUSIVE. A socket whose bytes come through the ring is readable at
            // its end alone, which says the same.
            ask &= !RDHUP;
            ask |= if view.kernel_in { 0 } else { libc::EPOLLIN as u32 };
        }
        ask | self.events & HOW
    }
}
