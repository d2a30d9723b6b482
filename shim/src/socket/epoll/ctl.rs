//! epoll_ctl(2), and what becomes of entries when their descriptor is closed.

use super::{EXCLUSIVE, Entry, Set, State, key, tagged};
use crate::fdtable;
use crate::socket::clc;
use crate::socket::file::{OpenFile, Watcher};
use crate::socket::poll::look;
use crate::socket::sock::phase;
use preloop_shm::counted::Counted;
use preloop_sys::{Errno, Fd, call};
use preloop_uapi::decline::Decline;
use preloop_uapi::listing::kind;
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

/// epoll_ctl(2). `None`: the kernel's call, as if the library were not there.
pub fn control(set: &Arc<Set>, op: i32, fd: Fd, event: Option<(u32, u64)>) -> Option<Result<usize, Errno>> {
    if let Some(inner) = fdtable::epoll(fd) {
        inner.is_polled();
    }
    let file = fdtable::get(fd)?;
    let known = set.state().number(fd, &file);
    let answer = match (op, known, event) {
        (libc::EPOLL_CTL_ADD, Some((id, true)), Some(event)) => set.unpark(id, event),
        // As if it were not there, which the kernel does not know.
        (_, Some((_, true)), _) => Err(Errno::ENOENT),
        (libc::EPOLL_CTL_ADD, None, Some(event)) if may_move(&file) => {
            if set.state().bell(set.fd()).is_err() {
                // Without a bell the set would not hear of the ring.
                return if clc::pin(&file, Decline::MEMORY) { None } else { Some(Err(Errno::ENOMEM)) };
            }
            set.add(fd, file, event)
        }
        (libc::EPOLL_CTL_MOD, Some((id, _)), Some(event)) => set.modify(id, event),
        (libc::EPOLL_CTL_DEL, Some((id, _)), _) => set.delete(id),
        _ => return None,
    };
    Some(answer.map(|()| 0))
}

impl State {
    /// The entry of a descriptor and open file, and whether it is parked.
    fn number(&self, fd: Fd, file: &OpenFile) -> Option<(u64, bool)> {
        let id = *self.numbers.get(&key(fd, file))?;
        Some((id, self.entries.get(&id)?.parked))
    }
}

/// Whether a connection is, or can come to be, in shared memory.
fn may_move(file: &OpenFile) -> bool {
    file.sock.phase() != phase::TCP && file.sock.listing.kind.load(Ordering::Relaxed) != kind::LISTEN
}

impl Set {
    fn add(self: &Arc<Self>, fd: Fd, file: Counted<OpenFile>, (events, data): (u32, u64)) -> Result<(), Errno> {
        let mut state = self.state();
        let id = state.next;
        let view = look(&file);
        let mut entry = Entry {
            fd,
            file: file.clone(),
            events,
            data,
            asked: 0,
            disarmed: false,
            parked: false,
            listed: false,
            reported: (0, 0),
            joined: false,
        };
        entry.asked = entry.wish(view);
        // Under the set's lock: an event that fires at once finds the entry.
        call::epoll_ctl(self.fd(), libc::EPOLL_CTL_ADD, fd, entry.asked, tagged(id))?;
        state.next = state.next % 0xffff_fffe + 1;
        state.numbers.insert(entry.key(), id);
        state.entries.insert(id, entry);
        self.active.store(true, Ordering::Release);
        file.watch(Watcher::Set(self.clone(), id));
        state.join(id);
        state.list(id);
        state.wake_others();
        Ok(())
    }

    fn modify(&self, id: u64, (events, data): (u32, u64)) -> Result<(), Errno> {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&id) else { return Err(Errno::ENOENT) };
        if (entry.events | events) & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        let before = entry.events;
        entry.events = events;
        let wish = entry.wish(look(&entry.file));
        // The kernel need not hear of a change that it has no part in. An EPOLLONESHOT may have fired there.
        if wish != entry.asked || events & libc::EPOLLONESHOT as u32 != 0 {
            if let Err(errno) = call::epoll_ctl(self.fd(), libc::EPOLL_CTL_MOD, entry.fd, wish, tagged(id)) {
                entry.events = before;
                return Err(errno);
            }
            entry.asked = wish;
        }
        entry.data = data;
        entry.disarmed = false;
        state.list(id);
        state.wake_others();
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
        if let Some(entry) = self.state().entries.get_mut(&id) {
            entry.parked = false;
        }
        self.modify(id, (events, data))
    }

    fn delete(self: &Arc<Self>, id: u64) -> Result<(), Errno> {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&id) else { return Err(Errno::ENOENT) };
        if !entry.may_park() {
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
        call::epoll_ctl(self.fd(), libc::EPOLL_CTL_DEL, entry.fd, 0, 0)
    }
}

/// The last descriptor of a connection in this process is about to be closed: its entries go, as they do in the
/// kernel when the last of all processes closes it. A sibling that still holds it (`last` is false) would keep the
/// kernel's registration alive, and its events would come under a tag that nobody knows.
pub fn forget_file(file: &OpenFile, last: bool) {
    for watcher in file.watchers_now() {
        if let Watcher::Set(set, id) = watcher {
            let removed = set.state().remove(id);
            file.unwatch_set(&set, id);
            if let Some(entry) = removed.filter(|_| !last) {
                let _ = call::epoll_ctl(set.fd(), libc::EPOLL_CTL_DEL, entry.fd, 0, 0);
            }
        }
    }
}
