//! Readiness: poll, select, epoll.

use super::answer;
use crate::fdtable;
use crate::process;
use crate::socket::wait::Deadline;
use crate::socket::{epoll, poll as polling, select as selecting};
use core::cell::OnceCell;
use core::ffi::c_int;
use libc::{epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};
use preloop_sys::sleep::SignalMask;
use preloop_sys::{Errno, cancel, clock, real};

fn after_ms(timeout: c_int) -> Deadline {
    match timeout {
        ..0 => None,
        0 => Some(0),
        ms => Some(clock::now() + ms as u64 * 1_000_000),
    }
}

fn after(seconds: i64, nanoseconds: i64) -> Deadline {
    if seconds == 0 && nanoseconds == 0 {
        return Some(0);
    }
    let wait = (seconds.max(0) as u64).saturating_mul(1_000_000_000).saturating_add(nanoseconds.max(0) as u64);
    Some(clock::now().saturating_add(wait))
}

/// # Safety
/// `timeout` must be null or valid.
unsafe fn after_spec(timeout: *const timespec) -> Deadline {
    // SAFETY: the caller's.
    unsafe { timeout.as_ref() }.and_then(|t| after(t.tv_sec, t.tv_nsec))
}

/// Whether a time-out is one that the kernel refuses, at once.
///
/// # Safety
/// `timeout` must be null or valid.
unsafe fn is_wrong(timeout: *const timespec) -> bool {
    // SAFETY: the caller's.
    unsafe { timeout.as_ref() }.is_some_and(|t| t.tv_sec < 0 || !(0..1_000_000_000).contains(&t.tv_nsec))
}

/// # Safety
/// `fds` must be valid for `count` entries.
unsafe fn entries<'a>(fds: *mut pollfd, count: nfds_t) -> &'a mut [pollfd] {
    if fds.is_null() {
        return &mut [];
    }
    // SAFETY: the caller's.
    unsafe { core::slice::from_raw_parts_mut(fds, count as usize) }
}

/// poll(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    // SAFETY: the program vouches for its array.
    match polling::poll(unsafe { entries(fds, count) }, || after_ms(timeout), SignalMask::NONE) {
        Some(result) => answer(result),
        // SAFETY: the program's own call.
        None => unsafe { real::poll(fds, count, timeout) },
    }
}

/// The fortified poll of glibc.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, room: usize) -> c_int {
    if room / size_of::<pollfd>() < count as usize {
        std::process::abort();
    }
    // SAFETY: the program's.
    unsafe { poll(fds, count, timeout) }
}

/// ppoll(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the program's pointer.
    if unsafe { is_wrong(timeout) } {
        return answer(Err(Errno::EINVAL));
    }
    // SAFETY: the program vouches for its array, time-out and mask.
    let result = unsafe { polling::poll(entries(fds, count), || after_spec(timeout), SignalMask::new(mask)) };
    match result {
        Some(result) => answer(result),
        // SAFETY: the program's own call.
        None => unsafe { real::ppoll(fds, count, timeout, mask) },
    }
}

/// The fortified ppoll of glibc.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __ppoll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    room: usize,
) -> c_int {
    if room / size_of::<pollfd>() < count as usize {
        std::process::abort();
    }
    // SAFETY: the program's.
    unsafe { ppoll(fds, count, timeout, mask) }
}

/// # Safety
/// `set` must be null or valid for `nfds` bits, in whole words: select(2) allows more than FD_SETSIZE of them.
unsafe fn words<'a>(set: *mut fd_set, nfds: c_int) -> Option<&'a mut [u64]> {
    // SAFETY: the caller's.
    (!set.is_null())
        .then(|| unsafe { core::slice::from_raw_parts_mut(set.cast(), (nfds.max(0) as usize).div_ceil(64)) })
}

/// # Safety
/// The sets must be valid as in C.
unsafe fn select_any(
    nfds: c_int,
    (r, w, e): (*mut fd_set, *mut fd_set, *mut fd_set),
    deadline: impl Fn() -> Deadline,
    mask: SignalMask,
) -> Option<Result<usize, Errno>> {
    // SAFETY: the caller's.
    let sets = unsafe { selecting::Selected { read: words(r, nfds), write: words(w, nfds), except: words(e, nfds) } };
    selecting::select(nfds.max(0) as usize, sets, deadline, mask)
}

