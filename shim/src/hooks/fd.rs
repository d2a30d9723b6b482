//! Descriptors: close, dup, fcntl, and what makes streams of them.

use super::{answer, kcm_stream};
use crate::fdtable;
use crate::socket::back::ask;
use crate::socket::{birth, close, options};
use core::ffi::{c_char, c_int, c_uint, c_void};
use preloop_sys::{Errno, errno, real};

/// close(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if fdtable::is_inner(fd) {
        return answer(Err(Errno::EBADF));
    }
    let _closing = close::before_close(fd);
    // SAFETY: a plain number.
    unsafe { real::close(fd) }
}

/// close_range(2): passes the library's own descriptors by.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    const UNSHARE: c_int = 2;
    let highest = last.min(i32::MAX as u32);
    // Calls that fail or close nothing; the last one asks whether the kernel has the call.
    // SAFETY: plain numbers.
    if first > highest || flags & !UNSHARE != 0 || unsafe { real::close_range(c_uint::MAX, c_uint::MAX, 0) } < 0 {
        // SAFETY: as above.
        return unsafe { real::close_range(first, last, flags) };
    }
    let closing: Vec<_> = fdtable::known_between(first as c_int, highest as c_int).map(close::before_close).collect();
    let mut from = first;
    for inner in fdtable::inner_between(first as c_int, highest as c_int) {
        let inner = inner as c_uint;
        if from < inner {
            // SAFETY: as above.
            let done = unsafe { real::close_range(from, inner - 1, flags) };
            if done < 0 {
                return done;
            }
        }
        from = inner + 1;
    }
    // SAFETY: as above.
    let done = if from <= last { unsafe { real::close_range(from, last, flags) } } else { 0 };
    drop(closing);
    done
}

/// closefrom(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn closefrom(first: c_int) {
    // SAFETY: plain numbers.
    if unsafe { close_range(first.max(0) as c_uint, c_uint::MAX, 0) } < 0 {
        // A kernel without the call: one after the other, up to what a process can have.
        let limit = preloop_sys::process::limit(libc::RLIMIT_NOFILE).min(1 << 20) as c_int;
        for fd in first.max(0)..limit {
            // SAFETY: as above.
            unsafe { close(fd) };
        }
    }
}

/// dup(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: a plain number.
    let new = unsafe { real::dup(fd) };
    if new >= 0 { duplicated(fd, new) } else { new }
}

/// The kernel has made a duplicate at a number of its choice.
fn duplicated(fd: c_int, new: c_int) -> c_int {
    if !birth::may_be_at(new, fd) {
        // SAFETY: a descriptor that nobody knows of.
        unsafe { real::close(new) };
        return answer(Err(Errno::EMFILE));
    }
    birth::duplicated(fd, new);
    new
}

fn dup_to(fd: c_int, to: c_int, kernel: impl FnOnce() -> c_int) -> c_int {
    if fdtable::is_inner(to) {
        return answer(Err(Errno::EBUSY));
    }
    if !birth::may_be_at(to, fd) {
        return answer(Err(Errno::EBADF));
    }
    // What `to` stood for ends with the call, unless that fails or both are the same.
    let replaces = fd != to && preloop_sys::call::status_flags(fd).is_ok();
    let _closing = replaces.then(|| close::before_close(to));
    let new = kernel();
    if new >= 0 && fd != to {
        birth::duplicated(fd, new);
    }
    new
}

/// dup2(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup2(fd: c_int, to: c_int) -> c_int {
    // SAFETY: plain numbers.
    dup_to(fd, to, || unsafe { real::dup2(fd, to) })
}

/// dup3(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int {
    if fd == to || flags & !libc::O_CLOEXEC != 0 {
        // It fails, and closes nothing.
        // SAFETY: plain numbers.
        return unsafe { real::dup3(fd, to, flags) };
    }
    // SAFETY: as above.
    dup_to(fd, to, || unsafe { real::dup3(fd, to, flags) })
}

/// fcntl(2). The third argument is passed on as it came, whatever its type.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
    if command == libc::F_SETFL
        && argument as usize as c_int & libc::O_ASYNC != 0
        && let Some(Err(code)) = fdtable::get(fd).map(|file| options::before_signals(&file))
    {
        return answer(Err(code));
    }
    // SAFETY: the program's own call.
    let done = unsafe { real::fcntl(fd, command, argument) };
    if done >= 0 {
        match command {
            libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => return duplicated(fd, done),
            libc::F_SETFL => {
                if let Some(file) = fdtable::get(fd) {
                    options::set_nonblocking(&file, argument as usize as c_int & libc::O_NONBLOCK != 0);
                }
            }
            _ => {}
        }
    }
    done
}

/// fcntl64, the name that programs with 64-bit offsets use.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: the program's.
    unsafe { fcntl(fd, command, argument) }
}

/// fdopen(3): the C library reads and writes a stream's descriptor unseen, so the connection stays on TCP. For a KCM socket
/// there are streams that it sees.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdopen(fd: c_int, mode: *const c_char) -> *mut libc::FILE {
    if fdtable::get(fd).is_some_and(|file| !ask::pin(&file)) {
        errno::set(Errno::EOPNOTSUPP);
        return core::ptr::null_mut();
    }
    // SAFETY: the program's own call.
    unsafe { if fdtable::kcm(fd).is_some() { kcm_stream::open(fd, mode) } else { real::fdopen(fd, mode) } }
}
