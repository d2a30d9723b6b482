//! What a process has one of: its settings, the arena of its sockets, the socket it asks the kernel with and the one
//! it rings from; and the number that tells a forked child from its parent.

use crate::fdtable;
use crate::fork;
use crate::settings::Settings;
use crate::socket::back::ask::ask_all;
use crate::socket::sock::phase;
use crate::socket::{bell, clc, handover, kcm, users};
use core::net::SocketAddr;
use preloop_shm::arena::{Arena, Slot};
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, diag, process, real, unix};
use preloop_uapi::decline::Decline;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

/// Slots of sockets and groups.
pub static ARENA: Arena = Arena::new();
static PID: AtomicU32 = AtomicU32::new(0);
static CONFINED: AtomicBool = AtomicBool::new(false);
/// Calls by which it came to filter its system calls, and one that may be on its way.
static FILTERS: AtomicU32 = AtomicU32::new(0);
static COPIED: AtomicBool = AtomicBool::new(false);
/// Children that may run in this memory.
static BORROWERS: AtomicU32 = AtomicU32::new(0);
static SETTINGS: OnceLock<Settings> = OnceLock::new();
static DIAG: AtomicI32 = AtomicI32::new(-1);
static RINGER: AtomicI32 = AtomicI32::new(-1);
/// Ring bytes that this process holds in groups.
static MEMORY: AtomicU64 = AtomicU64::new(0);

/// Called once, by the library's constructor: until then every hook is the real call.
pub fn start() {
    real::find_all();
    if SETTINGS.set(Settings::from_env()).is_ok() {
        renew();
        crate::socket::epoll::start();
        handover::adopt::from_env();
        if settings().kcm {
            kcm::share::at_start();
        }
    }
}

/// The process filters its system calls from now on (seccomp(2)), or forbids itself descriptors: the library makes no calls
/// of its own for connections that have not moved, since the filter may kill who makes a call that it does not expect.
pub fn is_confined() -> bool {
    CONFINED.load(Ordering::Relaxed) || is_filtered()
}

/// Runs a call after which the process filters its system calls, unless it fails: see [`is_confined`]. What has moved changes
/// back to TCP before, where the peer does its part. A child that borrows the memory of its parent does not speak for that.
pub fn filters<R: From<i8> + PartialEq>(call: impl FnOnce() -> R) -> R {
    if is_uncounted() && !COPIED.load(Ordering::Relaxed) {
        return call();
    }
    // While this process still answers, for it may have both ends of a connection.
    if keep_to_tcp(is_confined()) && !is_filtered() {
        ask_all();
    }
    FILTERS.fetch_add(1, Ordering::Relaxed);
    // What other threads have connected meanwhile.
    keep_to_tcp(true);
    let answer = call();
    if answer == (-1).into() {
        FILTERS.fetch_sub(1, Ordering::Relaxed);
    }
    answer
}

/// Whether it does.
pub fn is_filtered() -> bool {
    FILTERS.load(Ordering::Relaxed) > 0
}

/// Whether io_uring may be set up. Its operations pass the library by, so that usually it answers as on a kernel without
/// it, and programs do without; where the user wants it, no connection moves. Where none would, it is the program's.
pub fn lets_io_uring() -> bool {
    let Settings { smc, io_uring, .. } = settings();
    if *smc && *io_uring {
        confine();
    }
    !smc || *io_uring
}

/// See [`is_confined`]. What has not moved stays on TCP, so that no call on it needs more than the kernel's own; for what
/// has, the sockets that one thread needs to sleep and to ring are made now. Answers whether any has.
pub fn confine() -> bool {
    let again = is_confined();
    CONFINED.store(true, Ordering::Relaxed);
    keep_to_tcp(again)
}

fn keep_to_tcp(again: bool) -> bool {
    if fork::is_inside() {
        return false;
    }
    let mut moved = false;
    fdtable::for_each(|_, file| {
        moved |= file.sock.phase() != phase::INIT && !clc::pin(&file, Decline::CONFIGURATION);
    });
    if moved && !again {
        let _ = ringer();
        if let Ok(bell) = bell::borrow() {
            bell::give_back(bell);
        }
    }
    moved
}

/// Takes note of being a new process: at start, and in a forked child, whose questions must not be answered to its
/// parent.
pub fn renew() {
    let pid = process::pid();
    disown(DIAG.swap(-1, Ordering::AcqRel));
    ARENA.leave();
    PID.store(pid, Ordering::Relaxed);
    COPIED.store(false, Ordering::Relaxed);
    BORROWERS.store(0, Ordering::Relaxed);
}

/// A slot of this process's own arena, whose memory comes with the first one: most processes have no TCP socket. One that
/// filters its calls by then has none: its connections stay on TCP, and `smcss` does not list them.
pub fn take_slot<T: Slot>() -> Option<&'static T> {
    if !ARENA.is_mapped()
        && !is_filtered()
        && let Some(memfd) = ARENA.map(pid())
    {
        fdtable::mark_inner(memfd, true);
    }
    ARENA.take().or_else(|| {
        users::reclaim();
        ARENA.take()
    })
}

/// This process, as `renew` saw it.
#[inline]
pub fn pid() -> u32 {
    PID.load(Ordering::Relaxed)
}

