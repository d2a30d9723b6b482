//! One registration in an epoll set.

use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::poll::{IN, OUT, RDHUP, View};
use crate::socket::sock::phase;
use preloop_shm::counted::Counted;
use preloop_sys::Fd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
/// What may stand beside it.
pub(super) const WITH_EXCLUSIVE: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP | libc::EPOLLWAKEUP | libc::EPOLLET) as u32;

/// What of an entry's events says how to tell, and not what.
pub(super) const HOW: u32 = (libc::EPOLLET | libc::EPOLLONESHOT | libc::EPOLLEXCLUSIVE | libc::EPOLLWAKEUP) as u32;

/// One registration.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) fd: Fd,
    /// The descriptor it is registered under in the kernel's set: another one after `fd` was closed.
    pub(super) registered: Fd,
    pub(super) file: Counted<OpenFile>,
    /// As the program gave them, with EPOLLET and its like.
    pub(super) events: u32,
    pub(super) data: u64,
    /// What the kernel was asked for last.
    pub(super) asked: u32,
    /// EPOLLONESHOT has fired.
    pub(super) disarmed: bool,
    /// The program took it out, the kernel does not know: see [`Entry::may_park`].
    pub(super) parked: bool,
    /// Is in `State::ready`, and to be looked at.
    pub(super) listed: bool,
    /// Is in `State::look_again`.
    pub(super) is_watched: bool,
    /// What the program was told of the stream's end since it last asked: an edge that comes once.
    pub(super) told: u32,
    /// How far the ring was filled when the program was last told of TCP's last bytes.
    pub(super) behind: u64,
    /// The call that reported it last, so that no answer has it twice.
    pub(super) reported: (u64, usize),
    /// The memory in whose waiters the set is entered for this entry.
    pub(super) joined: Option<Arc<Link>>,
}

/// What the kernel tells entries of a set apart by: the descriptor and the open file.
pub(super) fn key(fd: Fd, file: &OpenFile) -> (Fd, usize) {
    (fd, core::ptr::from_ref(file.sock) as usize)
}

impl Entry {
    /// A registration of which the kernel was asked nothing.
    pub(super) fn new(fd: Fd, file: Counted<OpenFile>, (events, data): (u32, u64)) -> Self {
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
            is_watched: false,
            told: 0,
            behind: 0,
            reported: (0, 0),
            joined: None,
        }
    }

    pub(super) fn key(&self) -> (Fd, usize) {
        key(self.fd, &self.file)
    }

    /// Whether it is to be looked at again, which was not known.
    pub(super) fn is_newly_watched(&mut self, view: View) -> bool {
        view.look_again && !core::mem::replace(&mut self.is_watched, true)
    }

    pub(super) fn is_edge(&self) -> bool {
        self.events & libc::EPOLLET as u32 != 0
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.events & EXCLUSIVE != 0
    }

    pub(super) fn is_level(&self) -> bool {
        self.events & (libc::EPOLLET | libc::EPOLLONESHOT) as u32 == 0
    }

    /// Whether the kernel's registration may outlive EPOLL_CTL_DEL. Programs that add and delete a connection around
    /// every request would make two system calls for a registration that, in the ring, only tells of the end. It ends
    /// with its descriptor, which must therefore be the only one.
    pub(super) fn may_park(&self) -> bool {
        self.asked & OUT == 0
            && !self.is_exclusive()
            && self.file.sock.phase() == phase::SMC
            && (self.asked & IN == 0 || self.file.sock.rx_in_ring())
            && self.file.descriptors.load(Ordering::Acquire) == 1
    }

    /// What to ask the kernel for, with the program's EPOLLET, EPOLLONESHOT and so on.
    pub(super) fn wish(&self, view: View) -> u32 {
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
