//! A lock in memory that forked siblings share, which survives the death of its owner.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

/// A robust process-shared mutex (`pthread_mutexattr_setrobust(3)`). Held for the length of a copy, never across a
/// sleep. Not recursive.
#[repr(C)]
pub struct RobustLock(UnsafeCell<libc::pthread_mutex_t>);

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
        self.make(libc::PTHREAD_PRIO_NONE);
    }

    /// As [`RobustLock::init`], a lock that the kernel passes on to who waits for it (priority inheritance), for one that
    /// processes contend for. Otherwise it wakes one of them, and if that one is killed before it has said that others wait
    /// too, and somebody else took the lock meanwhile, the others are never woken. A kernel without makes it the other kind.
    pub fn init_passed_on(&self) {
        if self.make(libc::PTHREAD_PRIO_INHERIT) != 0 {
            self.init();
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
            let made = libc::pthread_mutex_init(self.0.get(), attr.as_ptr());
            libc::pthread_mutexattr_destroy(attr.as_mut_ptr());
            made
        }
    }

    fn taken(&self, answer: i32) -> Option<Held<'_>> {
        match answer {
            0 => Some(Held { lock: self, owner_died: false }),
            libc::EOWNERDEAD => {
                // SAFETY: we hold the mutex, as EOWNERDEAD says.
                unsafe { libc::pthread_mutex_consistent(self.0.get()) };
                Some(Held { lock: self, owner_died: true })
            }
            _ => None,
        }
    }

    /// Takes the lock.
    pub fn lock(&self) -> Held<'_> {
        // SAFETY: the mutex was initialised when its slot was taken into use.
        let answer = unsafe { libc::pthread_mutex_lock(self.0.get()) };
        // Any other answer would mean a lock that was never made; going on without it would corrupt streams.
        self.taken(answer).unwrap_or_else(|| panic!("pthread_mutex_lock: error {answer}"))
    }

    /// Takes the lock unless somebody holds it.
    pub fn try_lock(&self) -> Option<Held<'_>> {
        // SAFETY: as in `lock`.
        let answer = unsafe { libc::pthread_mutex_trylock(self.0.get()) };
        self.taken(answer)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread holds the mutex.
        let answer = unsafe { libc::pthread_mutex_unlock(self.lock.0.get()) };
        debug_assert_eq!(answer, 0, "a lock was released by a thread that does not hold it");
    }
}

#[cfg(test)]
mod tests {
    use super::RobustLock;
    use core::cell::UnsafeCell;

    fn unmade() -> RobustLock {
        RobustLock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER))
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
}
