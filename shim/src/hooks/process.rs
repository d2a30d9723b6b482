//! Processes: fork and its relatives.

use super::stdio;
use crate::fork;
use crate::process;
use crate::socket::{close, kcm};
use core::ffi::{c_char, c_int, c_ulong};
use libc::pid_t;
use preloop_sys::{Errno, errno, real};

/// fork(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fork() -> pid_t {
    // SAFETY: the program's own call.
    forked(|| unsafe { real::fork() })
}

/// Runs a call that makes a child with a copy of this process's memory. In a signal handler that has interrupted its thread
/// inside a KCM socket's mux it fails with EAGAIN: the child would go on in there too.
pub fn forked(call: impl FnOnce() -> pid_t) -> pid_t {
    if kcm::entered::is_inside() {
        errno::set(Errno::EAGAIN);
        return -1;
    }
    stdio::hold(|| fork::fork(call))
}

/// Whether clone(2) with these flags and stack is fork by another name, as programs call it that want namespaces for the
/// child. Only in a process of one thread: the C library does not know of such a child, so that what another thread had
/// locked, such as the allocator, stays locked there.
pub fn is_fork(flags: c_ulong, stack: c_ulong) -> bool {
    const SHARES: c_int = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_THREAD;
    flags & SHARES as c_ulong == 0 && stack == 0 && real::has_one_thread()
}

/// vfork(2), run as fork: the child would share the memory of the library's tables.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfork() -> pid_t {
    // SAFETY: the program's own call.
    unsafe { fork() }
}

/// forkpty(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forkpty(
    main: *mut c_int,
    name: *mut c_char,
    mode: *const libc::termios,
    size: *const libc::winsize,
) -> pid_t {
    // SAFETY: the program's own call.
    forked(|| unsafe { real::forkpty(main, name, mode, size) })
}

/// daemon(3). Made of its parts, since the C library's parent would leave without being counted out.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn daemon(nochdir: c_int, noclose: c_int) -> c_int {
    const DEV_NULL: &core::ffi::CStr = c"/dev/null";
    // SAFETY: numbers and constant paths.
    unsafe {
        match fork() {
            -1 => return -1,
            0 => {}
            _ => _exit(0),
        }
        if libc::setsid() < 0 {
            return -1;
        }
        if nochdir == 0 {
            let _ = libc::chdir(c"/".as_ptr());
        }
        if noclose == 0 {
            let null = libc::open(DEV_NULL.as_ptr(), libc::O_RDWR);
            if null < 0 {
                return -1;
            }
            for standard in 0..3 {
                super::fd::dup2(null, standard);
            }
            if null > 2 {
                super::fd::close(null);
            }
        }
    }
    0
}

/// _exit(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _exit(status: c_int) -> ! {
    close::process_ends();
    // SAFETY: the program's own call.
    unsafe { real::_exit(status) }
}

/// _Exit(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Exit(status: c_int) -> ! {
    // SAFETY: the program's own call.
    unsafe { _exit(status) }
}

/// prctl(2): before a process begins to filter its system calls, its connections are on TCP for good, as far as that goes. One
/// that asks whether the kernel knows of filters gives none, and goes on as before.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int {
    const STRICT: c_ulong = libc::SECCOMP_MODE_STRICT as c_ulong;
    const FILTER: c_ulong = libc::SECCOMP_MODE_FILTER as c_ulong;
    // SAFETY: the program's own call.
    let call = || unsafe { real::prctl(option, a, b, c, d) };
    let filters = option == libc::PR_SET_SECCOMP && (a == STRICT || a == FILTER && b != 0);
    if filters { process::filters(call) } else { call() }
}
