//! Bells: what a sleeping thread or an epoll set is woken by. A datagram socket with a random abstract name, which
//! stands in shared memory for the peer to ring: no descriptor travels, a forked child simply makes its own, and a
//! ring can never block whoever rings.

use crate::process;
use crate::socket::group;
use preloop_sys::{Errno, Fd, process as system, unix};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A bell. Belongs to one process.
#[derive(Debug)]
pub struct Bell {
    fd: Fd,
    /// Its name, random; the first half serves as its number.
    pub name: [u64; 2],
    /// Number of the present sleep, odd, or of the present waking, even.
    pub seq: AtomicU64,
}

/// Bytes of a bell's abstract name.
pub fn name_bytes(name: [u64; 2]) -> [u8; 45] {
    let mut bytes = *b"preloop/bell/00000000000000000000000000000000";
    for (index, byte) in bytes[13..].iter_mut().enumerate() {
        let word = name[index / 16];
        let digit = (word >> (60 - 4 * (index % 16))) & 15;
        *byte = b"0123456789abcdef"[digit as usize];
    }
    bytes
}

impl Bell {
    /// Makes a bell.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        // A zero name means "no bell" in shared memory.
        let name = [system::random() | 1, system::random()];
        let fd = process::adopt(unix::bell(Some(&name_bytes(name)))?);
        // A slot in shared memory outlives its bell, and remembers the number of the last sleep that was rung: numbers
        // must never come again.
        let seq = AtomicU64::new(system::random() >> 2 & !1);
        Ok(Self { fd, name, seq })
    }

    /// The descriptor to sleep on: readable while it rings.
    pub fn fd(&self) -> Fd {
        self.fd
    }

    /// Takes one ring off.
    pub fn hush(&self) {
        unix::hush(self.fd);
    }

    /// Rings it from this process.
    pub fn ring(&self) {
        ring(self.name);
    }

    /// Begins a sleep: its number.
    pub fn fall_asleep(&self) -> u64 {
        let seq = (self.seq.load(Ordering::Relaxed) + 1) | 1;
        self.seq.store(seq, Ordering::SeqCst);
        seq
    }

    /// Ends a sleep; while others sleep on the same bell a new one begins. The new number.
    pub fn wake_up(&self, others: bool) -> u64 {
        let seq = self.seq.load(Ordering::Relaxed) + if others { 2 } else { 1 };
        self.seq.store(seq, Ordering::SeqCst);
        seq
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        process::disown(self.fd);
    }
}

/// Rings the bell of that name, whoever owns it.
pub fn ring(name: [u64; 2]) {
    if let Some(from) = process::ringer() {
        unix::ring(from, &name_bytes(name));
    }
}

/// Bells of threads that do not sleep now.
static IDLE: Mutex<Vec<Arc<Bell>>> = Mutex::new(Vec::new());

fn idle() -> std::sync::MutexGuard<'static, Vec<Arc<Bell>>> {
    IDLE.lock().unwrap_or_else(|e| e.into_inner())
}

/// A bell for a thread that is about to sleep.
///
/// # Errors
/// Those of [`Bell::new`].
pub fn borrow() -> Result<Arc<Bell>, Errno> {
    match idle().pop() {
        Some(bell) => Ok(bell),
        None => Bell::new().map(Arc::new),
    }
}

/// Bells that are kept in any case for the next sleep, and the most that are.
const FEW_IDLE: usize = 8;
const MOST_IDLE: usize = 64;

/// Whether one more bell than these may be kept: descriptors are the program's in the first place.
fn keeps(idle: usize) -> bool {
    idle < FEW_IDLE || idle < MOST_IDLE && (idle as u64) < system::limit(libc::RLIMIT_NOFILE) / 32
}

/// Gives it back. After many threads slept at once only some of their bells are kept.
pub fn give_back(bell: Arc<Bell>) {
    let mut idle = idle();
    if keeps(idle.len()) {
        return idle.push(bell);
    }
    drop(idle);
    group::all().iter().for_each(|group| group.leave_slot(&bell));
}

/// In a forked child: the parent's bells are not ours.
pub fn forget_all() {
    idle().clear();
}

/// Runs `during` while no bell changes hands (for fork).
pub fn hold<R>(during: impl FnOnce() -> R) -> R {
    let _held = idle();
    during()
}
