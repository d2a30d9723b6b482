//! epoll_ctl(2), and what becomes of entries when their descriptor is closed.

use super::registered::registered_in;
use super::{EXCLUSIVE, Entry, HOW, Set, State, WITH_EXCLUSIVE, key, tagged, untag};
use crate::fdtable::{self, hint};
use crate::process;
use crate::socket::back::ask;
use crate::socket::clc;
use crate::socket::file::{OpenFile, Watcher};
use crate::socket::poll::look;
use crate::socket::sock::phase;
use preloop_shm::counted::Counted;
use preloop_sys::{Errno, Fd, call, event};
use preloop_uapi::decline::Decline;
use preloop_uapi::listing::kind;
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

/// epoll_ctl(2). `None`: the kernel's call, as if the library were not there.
pub fn control(set: Fd, op: i32, fd: Fd, event: Option<(u32, u64)>) -> Option<Result<usize, Errno>> {
    if let Some(inner) = fdtable::epoll(fd) {
        inner.is_polled();
    }
    if op == libc::EPOLL_CTL_ADD && process::settings().kcm {
        fdtable::give_hint(fd, hint::IN_SET);
    }
    let file = fdtable::get(fd)?;
    if is_refused(op, event) || fdtable::get(set).is_some() {
        return None;
    }
    let Some(set) = &fdtable::epoll(set) else {
        // A set that was made where no hook saw it, and is waited for there too: it hears of the kernel's socket alone.
        let pinned = op != libc::EPOLL_CTL_ADD || ask::pin(&file);
        return if pinned { None } else { Some(Err(Errno::EOPNOTSUPP)) };
    };
    let known = set.state().find(fd, &file);
    let answer = match (op, known, event) {
        (libc::EPOLL_CTL_ADD, Some((id, true)), Some(event)) => set.unpark(id, event),
        // As if it were not there, which the kernel does not know.
        (_, Some((_, true)), _) => Err(Errno::ENOENT),
        (libc::EPOLL_CTL_ADD, None, Some(event)) if may_move(&file) => {
            // Without a bell the set does not hear of the ring, and looks now and then.
            if set.state().bell(set.fd()).is_err() && clc::pin(&file, Decline::MEMORY) {
                return None;
            }
            set.add(fd, file, event)
        }
        (libc::EPOLL_CTL_MOD, Some((id, _)), Some(event)) => set.modify(&mut set.state(), id, event),
        (libc::EPOLL_CTL_DEL, Some((id, _)), _) => set.delete(id),
        _ => return None,
    };
    Some(answer.map(|()| 0))
}

/// Whether the kernel refuses the call, whatever is in the set; it says how.
fn is_refused(op: i32, event: Option<(u32, u64)>) -> bool {
    match (op, event) {
        (libc::EPOLL_CTL_ADD, Some((events, _))) => {
            events & EXCLUSIVE != 0 && events & !(EXCLUSIVE | WITH_EXCLUSIVE) != 0
        }
        (libc::EPOLL_CTL_MOD, Some(_)) | (libc::EPOLL_CTL_DEL, _) => false,
        _ => true,
    }
}

impl State {
    /// The entry of a descriptor and open file, and whether it is parked.
    fn find(&self, fd: Fd, file: &OpenFile) -> Option<(u64, bool)> {
        let id = *self.numbers.get(&key(fd, file))?;
        Some((id, self.entries.get(&id)?.parked))
    }
}

/// Whether a connection is, or can come to be, in shared memory, or KCM has a say in its readiness.
fn may_move(file: &OpenFile) -> bool {
    let may_move = file.sock.phase() != phase::TCP || file.concerns_kcm();
    may_move && file.sock.listing.kind.load(Ordering::Relaxed) != kind::LISTEN
}

impl Set {
    fn add(self: &Arc<Self>, fd: Fd, file: Counted<OpenFile>, (events, data): (u32, u64)) -> Result<(), Errno> {
        let mut state = self.state();
        let id = state.number();
        let view = look(&file);
        let mut entry = Entry::new(fd, file, (events, data));
        entry.asked = entry.wish(view);
        self.becomes_active(&state);
        // Under the set's lock: an event that fires at once finds the entry.
        event::epoll_ctl(self.fd(), libc::EPOLL_CTL_ADD, fd, entry.asked, tagged(id))?;
        self.enter(&mut state, id, entry);
        Ok(())
    }

