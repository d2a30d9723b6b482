//! Sleeping in the kernel.

use crate::{Errno, Fd, clock};
use syscalls::{Sysno, syscall};

/// What ended a sleep. Nothing at all: the deadline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Woken {
    /// What poll(2) says of the socket.
    pub events: i16,
    /// The bell rang.
    pub bell: bool,
}

/// Sleeps until a socket has one of `events`, the bell is readable, or the deadline (CLOCK_MONOTONIC nanoseconds).
///
/// # Errors
/// EINTR after a signal handler ran.
pub fn on(fd: Fd, events: i16, bell: Fd, deadline: Option<u64>) -> Result<Woken, Errno> {
    let mut entries =
        [libc::pollfd { fd, events, revents: 0 }, libc::pollfd { fd: bell, events: libc::POLLIN, revents: 0 }];
    let timeout = left(deadline);
    let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: two writable entries and a time-out that outlives the call, or none; no signal mask.
    unsafe { syscall!(Sysno::ppoll, entries.as_mut_ptr(), 2, timeout, 0, 0) }?;
    Ok(Woken { events: entries[0].revents, bell: entries[1].revents != 0 })
}

/// Whether every signal handler of the process but `known` is installed with SA_RESTART: for handlers that came in where
/// no hook saw them.
pub fn other_handlers_restart(known: usize) -> bool {
    (1..=64).all(|signal| {
        // struct kernel_sigaction: handler, flags, restorer, mask.
        let mut action = [0usize; 4];
        // SAFETY: room for the kernel's sigaction with a mask of eight bytes.
        let asked = unsafe { syscall!(Sysno::rt_sigaction, signal, 0, action.as_mut_ptr(), 8) };
        let handled = asked.is_ok() && ![libc::SIG_DFL, libc::SIG_IGN, known].contains(&action[0]);
        // glibc's own two handlers (cancellation and setuid) run unseen.
        !handled || signal == 32 || signal == 33 || action[1] & libc::SA_RESTART as usize != 0
    })
}

/// A signal mask that a program passed to ppoll(2) and its like: null is none.
#[derive(Debug, Clone, Copy)]
pub struct SignalMask(*const libc::sigset_t);

impl SignalMask {
    /// No mask.
    pub const NONE: Self = Self(core::ptr::null());

    /// # Safety
    /// `mask` must be null or valid while the value is used.
    pub unsafe fn new(mask: *const libc::sigset_t) -> Self {
        Self(mask)
    }
}

fn left(deadline: Option<u64>) -> Option<libc::timespec> {
    deadline.map(|deadline| {
        let left = deadline.saturating_sub(clock::now());
        libc::timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 }
    })
}

/// `ppoll(2)` until a deadline; one in the past only looks.
///
/// # Errors
/// The kernel's.
pub fn poll(entries: &mut [libc::pollfd], deadline: Option<u64>, mask: SignalMask) -> Result<usize, Errno> {
    let timeout = left(deadline);
    let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: the entries are writable, the time-out outlives the call, the mask is vouched for by its maker; the
    // kernel's signal set has eight bytes.
    unsafe { syscall!(Sysno::ppoll, entries.as_mut_ptr(), entries.len(), timeout, mask.0, 8) }
}

/// `epoll_pwait2(2)` until a deadline, or on kernels before 5.11 `epoll_pwait(2)`, in whole milliseconds.
///
/// # Errors
/// The kernel's.
pub fn epoll(
    set: Fd,
    events: &mut [libc::epoll_event],
    deadline: Option<u64>,
    mask: SignalMask,
) -> Result<usize, Errno> {
    let timeout = left(deadline);
    let pointer = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: as in `poll`.
    let answer = unsafe { syscall!(Sysno::epoll_pwait2, set, events.as_mut_ptr(), events.len(), pointer, mask.0, 8) };
    if answer != Err(Errno::ENOSYS) {
        return answer;
    }
    let milliseconds =
        timeout.map_or(-1, |t| (t.tv_sec * 1000 + (t.tv_nsec + 999_999) / 1_000_000).min(i64::from(i32::MAX)));
    // SAFETY: as above.
    unsafe { syscall!(Sysno::epoll_pwait, set, events.as_mut_ptr(), events.len(), milliseconds, mask.0, 8) }
}
