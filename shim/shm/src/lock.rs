//! A lock in memory that forked siblings share, which survives the death of its owner.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use preloop_uapi::sync::{AtomicU32, Ordering};

/// The bit of a robust mutex's word that has the kernel wake somebody when the mutex is let go, or its owner dies
/// (`FUTEX_WAITERS`, part of the kernel's ABI, as the thread's number in the lower bits is).
const FUTEX_WAITERS: u32 = 0x8000_0000;

/// A robust process-shared mutex (`pthread_mutexattr_setrobust(3)`). Held for the length of a copy, never across a
/// sleep. Not recursive.
///
/// Such a mutex wakes one of those who wait for it, which says that others wait too once it has the mutex. If it is killed
/// before that, and somebody else took the mutex meanwhile, the others are never woken. There are two remedies:
///
/// - Those who wait are counted, and whoever takes the lock says at once that they wait ([`RobustLock::init`]). One that is
///   killed stays counted, which costs its successors a system call each time, and nothing else.
/// - The kernel passes the lock on ([`RobustLock::init_passed_on`]).
#[repr(C)]
pub struct RobustLock {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    /// Threads that wait for it, and those that were killed while they did. Not counted where the kernel passes it on.
    waiting: AtomicU32,
    /// Whether the kernel passes it on.
    is_passed_on: AtomicU32,
}

// SAFETY: a pthread mutex is made for concurrent use.
unsafe impl Send for RobustLock {}
// SAFETY: as above.
unsafe impl Sync for RobustLock {}

impl core::fmt::Debug for RobustLock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RobustLock")
    }
}

/// The lock, held.
#[derive(Debug)]
pub struct Held<'a> {
    lock: &'a RobustLock,
    /// The previous owner died while it held the lock: what the lock protects needs repair.
    pub owner_died: bool,
}

impl RobustLock {
    /// Makes the lock anew. Nobody may hold it or wait for it.
    pub fn init(&self) {
        self.waiting.store(0, Ordering::Relaxed);
        self.is_passed_on.store(0, Ordering::Relaxed);
        self.make(libc::PTHREAD_PRIO_NONE);
    }

    /// As [`RobustLock::init`], a lock that the kernel passes on to who waits for it (priority inheritance): for processes of
    /// one PID namespace, since the kernel looks for the owner by the number that stands in the lock. A kernel without makes
    /// it the other kind.
    pub fn init_passed_on(&self) {
        self.init();
        if self.make(libc::PTHREAD_PRIO_INHERIT) == 0 {
            self.is_passed_on.store(1, Ordering::Relaxed);
        }
    }

    fn make(&self, protocol: i32) -> i32 {
        let mut attr = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: attr is initialised before use and destroyed after; the mutex is valid memory that nobody uses.
        unsafe {
            libc::pthread_mutexattr_init(attr.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attr.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attr.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutexattr_setprotocol(attr.as_mut_ptr(), protocol);
            let made = libc::pthread_mutex_init(self.mutex.get(), attr.as_ptr());
            libc::pthread_mutexattr_destroy(attr.as_mut_ptr());
            made
        }
    }

    fn taken(&self, answer: i32) -> Option<Held<'_>> {
        let owner_died = match answer {
            0 => false,
            libc::EOWNERDEAD => {
                // SAFETY: we hold the mutex, as EOWNERDEAD says.
                unsafe { libc::pthread_mutex_consistent(self.mutex.get()) };
                true
            }
            _ => return None,
        };
        if self.waiting.load(Ordering::Relaxed) != 0 {
            self.say_that_others_wait();
        }
        Some(Held { lock: self, owner_died })
    }

    /// Has letting go of the lock, or dying with it, wake somebody. For who holds it.
    #[cold]
    fn say_that_others_wait(&self) {
        self.word().fetch_or(FUTEX_WAITERS, Ordering::Relaxed);
    }

    fn word(&self) -> &core::sync::atomic::AtomicU32 {
        // SAFETY: the mutex begins with its word, which the kernel and all threads treat as an atomic.
        unsafe { &*self.mutex.get().cast::<core::sync::atomic::AtomicU32>() }
    }

