//! An open file description as this process knows it: the shared [`Sock`] and what only this process can use of it.

use crate::fdtable;
use crate::fork;
use crate::process;
use crate::socket::bell::Bell;
use crate::socket::epoll::Set;
use crate::socket::link::Link;
use crate::socket::passing::tenant::Tenant;
use crate::socket::sock::{Sock, flag, phase};
use crate::socket::users;
use preloop_shm::arena;
use preloop_shm::counted::Counted;
use preloop_sys::unix::Inner;
use preloop_sys::{Fd, call};
use preloop_uapi::listing::kind;
use preloop_uapi::sync::Ordering;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

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
    /// This process counts no more among the holders.
    ended: AtomicBool,
    /// This process counts no more among the users.
    left: AtomicBool,
    /// A fork brought it here, perhaps with owners that do not exist in this process.
    inherited: AtomicBool,
    /// The library's own descriptor, for calls that go on after the program closed all of its, or -1.
    kept: AtomicI32,
    /// The handshake's Unix sockets, or -1: the active side's mailbox, and the connection between the two.
    pub mailbox: AtomicI32,
    /// See `mailbox`.
    pub clc: AtomicI32,
    /// Nanoseconds worth spinning for this connection before a sleep; see `wait`.
    pub spin: AtomicU32,
    /// Number of the KCM mux that it is attached to in this process, or 0.
    pub mux: AtomicU64,
    link: RwLock<Option<Arc<Link>>>,
    confirmed: OnceLock<Arc<Link>>,
    watchers: Mutex<Vec<Watcher>>,
    /// Keeps the memory of `sock` mapped, if it is another process's.
    _tenant: Option<Tenant>,
}

impl OpenFile {
    /// Starts to know a socket of the program; `None` when the library does not serve SMC, or there is no room, or the
    /// number is too high, and the socket stays the kernel's alone.
    pub fn enter(fd: Fd, flags: u32) -> Option<Counted<Self>> {
        if process::settings().smc { Self::enter_any(fd, flags) } else { None }
    }

    /// As [`enter`](Self::enter), whatever the library serves.
    pub fn enter_any(fd: Fd, flags: u32) -> Option<Counted<Self>> {
        if fork::is_inside() || process::is_uncounted() || !fdtable::has_place(fd) {
            return None;
        }
        let _no_fork = fork::may_not_fork();
        let sock: &'static Sock = process::take_slot()?;
        sock.holders.store(1, Ordering::Relaxed);
        sock.users.store(1, Ordering::Relaxed);
        sock.flags.store(flags, Ordering::Relaxed);
        sock.listing.kind.store(kind::INIT, Ordering::Relaxed);
        Some(Self::know(sock, fd, None))
    }

    /// Goes on with a socket that another program or process handed over, for this process already counted; at no descriptor if `fd` is
    /// -1.
    pub fn inherit(sock: &'static Sock, fd: Fd, link: Option<Arc<Link>>, tenant: Option<Tenant>) -> Counted<Self> {
        Self::inherit_while(&fork::may_not_fork(), sock, fd, link, tenant)
    }

    /// As [`OpenFile::inherit`], for who keeps forks away.
    pub fn inherit_while(
        _no_fork: &RwLockReadGuard<'_, ()>,
        sock: &'static Sock,
        fd: Fd,
        link: Option<Arc<Link>>,
        tenant: Option<Tenant>,
    ) -> Counted<Self> {
        let file = Self::know(sock, fd, tenant);
        if let Some(link) = link {
            sock.listing.group.store(link.group.address(), Ordering::Relaxed);
            file.prepare(Some(link));
            file.confirm();
        }
        file
    }

