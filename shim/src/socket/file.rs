//! An open file description as this process knows it: the shared [`Sock`] and what only this process can use of it.

use crate::fdtable;
use crate::process;
use crate::socket::bell::Bell;
use crate::socket::epoll::Set;
use crate::socket::group::Link;
use crate::socket::sock::{Sock, flag};
use preloop_shm::arena;
use preloop_shm::counted::Counted;
use preloop_sys::Fd;
use preloop_uapi::listing::kind;
use preloop_uapi::sync::Ordering;
use std::sync::atomic::{AtomicI32, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};

/// Who is to be told when the connection moves: a sleeping thread, or an epoll set that has it.
#[derive(Debug, Clone)]
pub enum Watcher {
    /// A thread that sleeps on this bell.
    Thread(Arc<Bell>),
    /// An epoll set, and the number of the entry there.
    Set(Arc<Set>, u64),
}

/// See the module's text.
#[derive(Debug)]
pub struct OpenFile {
    /// What siblings share.
    pub sock: &'static Sock,
    fd: AtomicI32,
    /// Descriptors of this process that stand for it.
    pub descriptors: AtomicU32,
    /// The handshake's Unix sockets, or -1: the active side's mailbox, and the connection between the two.
    pub mailbox: AtomicI32,
    /// See `mailbox`.
    pub clc: AtomicI32,
    /// Nanoseconds worth spinning for this connection before a sleep; see `wait`.
    pub spin: AtomicU32,
    link: RwLock<Option<Arc<Link>>>,
    confirmed: OnceLock<Arc<Link>>,
    watchers: Mutex<Vec<Watcher>>,
}

impl OpenFile {
    /// Starts to know a socket of the program; `None` when there is no room, and the socket stays the kernel's alone.
    pub fn enter(fd: Fd, flags: u32) -> Option<Counted<Self>> {
        let sock: &'static Sock = process::ARENA.take()?;
        sock.holders.store(1, Ordering::Relaxed);
        sock.flags.store(flags, Ordering::Relaxed);
        sock.listing.pid.store(process::pid(), Ordering::Relaxed);
        sock.listing.fd.store(fd, Ordering::Relaxed);
        sock.listing.kind.store(kind::INIT, Ordering::Relaxed);
        let file = fdtable::FILES.put(Self {
            sock,
            fd: AtomicI32::new(fd),
            descriptors: AtomicU32::new(1),
            mailbox: AtomicI32::new(-1),
            clc: AtomicI32::new(-1),
            spin: AtomicU32::new(crate::socket::wait::SPIN_FIRST),
            link: RwLock::new(None),
            confirmed: OnceLock::new(),
            watchers: Mutex::new(Vec::new()),
        });
        // A number that comes back from the kernel is free: what the table may still hold there was closed unseen.
        if let Some(stale) = fdtable::set(fd, Some(file.clone())) {
            crate::socket::close::forget(&stale, fd);
        }
        Some(file)
    }

    /// The shared memory of a confirmed connection.
    #[inline]
    pub fn link(&self) -> Option<&Arc<Link>> {
        self.confirmed.get()
    }

    /// The shared memory that the handshake prepared, confirmed or not yet.
    pub fn prepared(&self) -> Option<Arc<Link>> {
        self.link.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Prepares shared memory, or lets it go.
    pub fn prepare(&self, link: Option<Arc<Link>>) {
        *self.link.write().unwrap_or_else(|e| e.into_inner()) = link;
    }

    /// What was prepared is now in use, for the rest of the connection's life.
    pub fn confirm(&self) {
        if let Some(link) = self.prepared() {
            let _ = self.confirmed.set(link);
        }
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.watchers.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Adds somebody to tell when the connection moves. What the caller reads of the connection afterwards is at
    /// least as new as what an earlier teller saw.
    pub fn watch(&self, watcher: Watcher) {
        self.watchers().push(watcher);
    }

    /// Takes the thread that sleeps on `bell` off the list.
    pub fn unwatch_thread(&self, bell: &Arc<Bell>) {
        self.watchers().retain(|watcher| !matches!(watcher, Watcher::Thread(b) if Arc::ptr_eq(b, bell)));
    }

    /// Takes an entry of a set off the list.
    pub fn unwatch_set(&self, set: &Set, entry: u64) {
        self.watchers()
            .retain(|w| !matches!(w, Watcher::Set(s, e) if core::ptr::eq(&raw const **s, set) && *e == entry));
    }

    /// A copy of the list, so that nobody is told under its lock.
    pub fn watchers_now(&self) -> Vec<Watcher> {
        self.watchers().clone()
    }

    /// Runs `during` while the list cannot change (for fork).
    pub fn hold<R>(&self, during: impl FnOnce() -> R) -> R {
        let _held = self.watchers();
        let _link = self.link.read();
        during()
    }

    /// Whether the program wants calls not to wait.
    pub fn nonblocking(&self) -> bool {
        self.sock.has(flag::NONBLOCK)
    }

    /// Whether this end connected.
    pub fn is_active(&self) -> bool {
        self.sock.has(flag::ACTIVE)
    }

    /// One of this process's descriptors of the socket, for questions to the kernel.
    #[inline]
    pub fn fd(&self) -> Fd {
        self.fd.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// `fd` is about to be closed: from now on another descriptor is asked, or `smcss` told of.
    pub fn leave_fd(&self, fd: Fd) {
        if self.fd() == fd {
            let other = fdtable::fd_of(self).unwrap_or(-1);
            self.fd.store(other, std::sync::atomic::Ordering::Relaxed);
            self.sock.listing.fd.store(other, Ordering::Relaxed);
        }
    }
}

impl Drop for OpenFile {
    /// Nobody in this process uses it any more; the last of all holders gives the slot back.
    fn drop(&mut self) {
        process::disown(*self.mailbox.get_mut());
        process::disown(*self.clc.get_mut());
        let last = self.sock.holders.fetch_sub(1, Ordering::AcqRel) == 1;
        if let Some(link) = self.prepared() {
            link.leave(last);
        }
        if last {
            arena::give_back(self.sock);
        }
    }
}