    /// Takes the lock.
    pub fn lock(&self) -> Held<'_> {
        self.try_lock().unwrap_or_else(|| self.wait())
    }

    #[cold]
    fn wait(&self) -> Held<'_> {
        let is_counted = self.is_passed_on.load(Ordering::Relaxed) == 0;
        if is_counted {
            // Before the word is touched: whoever takes the lock from then on sees it.
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: the mutex was initialised when its slot was taken into use.
        let answer = unsafe { libc::pthread_mutex_lock(self.mutex.get()) };
        if is_counted {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        // Any other answer would mean a lock that was never made; going on without it would corrupt streams.
        self.taken(answer).unwrap_or_else(|| panic!("pthread_mutex_lock: error {answer}"))
    }

    /// Whether another thread than this one holds it, in whatever process. Good for signal handlers.
    pub fn is_held_elsewhere(&self) -> bool {
        /// The bits of a robust mutex's word that hold the owner's number (`FUTEX_TID_MASK`).
        const OWNER: u32 = 0x3fff_ffff;
        let owner = self.word().load(Ordering::Acquire) & OWNER;
        owner != 0 && owner != preloop_sys::process::tid()
    }

    /// Takes the lock unless somebody holds it.
    pub fn try_lock(&self) -> Option<Held<'_>> {
        // SAFETY: as in `wait`.
        let answer = unsafe { libc::pthread_mutex_trylock(self.mutex.get()) };
        self.taken(answer)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread holds the mutex.
        let answer = unsafe { libc::pthread_mutex_unlock(self.lock.mutex.get()) };
        debug_assert_eq!(answer, 0, "a lock was released by a thread that does not hold it");
    }
}

#[cfg(test)]
mod tests {
    use super::RobustLock;
    use core::cell::UnsafeCell;
    use preloop_uapi::sync::AtomicU32;
    use std::time::{Duration, Instant};

    fn unmade() -> RobustLock {
        RobustLock {
            mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            waiting: AtomicU32::new(0),
            is_passed_on: AtomicU32::new(0),
        }
    }

    fn made() -> RobustLock {
        let lock = unmade();
        lock.init();
        lock
    }

    #[test]
    fn nobody_else_gets_it_while_it_is_held() {
        let lock = made();
        let free_elsewhere =
            || std::thread::scope(|s| s.spawn(|| lock.try_lock().is_some()).join().is_ok_and(|got| got));
        let held = lock.lock();
        assert!(!free_elsewhere());
        drop(held);
        assert!(free_elsewhere());
        let held = lock.try_lock();
        assert!(held.is_some() && !free_elsewhere());
    }

    #[test]
    fn a_dead_owner_is_told_of_once() {
        let locks = [made(), unmade()];
        locks[1].init_passed_on();
        for lock in &locks {
            std::thread::scope(|s| {
                s.spawn(|| core::mem::forget(lock.lock()));
            });
            assert!(lock.lock().owner_died);
            assert!(!lock.lock().owner_died);
        }
    }

    /// A lock in memory that a forked child shares.
    fn shared() -> &'static RobustLock {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, of zeros, as large as the lock; it is never unmapped.
        let lock: &RobustLock = unsafe {
            let memory = libc::mmap(core::ptr::null_mut(), size_of::<RobustLock>(), access, flags, -1, 0);
            assert!(memory != libc::MAP_FAILED);
            &*memory.cast()
        };
        lock.init();
        lock
    }

    /// On one processor, and only when nobody else wants it.
    fn child_that_waits(lock: &'static RobustLock) -> libc::pid_t {
        // SAFETY: the child does nothing but wait for the lock, which takes no memory.
        unsafe {
            let child = libc::fork();
            assert!(child >= 0);
            if child == 0 {
                let none = libc::sched_param { sched_priority: 0 };
                libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none);
                drop(lock.lock());
                libc::_exit(0);
            }
            child
        }
    }

    fn until(what: impl Fn() -> bool) -> bool {
        let end = Instant::now() + Duration::from_secs(10);
        while !what() && Instant::now() < end {
            std::thread::yield_now();
        }
        what()
    }

    /// Whether a thread, by its directory in /proc, sleeps in the kernel.
    fn sleeps(task: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{task}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S"))
    }

    fn stay_on_one_processor() {
        // SAFETY: a set of processors on the stack, zero being an empty one.
        unsafe {
            let mut one: libc::cpu_set_t = core::mem::zeroed();
            libc::CPU_SET(libc::sched_getcpu().max(0) as usize, &mut one);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one);
        }
    }

    #[test]
    fn a_waiter_that_is_killed_when_it_is_woken_keeps_nobody_asleep() {
        let lock = shared();
        stay_on_one_processor();
        let held = lock.lock();
        let child = child_that_waits(lock);
        assert!(until(|| sleeps(&child.to_string())));
        let (say, hear) = std::sync::mpsc::channel();
        let (say_who, hear_who) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            // SAFETY: takes no arguments.
            let _ = say_who.send(unsafe { libc::gettid() });
            drop(lock.lock());
            let _ = say.send(());
        });
        let who = hear_who.recv().unwrap_or(0);
        assert!(until(|| sleeps(&format!("self/task/{who}"))));
        // The child, the first in the queue, is woken, has no processor to run on, and is killed.
        drop(held);
        let held = lock.lock();
        // SAFETY: a child of this process that was not waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, core::ptr::null_mut(), 0);
        }
        drop(held);
        assert!(hear.recv_timeout(Duration::from_secs(10)).is_ok(), "nobody woke the waiter");
        assert!(waiter.join().is_ok());
    }
}
