//! What descriptors are ready for, and descriptors that are ready when the library wants it: direct system calls, as in
//! [`crate::call`].

use crate::call::{Answer, raw};
use crate::unix::Inner;
use crate::{Errno, Fd};
use core::ffi::c_int;

/// `poll(2)` without waiting: the events of one descriptor.
pub fn poll_now(fd: Fd, events: i16) -> i16 {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    match raw!(ppoll, &raw mut entry, 1, &raw const no_time, 0, 8) {
        Ok(_) => entry.revents,
        Err(_) => 0,
    }
}

/// Waits until a descriptor polls as ready, or so many nanoseconds have passed.
pub fn poll_for(fd: Fd, events: i16, nanoseconds: u64) {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    let (sec, nsec) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let time = libc::timespec { tv_sec: sec as libc::time_t, tv_nsec: nsec as libc::c_long };
    let _ = raw!(ppoll, &raw mut entry, 1, &raw const time, 0, 8);
}

/// `epoll_create1(2)`, close-on-exec.
///
/// # Errors
/// EMFILE and its like.
pub fn epoll_create() -> Result<Fd, Errno> {
    raw!(epoll_create1, libc::EPOLL_CLOEXEC).map(|fd| fd as Fd)
}

/// `epoll_ctl(2)`; `event` is ignored by EPOLL_CTL_DEL.
pub fn epoll_ctl(set: Fd, op: c_int, fd: Fd, events: u32, data: u64) -> Result<(), Errno> {
    let mut event = libc::epoll_event { events, u64: data };
    raw!(epoll_ctl, set, op, fd, &raw mut event).map(drop)
}

/// `epoll_wait(2)` for so many milliseconds, -1 for ever. No cancellation point.
///
/// # Errors
/// EINTR.
pub fn epoll_wait(set: Fd, events: &mut [libc::epoll_event], milliseconds: c_int) -> Answer {
    raw!(epoll_pwait, set, events.as_mut_ptr(), events.len(), milliseconds, 0, 8)
}

/// `eventfd(2)`, close-on-exec and not waiting.
///
/// # Errors
/// EMFILE and its like.
pub fn eventfd() -> Result<Fd, Errno> {
    raw!(eventfd2, 0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK).map(|fd| fd as Fd)
}

/// A timer descriptor of CLOCK_MONOTONIC, close-on-exec and not waiting.
///
/// # Errors
/// EMFILE and its like.
pub fn timer() -> Result<Fd, Errno> {
    raw!(timerfd_create, libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK).map(|fd| fd as Fd)
}

/// Sets a timer to a point of CLOCK_MONOTONIC, in nanoseconds; 0 stops it.
pub fn set_timer(timer: Fd, at: u64) {
    let value = libc::timespec { tv_sec: (at / 1_000_000_000) as i64, tv_nsec: (at % 1_000_000_000) as i64 };
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let setting = libc::itimerspec { it_interval: never, it_value: value };
    let _ = raw!(timerfd_settime, timer, libc::TFD_TIMER_ABSTIME, &raw const setting, 0);
}

/// A descriptor that polls as readable whenever somebody has closed what he had opened for writing of the file that another
/// one stands for (inotify(7)), close-on-exec and not waiting.
///
/// # Errors
/// EMFILE when this user has as many as he may; ENOSPC; ENOENT without `/proc`.
pub fn watch_closing(fd: Fd) -> Result<Fd, Errno> {
    let path = format!("/proc/self/fd/{fd}\0");
    let watcher = Inner::from_raw(raw!(inotify_init1, libc::IN_CLOEXEC | libc::IN_NONBLOCK)? as Fd);
    raw!(inotify_add_watch, watcher.fd(), path.as_ptr(), libc::IN_CLOSE_WRITE)?;
    Ok(watcher.into_raw())
}