    /// Before the kernel can say anything of an entry to a thread that is in its own call: what that returns is sorted.
    fn becomes_active(&self, state: &State) {
        if !self.active.swap(true, Ordering::SeqCst) {
            self.wake_plain(state);
        }
    }

    /// Enters a registration that the kernel has under this number.
    fn enter(self: &Arc<Self>, state: &mut State, id: u64, entry: Entry) {
        let file = entry.file.clone();
        state.numbers.insert(entry.key(), id);
        state.entries.insert(id, entry);
        file.watch(Watcher::Set(self.clone(), id));
        state.join(id);
        state.list(id);
        self.rest(state);
    }

    /// Takes over a registration that was left to the kernel alone. An EPOLLONESHOT that has fired shows no events, which
    /// are given when it is armed anew.
    fn adopt(self: &Arc<Self>, fd: Fd, file: Counted<OpenFile>, (events, data): (u32, u64)) {
        let mut state = self.state();
        if self.shared.load(Ordering::Acquire) || state.bell(self.fd()).is_err() || state.find(fd, &file).is_some() {
            return;
        }
        let id = state.number();
        let mut entry = Entry::new(fd, file, (events, data));
        self.becomes_active(&state);
        if events & !HOW == 0 {
            entry.disarmed = true;
        } else {
            let wish = entry.wish(look(&entry.file));
            entry.asked = !wish;
            self.ask(&mut entry, id, wish);
        }
        self.enter(&mut state, id, entry);
    }

    /// Asks the kernel for something else of an entry.
    pub(super) fn ask(&self, entry: &mut Entry, id: u64, wish: u32) {
        if wish != entry.asked {
            entry.ask(self.fd(), id, wish);
        }
    }

    fn modify(&self, state: &mut State, id: u64, (events, data): (u32, u64)) -> Result<(), Errno> {
        let Some(entry) = state.entries.get_mut(&id) else { return Err(Errno::ENOENT) };
        if (entry.events | events) & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        let before = entry.events;
        entry.events = events;
        let view = look(&entry.file);
        let wish = entry.wish(view);
        // The kernel need not hear of a change that it has no part in. An EPOLLONESHOT may have fired there, and an edge
        // comes again when its entry is modified, if only into what it was.
        let has_part = entry.is_edge() && (view.kernel_in || view.kernel_out);
        if wish != entry.asked || has_part || events & libc::EPOLLONESHOT as u32 != 0 {
            if let Err(errno) = event::epoll_ctl(self.fd(), libc::EPOLL_CTL_MOD, entry.registered, wish, tagged(id)) {
                entry.events = before;
                return Err(errno);
            }
            entry.asked = wish;
        }
        entry.data = data;
        entry.disarmed = false;
        entry.parked = false;
        entry.told = 0;
        state.list(id);
        self.rest(state);
        Ok(())
    }

    /// EPOLL_CTL_ADD of an entry that the kernel still has.
    fn unpark(self: &Arc<Self>, id: u64, (events, data): (u32, u64)) -> Result<(), Errno> {
        if events & EXCLUSIVE != 0 {
            // Only an addition can ask the kernel for that.
            let parked = self.state().entries.get(&id).map(|entry| (entry.fd, entry.file.clone()));
            let (fd, file) = parked.ok_or(Errno::ENOENT)?;
            self.forget(id)?;
            return self.add(fd, file, (events, data));
        }
        self.modify(&mut self.state(), id, (events, data))
    }