/// Whether this is a child that no hook saw being made (by clone(2), or inside the C library): it has a copy of the
/// library's memory, or borrows it, but does not count among the holders of the sockets, and must not act as if it did.
pub fn is_uncounted() -> bool {
    // Not even getpid(2) is sure to be let through by a filter: there it is asked only where the answer may differ.
    let may_be = !is_filtered() || BORROWERS.load(Ordering::Relaxed) > 0;
    COPIED.load(Ordering::Relaxed) || may_be && process::pid() != pid()
}

/// Runs a call that makes a child which runs in this very memory, and comes back in it, perhaps. If it `waits` the child has
/// left the memory when it is back here.
pub fn lends<R: From<i8> + PartialEq>(waits: bool, call: impl FnOnce() -> R) -> R {
    BORROWERS.fetch_add(1, Ordering::Relaxed);
    let child = call();
    if child == (-1).into() || waits && child != 0.into() {
        BORROWERS.fetch_sub(1, Ordering::Relaxed);
    }
    child
}

/// This memory is the copy that such a child has.
pub fn copied() {
    COPIED.store(true, Ordering::Relaxed);
}

/// What the user set. Before the constructor ran: the defaults.
pub fn settings() -> &'static Settings {
    // Calls come before the constructor, from those of other libraries: it still has to set its own.
    static BEFORE: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get().unwrap_or_else(|| BEFORE.get_or_init(Settings::default))
}

/// Takes charge of a descriptor of the library's own.
pub fn adopt(inner: Inner) -> Fd {
    fdtable::mark_inner(inner.fd(), true);
    inner.into_raw()
}

/// A descriptor that came through exec is the library's own.
pub fn protect(fd: Fd) {
    preloop_sys::call::set_close_on_exec(fd, true);
    fdtable::mark_inner(fd, true);
}

/// Gives charge of a descriptor of the library's own back.
pub fn take_back(fd: Fd) -> Inner {
    fdtable::mark_inner(fd, false);
    Inner::from_raw(fd)
}

/// Closes a descriptor of the library's own.
pub fn disown(fd: Fd) {
    if fd >= 0 {
        drop(take_back(fd));
    }
}

fn once(cell: &AtomicI32, make: impl FnOnce() -> Result<Inner, Errno>) -> Option<Fd> {
    let fd = cell.load(Ordering::Acquire);
    if fd >= 0 {
        return Some(fd);
    }
    let fd = adopt(make().ok()?);
    match cell.compare_exchange(-1, fd, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(fd),
        Err(theirs) => {
            disown(fd);
            Some(theirs)
        }
    }
}

/// Held while the kernel is asked and answers.
static ONE_QUESTION_AT_A_TIME: Mutex<()> = Mutex::new(());

fn one_question() -> MutexGuard<'static, ()> {
    ONE_QUESTION_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner())
}

/// Runs `during` while nobody asks the kernel anything (for fork).
pub fn hold<R>(during: impl FnOnce() -> R) -> R {
    let _held = one_question();
    during()
}

/// Whether the kernel tells of sockets: what its first answer showed.
static TELLS: AtomicU8 = AtomicU8::new(NOT_KNOWN);
const NOT_KNOWN: u8 = 0;
const TELLS_ALL: u8 = 1;
const TELLS_NOTHING: u8 = 2;

/// The other end of a connection, asked of the kernel: the socket connected from `local` to `peer`.
pub fn find_end(local: SocketAddr, peer: SocketAddr) -> Option<diag::End> {
    if TELLS.load(Ordering::Relaxed) == TELLS_NOTHING {
        return None;
    }
    let _held = one_question();
    let end = diag::find(once(&DIAG, diag::open)?, local, peer)?;
    TELLS.store(TELLS_ALL, Ordering::Relaxed);
    Some(end)
}

/// Whether the kernel tells of no sockets at all, not even of this one of ours, connected from `local` to `peer`: it has no
/// module for it. Each question would have it look for one, by a process of its own.
pub fn kernel_is_silent(local: SocketAddr, peer: SocketAddr) -> bool {
    if TELLS.load(Ordering::Relaxed) == NOT_KNOWN {
        let _held = one_question();
        if once(&DIAG, diag::open).is_some_and(|socket| diag::is_unknown(socket, local, peer)) {
            TELLS.store(TELLS_NOTHING, Ordering::Relaxed);
        }
    }
    TELLS.load(Ordering::Relaxed) == TELLS_NOTHING
}

/// Whether nobody holds the other end of a connection any more: the kernel is still closing it, or has. Not where the kernel
/// does not say, and not in another network namespace than the connection's, where it may know of others with these addresses.
pub fn is_end_left(fd: Fd, own: SocketAddr, other: SocketAddr) -> bool {
    let _held = one_question();
    let Some(socket) = once(&DIAG, diag::open) else { return false };
    let is_here = || diag::find(socket, own, other).is_some_and(|end| call::cookie(fd) == Ok(end.cookie));
    diag::is_left(socket, other, own) && is_here()
}

/// The socket to ring bells from. Siblings share it after fork: it holds nothing.
pub fn ringer() -> Option<Fd> {
    once(&RINGER, || unix::bell(None))
}

/// Counts ring memory in; `false` when that would exceed the budget.
pub fn reserve_memory(bytes: u64) -> bool {
    let budget = settings().memory_budget;
    let fits = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= budget);
    MEMORY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
}

/// Counts in ring memory that a connection which is under way cannot do without, whatever the budget.
pub fn take_memory(bytes: u64) {
    MEMORY.fetch_add(bytes, Ordering::Relaxed);
}

/// Counts ring memory out.
pub fn release_memory(bytes: u64) {
    MEMORY.fetch_sub(bytes, Ordering::Relaxed);
}
