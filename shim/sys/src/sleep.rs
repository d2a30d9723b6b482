//! Sleeping in the kernel. Each sleep is a cancellation point, as the call of the program's is that it serves: if the
//! thread is cancelled there, `cancelled` runs, and nothing after it.

use crate::{Errno, Fd, cancel, clock, errno, real};
use core::ffi::c_int;
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
pub fn on(fd: Fd, events: i16, bell: Fd, deadline: Option<u64>, cancelled: &mut dyn FnMut()) -> Result<Woken, Errno> {
    let mut entries =
        [libc::pollfd { fd, events, revents: 0 }, libc::pollfd { fd: bell, events: libc::POLLIN, revents: 0 }];
    poll(&mut entries, deadline, SignalMask::NONE, cancelled)?;
    Ok(Woken { events: entries[0].revents, bell: entries[1].revents != 0 })
}

/// Sleeps in recv(2) until a socket has a packet, which is taken off: its time-out, its being non-blocking and signals are
/// as they are for any recv(2), and of several that sleep one wakes for each packet.
///
/// # Errors
/// EAGAIN when the socket does not wait, or its SO_RCVTIMEO is over; EINTR.
pub fn for_packet(socket: Fd, cancelled: &mut dyn FnMut()) -> Result<(), Errno> {
    // SAFETY: no bytes are asked for.
    asleep(cancelled, || unsafe { real::recv(socket, core::ptr::null_mut(), 0, 0) as c_int }).map(drop)
}

/// Waits for an event on a descriptor of the library's own, no longer than until a deadline, whatever signals come. No
/// cancellation point.
pub fn quietly(fd: Fd, events: i16, deadline: u64) {
    loop {
        let mut entry = libc::pollfd { fd, events, revents: 0 };
        let Some(timeout) = left(Some(deadline)) else { return };
        // SAFETY: the entry and the time-out outlive the call.
        let answer = unsafe { syscall!(Sysno::ppoll, &raw mut entry, 1, &raw const timeout, 0, 8) };
        if answer != Err(Errno::EINTR) {
            return;
        }
    }
}

/// As [`quietly`], on two descriptors, until either has an event; one of -1 has none.
pub fn quietly_on_either(fds: [(Fd, i16); 2], deadline: u64) {
    let mut entries = fds.map(|(fd, events)| libc::pollfd { fd, events, revents: 0 });
    let Some(timeout) = left(Some(deadline)) else { return };
    // SAFETY: the entries and the time-out outlive the call.
    let _ = unsafe { syscall!(Sysno::ppoll, entries.as_mut_ptr(), 2, &raw const timeout, 0, 8) };
}

/// Makes a call of the C library's that sleeps; errno stays as it was.
fn asleep(cancelled: &mut dyn FnMut(), call: impl FnOnce() -> c_int) -> Result<usize, Errno> {
    let before = errno::get();
    let answer = cancel::run(cancelled, call);
    let result = usize::try_from(answer).map_err(|_| errno::get());
    errno::set(before);
    result
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

/// Whether a call with this deadline only looks.
fn only_looks(deadline: Option<u64>) -> bool {
    deadline.is_some_and(|deadline| deadline <= clock::now())
}

/// `ppoll(2)` until a deadline; one in the past only looks.
///
/// # Errors
/// The kernel's.
pub fn poll(
    entries: &mut [libc::pollfd],
    deadline: Option<u64>,
    mask: SignalMask,
    cancelled: &mut dyn FnMut(),
) -> Result<usize, Errno> {
    let timeout = left(deadline);
    let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    let (start, count) = (entries.as_mut_ptr(), entries.len());
    // SAFETY: the entries are writable, the time-out outlives the call, the mask is vouched for by its maker; the
    // kernel's signal set has eight bytes.
    unsafe {
        if only_looks(deadline) {
            syscall!(Sysno::ppoll, start, count, timeout, mask.0, 8)
        } else {
            asleep(cancelled, || real::ppoll(start, count as libc::nfds_t, timeout, mask.0))
        }
    }
}

/// `epoll_pwait2(2)` until a deadline, or on kernels before 5.11 `epoll_pwait(2)`, in whole milliseconds; a deadline in the
/// past only looks.
///
/// # Errors
/// The kernel's.
pub fn epoll(
    set: Fd,
    events: &mut [libc::epoll_event],
    deadline: Option<u64>,
    mask: SignalMask,
    cancelled: &mut dyn FnMut(),
) -> Result<usize, Errno> {
    let (start, most) = (events.as_mut_ptr(), events.len().min(c_int::MAX as usize) as c_int);
    if only_looks(deadline) {
        // SAFETY: as in `poll`.
        return unsafe { syscall!(Sysno::epoll_pwait, set, start, most, 0, mask.0, 8) };
    }
    let timeout = left(deadline);
    let pointer = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: as in `poll`.
    let answer = asleep(cancelled, || unsafe { real::epoll_pwait2(set, start, most, pointer, mask.0) });
    if answer != Err(Errno::ENOSYS) {
        return answer;
    }
    let milliseconds =
        timeout.map_or(-1, |t| (t.tv_sec * 1000 + (t.tv_nsec + 999_999) / 1_000_000).min(i64::from(i32::MAX)));
    // SAFETY: as above.
    asleep(cancelled, || unsafe { real::epoll_pwait(set, start, most, milliseconds as c_int, mask.0) })
}
