//! fork(2): what must hold still in the parent, what is counted, and what the child has to make anew.

use crate::bpf;
use crate::fdtable::{self, FILES, KCM_SOCKS, SETS};
use crate::process;
use crate::socket::epoll::Set;
use crate::socket::file::OpenFile;
use crate::socket::kcm::fork as kcm;
use crate::socket::passing::pack;
use crate::socket::{bell, clc, close, group, users};
use preloop_shm::counted::Counted;
use preloop_sys::process::Masked;
use preloop_uapi::sync::Ordering;
use rustc_hash::FxHashSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, TryLockError};

/// Held for writing from the count of what the child will have until the fork.
static BIRTHS: RwLock<()> = RwLock::new(());
/// One fork at a time: two would take the locks of sets and files in different orders.
static FORKING: Mutex<()> = Mutex::new(());

/// The thread that is inside fork, or 0.
static FORKER: AtomicUsize = AtomicUsize::new(0);

fn this_thread() -> usize {
    preloop_sys::process::this_thread()
}

/// Whether this thread is inside fork, and holds every lock of the library: whatever it calls is the kernel's alone.
#[inline]
pub fn is_inside() -> bool {
    let forker = FORKER.load(Relaxed);
    forker != 0 && forker == this_thread()
}

/// No fork happens while the answer lives: a socket that becomes known now is either counted by a fork, or not in the
/// child.
pub fn may_not_fork() -> RwLockReadGuard<'static, ()> {
    BIRTHS.read().unwrap_or_else(|e| e.into_inner())
}

/// As [`may_not_fork`]. `None` while a fork is under way, which waits for what the caller holds.
pub fn may_not_fork_now() -> Option<RwLockReadGuard<'static, ()>> {
    match BIRTHS.try_read() {
        Ok(no_fork) => Some(no_fork),
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// No fork happens while the answer lives.
pub fn alone() -> MutexGuard<'static, ()> {
    FORKING.lock().unwrap_or_else(|e| e.into_inner())
}

/// As [`alone`], and no signal handler runs in this thread meanwhile, which might fork.
pub fn undisturbed() -> (MutexGuard<'static, ()>, Masked) {
    let masked = Masked::begin();
    (alone(), masked)
}

/// Every open file once, however many descriptors stand for it.
fn files() -> Vec<Counted<OpenFile>> {
    let mut files: Vec<Counted<OpenFile>> = Vec::new();
    fdtable::for_each(|_, file| files.push(file));
    files.sort_by_key(|file| core::ptr::from_ref::<OpenFile>(file).addr());
    files.dedup_by(|one, other| one.same(other));
    files
}

/// Every epoll set once.
fn sets() -> Vec<Arc<Set>> {
    let mut sets = fdtable::sets();
    sets.sort_by_key(|set| Arc::as_ptr(set).addr());
    sets.dedup_by(|one, other| Arc::ptr_eq(one, other));
    sets
}

/// Runs `fork` while every lock of the library is held by this thread, so that the child finds none taken by a thread
/// it does not have.
pub fn fork(fork: impl FnOnce() -> i32) -> i32 {
    let forking = alone();
    // At work it takes locks of files that are taken here.
    let pump_rests = kcm::rest();
    let births = BIRTHS.write().unwrap_or_else(|e| e.into_inner());
    // So does bringing a mux up to date.
    let kcm = kcm::before_fork();
    let (files, sets) = (files(), sets());
    count(&files, true);
    // Handshakes under way are put off: their Unix sockets and offers belong to one process. None begins anew, now that
    // the files count two holders.
    files.iter().for_each(|file| clc::put_off(file));
    sets.iter().for_each(|set| set.is_shared());
    let frozen_sets: Vec<_> = sets.iter().map(|set| set.freeze()).collect();
    let frozen_files: Vec<_> = files.iter().map(|file| file.freeze()).collect();
    // Handlers of pthread_atfork(3) run inside, with all these locks held.
    FORKER.store(this_thread(), Relaxed);
    let child = process::hold(|| {
        kcm.hold(|| bpf::hold(|| bell::hold(|| group::hold(|| FILES.hold(|| SETS.hold(|| KCM_SOCKS.hold(fork)))))))
    });
    FORKER.store(0, Relaxed);
    drop((frozen_files, frozen_sets, births, pump_rests, forking));
    match child {
        0 => {
            in_child(&files, &sets);
            kcm.in_child();
        }
        -1 => count(&files, false),
        _ => {}
    }
    child
}

fn count(files: &[Counted<OpenFile>], more: bool) {
    for file in files {
        for counter in [&file.sock.holders, &file.sock.users] {
            if more {
                counter.fetch_add(1, Ordering::AcqRel);
            } else {
                counter.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

fn in_child(files: &[Counted<OpenFile>], sets: &[Arc<Set>]) {
    process::renew();
    bell::forget_all();
    pack::after_fork();
    group::after_fork();
    sets.iter().for_each(|set| set.after_fork());
    users::after_fork();
    let mut open = FxHashSet::default();
    fdtable::for_each(|_, file| {
        open.insert(core::ptr::from_ref::<OpenFile>(&file).addr());
    });
    for file in files {
        users::enlist(file.sock);
        // Calls that other threads of the parent had under way are not this process's.
        file.after_fork();
        if !open.contains(&core::ptr::from_ref::<OpenFile>(file).addr()) {
            // Such a call was closing it: nobody goes on with that here.
            close::end_in_process(file, None);
        }
    }
}