/// select(2). As on Linux, the time-out is left holding what remains of it.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn select(
    nfds: c_int,
    r: *mut fd_set,
    w: *mut fd_set,
    e: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: the program's pointer.
    if unsafe { timeout.as_ref() }.is_some_and(|t| t.tv_sec < 0 || t.tv_usec < 0) {
        return answer(Err(Errno::EINVAL));
    }
    let asked = OnceCell::new();
    // SAFETY: as above.
    let after_val = || unsafe { timeout.as_ref() }.and_then(|t| after(t.tv_sec, t.tv_usec.saturating_mul(1000)));
    let deadline = || *asked.get_or_init(after_val);
    // SAFETY: the program vouches for its sets.
    let Some(result) = (unsafe { select_any(nfds, (r, w, e), deadline, SignalMask::NONE) }) else {
        // SAFETY: the program's own call.
        return unsafe { real::select(nfds, r, w, e, timeout) };
    };
    if let Some(Some(deadline)) = asked.get() {
        let left = deadline.saturating_sub(clock::now());
        // SAFETY: a deadline came from this pointer.
        unsafe {
            (*timeout).tv_sec = (left / 1_000_000_000) as i64;
            (*timeout).tv_usec = (left % 1_000_000_000 / 1000) as i64;
        }
    }
    answer(result)
}

/// pselect(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pselect(
    nfds: c_int,
    r: *mut fd_set,
    w: *mut fd_set,
    e: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the program's pointer.
    if unsafe { is_wrong(timeout) } {
        return answer(Err(Errno::EINVAL));
    }
    // SAFETY: the program vouches for its sets, time-out and mask.
    let result = unsafe { select_any(nfds, (r, w, e), || after_spec(timeout), SignalMask::new(mask)) };
    match result {
        Some(result) => answer(result),
        // SAFETY: the program's own call.
        None => unsafe { real::pselect(nfds, r, w, e, timeout, mask) },
    }
}

/// epoll_create(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_create(size: c_int) -> c_int {
    // SAFETY: a plain number.
    let fd = unsafe { real::epoll_create(size) };
    if fd >= 0 {
        epoll::made(fd);
    }
    fd
}

/// epoll_create1(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_create1(flags: c_int) -> c_int {
    // SAFETY: a plain number.
    let fd = unsafe { real::epoll_create1(flags) };
    if fd >= 0 {
        epoll::made(fd);
    }
    fd
}

/// epoll_ctl(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_ctl(set: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    if fdtable::is_inner(fd) {
        return answer(Err(Errno::EBADF));
    }
    // SAFETY: the program's pointer; the struct may be packed, so it is copied.
    let wanted = (!event.is_null()).then(|| unsafe { event.read_unaligned() }).map(|event| (event.events, event.u64));
    if wanted.is_some_and(|(events, _)| events & libc::EPOLLET as u32 != 0)
        && let Some(sock) = fdtable::kcm(fd)
    {
        sock.wants_edges();
    }
    match epoll::control(set, op, fd, wanted) {
        Some(result) => answer(result),
        // SAFETY: the program's own call.
        None => unsafe { real::epoll_ctl(set, op, fd, event) },
    }
}

/// # Safety
/// `events` must be valid for `max` entries.
unsafe fn wait_any(
    set: c_int,
    events: *mut epoll_event,
    max: c_int,
    deadline: impl Fn() -> Deadline,
    mask: SignalMask,
    kernel: impl FnOnce() -> c_int,
) -> c_int {
    let Some(found) = fdtable::epoll(set).filter(|_| max > 0 && !events.is_null()) else { return kernel() };
    // SAFETY: the caller's.
    let out = unsafe { core::slice::from_raw_parts_mut(events, max as usize) };
    // A process that filters its calls may not be able to ask for the time.
    let early = (!process::is_filtered()).then(&deadline);
    if found.enter_plain() {
        let got = cancel::run(&mut || found.leave_plain(), kernel);
        found.leave_plain();
        if got <= 0 || !found.is_active() {
            return got;
        }
        // A connection was added while this thread slept in the kernel's own call.
        match found.translate(out, got as usize) {
            0 => {}
            count => return count as c_int,
        }
    }
    answer(found.wait(out, early.unwrap_or_else(deadline), mask))
}

/// epoll_wait(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(set: c_int, events: *mut epoll_event, max: c_int, timeout: c_int) -> c_int {
    // SAFETY: the program's own call, and its array.
    unsafe {
        let kernel = || real::epoll_wait(set, events, max, timeout);
        wait_any(set, events, max, || after_ms(timeout), SignalMask::NONE, kernel)
    }
}

/// epoll_pwait(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait(
    set: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the program's own call, its array and its mask.
    unsafe {
        let kernel = || real::epoll_pwait(set, events, max, timeout, mask);
        wait_any(set, events, max, || after_ms(timeout), SignalMask::new(mask), kernel)
    }
}

/// epoll_pwait2(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait2(
    set: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the program's pointer.
    if unsafe { is_wrong(timeout) } {
        return answer(Err(Errno::EINVAL));
    }
    // SAFETY: the program's own call, its array, time-out and mask.
    unsafe {
        let kernel = || real::epoll_pwait2(set, events, max, timeout, mask);
        wait_any(set, events, max, || after_spec(timeout), SignalMask::new(mask), kernel)
    }
}
