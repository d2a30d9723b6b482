//! epoll over rings and other descriptors together.
//!
//! The kernel's set stays underneath: other descriptors, the TCP sockets' FIN and errors and the set's own bell are
//! waited for there. A connection is registered with a tag instead of the program's data, and asked only for what
//! the kernel still knows of it. Above, the set keeps a list of entries that may be ready, as the kernel does (`rdllist`
//! in fs/eventpoll.c): an entry gets there when the peer noted news for it, when it is added or modified, or when the
//! connection moves; it stays there while it is level-triggered and ready.

mod ctl;
mod entry;
mod life;
mod members;
mod registered;
mod wait;

use crate::socket::bell::Bell;
use crate::socket::poll::{look, look_for};
use entry::{EXCLUSIVE, Entry, HOW, WITH_EXCLUSIVE, key};
use members::Member;
use preloop_sys::{Errno, Fd, event, process as system};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

pub use ctl::{ask_anew, control, forget_file, forget_number, look_later, take_over};
pub use life::made;

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
    /// Entries of which no event may tell what is next, and when they are looked at again.
    look_again: Vec<u64>,
    look_at: u64,
    /// Some connection has memory but no way to tell the set of news: its group has no room for one more waiter.
    deaf: bool,
    /// Counts the calls.
    call: u64,
    /// Answers given without asking the kernel.
    unasked: u32,
    asked_at: u64,
}

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
        let Self { ready, entries, look_again, .. } = self;
        ready.retain(|id| {
            let Some(entry) = entries.get_mut(id) else { return false };
            let is_quiet = entry.disarmed || entry.parked || !entry.listed;
            // While TCP's last bytes are there the kernel says so; it will not when the ring's are next.
            let view = look_for(&entry.file, if is_quiet { 0 } else { entry.events });
            entry.catch_up(set, *id, view);
            look_again.extend(entry.is_newly_watched(view).then_some(*id));
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
