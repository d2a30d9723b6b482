//! The life of an epoll set: made, forked, duplicated, closed.

use super::{Entry, Set, State};
use crate::fdtable;
use crate::fork;
use crate::process;
use preloop_sys::unix::Inner;
use preloop_sys::{Fd, call, process as system};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

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
    pub(super) fn ends_if_closed(&self) {
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