    fn know(sock: &'static Sock, fd: Fd, tenant: Option<Tenant>) -> Counted<Self> {
        users::enlist(sock);
        if fd >= 0 {
            sock.listing.pid.store(process::pid(), Ordering::Relaxed);
            sock.listing.fd.store(fd, Ordering::Relaxed);
        }
        let file = fdtable::FILES.put(Self {
            sock,
            fd: AtomicI32::new(fd),
            descriptors: AtomicU32::new(1),
            ended: AtomicBool::new(false),
            left: AtomicBool::new(false),
            inherited: AtomicBool::new(false),
            kept: AtomicI32::new(-1),
            mailbox: AtomicI32::new(-1),
            clc: AtomicI32::new(-1),
            spin: AtomicU32::new(crate::socket::wait::SPIN_FIRST),
            mux: AtomicU64::new(0),
            link: RwLock::new(None),
            confirmed: OnceLock::new(),
            watchers: Mutex::new(Vec::new()),
            _tenant: tenant,
        });
        if fd < 0 {
            file.descriptors.store(0, Ordering::Relaxed);
            return file;
        }
        // A number that comes back from the kernel is free: what the table may still hold there was closed unseen.
        if let Some(stale) = fdtable::set(fd, Some(file.clone())) {
            crate::socket::close::forget_unseen(&stale, fd);
        }
        file
    }

    /// The shared memory of a connection that is confirmed, and has not changed back to TCP.
    #[inline]
    pub fn link(&self) -> Option<&Arc<Link>> {
        self.confirmed.get().filter(|_| self.sock.phase() == phase::SMC)
    }