    fn delete(self: &Arc<Self>, id: u64) -> Result<(), Errno> {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&id) else { return Err(Errno::ENOENT) };
        if self.shared.load(Ordering::Acquire) || !entry.may_park() {
            drop(state);
            return self.forget(id);
        }
        entry.parked = true;
        Ok(())
    }

    /// Takes an entry out of the kernel's set and this one.
    pub(super) fn forget(self: &Arc<Self>, id: u64) -> Result<(), Errno> {
        let mut state = self.state();
        let Some(entry) = state.remove(id) else { return Err(Errno::ENOENT) };
        drop(state);
        entry.file.unwatch_set(self, id);
        event::epoll_ctl(self.fd(), libc::EPOLL_CTL_DEL, entry.registered, 0, 0)
    }
}

/// The sets that have a connection, and the number of its entry there.
fn entries_of(file: &OpenFile) -> impl Iterator<Item = (Arc<Set>, u64)> {
    file.watchers_now().into_iter().filter_map(|watcher| match watcher {
        Watcher::Set(set, id) => Some((set, id)),
        Watcher::Thread(_) => None,
    })
}

/// What the kernel is to tell of a connection has changed: the sets that have it ask anew.
pub fn ask_anew(file: &OpenFile) {
    for (set, id) in entries_of(file) {
        if let Some(entry) = set.state().entries.get_mut(&id).filter(|entry| !entry.disarmed && !entry.parked) {
            let view = look(&entry.file);
            set.ask(entry, id, entry.wish(view));
            // Listed before it was attached, it would be looked at later, when bytes are KCM's.
            entry.listed &= !entry.file.is_attached() || view.report(entry.events, 0) != 0;
        }
    }
}

/// What is next may come without an event: the sets that have the connection look at it again.
pub fn look_later(file: &OpenFile) {
    entries_of(file).for_each(|(set, id)| set.look_later(id));
}

/// A connection was left to the kernel, and the library is to have a say in its readiness from now on: so it takes over what
/// is registered in the program's sets under its descriptors.
pub fn take_over(file: &Counted<OpenFile>, fds: &[Fd]) {
    let mut sets = fdtable::sets();
    sets.sort_by_key(|set| Arc::as_ptr(set).addr());
    sets.dedup_by(|one, other| Arc::ptr_eq(one, other));
    for set in sets {
        for entry in registered_in(set.fd()) {
            let is_its = fds.contains(&entry.fd) && entry.inode == call::inode(entry.fd).0;
            if is_its && untag(entry.data).is_none() {
                set.adopt(entry.fd, file.clone(), (entry.events, entry.data));
            }
        }
    }
}

/// The last descriptor of a connection in this process is about to be closed: its entries go, as they do in the
/// kernel when the last of all processes closes it. A sibling that still holds it (`last` is false) would keep the
/// kernel's registration alive, and its events would come under a tag that nobody knows. In a set that siblings have as
/// well the registration is theirs, too, and stays.
pub fn forget_file(file: &OpenFile, last: bool) {
    for (set, id) in entries_of(file) {
        let removed = set.state().remove(id);
        file.unwatch_set(&set, id);
        // A KCM mux goes on with the socket, too.
        let alone = (!last || file.is_attached()) && !set.shared.load(Ordering::Acquire);
        if let Some(entry) = removed.filter(|entry| alone || entry.parked) {
            let _ = event::epoll_ctl(set.fd(), libc::EPOLL_CTL_DEL, entry.registered, 0, 0);
        }
    }
}

/// A descriptor of a connection is about to be closed, and `other` remains. The kernel keeps what was registered under
/// the number, but nobody can change it any more: it is registered anew under the other one. (Unless that is in the set
/// itself: then the set hears of the connection in any case.)
pub fn forget_number(file: &OpenFile, fd: Fd, other: Fd) {
    for (set, id) in entries_of(file) {
        let mut state = set.state();
        let Some(entry) = state.entries.get_mut(&id).filter(|entry| entry.registered == fd) else { continue };
        let _ = event::epoll_ctl(set.fd(), libc::EPOLL_CTL_DEL, fd, 0, 0);
        entry.registered = other;
        let goes =
            entry.parked || event::epoll_ctl(set.fd(), libc::EPOLL_CTL_ADD, other, entry.asked, tagged(id)).is_err();
        if goes {
            let removed = state.remove(id);
            drop(state);
            file.unwatch_set(&set, id);
            drop(removed);
        }
    }
}