    /// The shared memory that the handshake prepared, confirmed or not yet.
    pub fn prepared(&self) -> Option<Arc<Link>> {
        self.link.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// As [`prepared`](Self::prepared), without waiting for a thread that changes it just now.
    pub fn offered(&self) -> Option<Arc<Link>> {
        self.link.try_read().ok().and_then(|link| link.clone())
    }

    /// Stops an offer of shared memory, if there is one, unless a thread changes it just now. Good for signal handlers.
    pub fn stop_offer(&self) {
        if let Ok(link) = self.link.try_read()
            && let Some(link) = &*link
        {
            link.stop_offer();
        }
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

    /// Whether a call of some thread sleeps on it.
    pub fn is_slept_on(&self) -> bool {
        self.watchers().iter().any(|watcher| matches!(watcher, Watcher::Thread(_)))
    }

    /// Whether a fork brought it here: then its last descriptor's end is the end, whoever may seem to own it.
    pub fn is_inherited(&self) -> bool {
        self.inherited.load(std::sync::atomic::Ordering::Acquire)
    }

    /// In a forked child: no thread of it sleeps here. Those of the parent that had a call under way own the file, and will
    /// never let go of it.
    pub fn after_fork(&self) {
        self.inherited.store(true, std::sync::atomic::Ordering::Release);
        self.watchers().retain(|watcher| matches!(watcher, Watcher::Set(..)));
    }

    /// Nothing of it that has a lock changes while the answer lives (for fork).
    pub fn freeze(&self) -> impl Drop + use<'_> {
        Frozen { _watchers: self.watchers(), _link: self.link.write().unwrap_or_else(|e| e.into_inner()) }
    }

    /// This process counts no more among the holders. Answers once, whether it was the last of them.
    pub fn end(&self) -> Option<bool> {
        let first = !self.ended.swap(true, std::sync::atomic::Ordering::AcqRel);
        first.then(|| {
            users::ends(self.sock);
            let last = self.sock.holders.fetch_sub(1, Ordering::AcqRel) == 1;
            last || users::count_out_the_dead(self.sock).last_holder
        })
    }

    /// Whether this process is the only holder.
    pub fn is_last(&self) -> bool {
        self.sock.holders.load(Ordering::Acquire) == 1
    }

    /// Another program takes the process over, and the kernel closes the descriptors: it counts no more, neither as a
    /// holder nor as a user. `false`: it did not before.
    pub fn leaves_for_exec(&self) -> bool {
        let first = !self.ended.swap(true, std::sync::atomic::Ordering::AcqRel);
        if first {
            users::leaves(self.sock);
            self.sock.holders.fetch_sub(1, Ordering::AcqRel);
            self.sock.users.fetch_sub(1, Ordering::AcqRel);
        }
        first
    }

    /// That failed.
    pub fn returns_from_exec(&self) {
        self.sock.users.fetch_add(1, Ordering::AcqRel);
        self.sock.holders.fetch_add(1, Ordering::AcqRel);
        users::enlist(self.sock);
        self.ended.store(false, std::sync::atomic::Ordering::Release);
    }

    /// Whether [`end`](Self::end) has answered.
    pub fn has_ended(&self) -> bool {
        self.ended.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Keeps the kernel's socket for calls that are under way, `fd` being the last descriptor, which the program is about
    /// to close: as the kernel's own calls keep it. `false` without a descriptor to keep it with.
    pub fn keep(&self, fd: Fd) -> bool {
        let Ok(kept) = call::duplicate_high(fd) else { return false };
        let kept = process::adopt(Inner::from_raw(kept));
        self.kept.store(kept, std::sync::atomic::Ordering::Relaxed);
        self.set_fd(kept);
        true
    }

    /// The thread of a call that slept on it was cancelled, and will never let go of it: if the program has closed its
    /// descriptors meanwhile, and no other call sleeps here, this is the end.
    pub fn is_abandoned(&self) {
        let kept = self.kept.load(std::sync::atomic::Ordering::Relaxed);
        if kept >= 0 && !self.is_slept_on() {
            crate::socket::close::end_in_process(self, Some(kept));
            self.leave_slot();
            process::disown(self.kept.swap(-1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    /// One more descriptor of this process stands for it; `false` when the last one was closed already.
    pub fn add_descriptor(&self) -> bool {
        let one_more = |descriptors: u32| (descriptors > 0).then_some(descriptors + 1);
        self.descriptors.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_ok()
    }

    /// Whether a number of the program's still stands for it.
    pub fn is_at(&self, fd: Fd) -> bool {
        fdtable::get(fd).is_some_and(|found| core::ptr::eq(&raw const *found, self))
    }

    /// This process uses the slot no more; the last of all gives it back.
    pub fn leave_slot(&self) {
        if self.left.swap(true, std::sync::atomic::Ordering::AcqRel) {
            return;
        }
        users::leaves(self.sock);
        let last =
            self.sock.users.fetch_sub(1, Ordering::AcqRel) == 1 || users::count_out_the_dead(self.sock).last_user;
        if let Ok(link) = self.link.try_read()
            && let Some(link) = &*link
        {
            link.leave(last);
        }
        if last {
            arena::give_back(self.sock);
        }
    }

    /// Whether the program wants calls not to wait.
    pub fn nonblocking(&self) -> bool {
        self.sock.has(flag::NONBLOCK)
    }

    /// Whether it is attached to a KCM mux, as far as this process knows.
    #[inline]
    pub fn is_attached(&self) -> bool {
        self.mux.load(std::sync::atomic::Ordering::Acquire) != 0
    }

    /// Whether it polls otherwise than the kernel says because of KCM, now or soon.
    #[inline]
    pub fn concerns_kcm(&self) -> bool {
        self.is_attached() || self.sock.posted.load(Ordering::Acquire) != 0
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

    /// `fd`, no longer in the table, is about to be closed: from now on another descriptor is asked, or `smcss` told of.
    /// Answers which. The whole table is gone through only when it has to be another one than so far.
    pub fn leave_fd(&self, fd: Fd) -> Option<Fd> {
        let now = self.fd();
        if now != fd && self.is_at(now) && !fdtable::is_inner(now) {
            return Some(now);
        }
        let other = fdtable::fd_of(self);
        if self.fd() == fd {
            self.set_fd(other.unwrap_or(-1));
        }
        other
    }

    /// From now on this descriptor is asked, or with -1 none: there is no other.
    pub fn set_fd(&self, fd: Fd) {
        self.fd.store(fd, std::sync::atomic::Ordering::Relaxed);
        self.sock.listing.fd.store(fd, Ordering::Relaxed);
    }
}

/// See [`OpenFile::freeze`].
struct Frozen<'a> {
    _watchers: MutexGuard<'a, Vec<Watcher>>,
    _link: RwLockWriteGuard<'a, Option<Arc<Link>>>,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {}
}

impl Drop for OpenFile {
    /// Nobody in this process uses it any more.
    fn drop(&mut self) {
        let kept = *self.kept.get_mut();
        if !process::is_uncounted() {
            crate::socket::close::end_in_process(self, (kept >= 0).then_some(kept));
            self.leave_slot();
        }
        for own in [*self.mailbox.get_mut(), *self.clc.get_mut(), kept] {
            process::disown(own);
        }
    }
}
