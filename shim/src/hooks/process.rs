//! Processes: fork and its relatives.

use crate::fork;
use crate::socket::close;
use core::ffi::{c_char, c_int};
use libc::pid_t;
use preloop_sys::real;

/// fork(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fork() -> pid_t {
    // SAFETY: the program's own call.
    fork::fork(|| unsafe { real::fork() })
}

/// vfork(2), run as fork: the child would share the memory of the library's tables.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfork() -> pid_t {
    // SAFETY: the program's own call.
    fork::fork(|| unsafe { real::fork() })
}

/// daemon(3): a fork whose parent exits.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn daemon(nochdir: c_int, noclose: c_int) -> c_int {
    let mut done = 0;
    let child = fork::fork(|| {
        // SAFETY: the program's own call; its parent leaves inside.
        done = unsafe { real::daemon(nochdir, noclose) };
        done
    });
    debug_assert!(child <= 0);
    done
}

/// Another program takes this process over: descriptors with close-on-exec are closed by the kernel, so this process no
/// longer counts among their sockets' holders. Comes back only when that failed.
fn replace(exec: impl FnOnce() -> c_int) -> c_int {
    let held = close::before_exec();
    let failed = exec();
    close::exec_failed(held);
    failed
}

type Strings = *const *const c_char;

/// execve(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int {
    // SAFETY: the program's own call.
    replace(|| unsafe { real::execve(path, argv, envp) })
}

/// execv(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const c_char, argv: Strings) -> c_int {
    // SAFETY: the program's own call.
    replace(|| unsafe { real::execv(path, argv) })
}

/// execvp(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(file: *const c_char, argv: Strings) -> c_int {
    // SAFETY: the program's own call.
    replace(|| unsafe { real::execvp(file, argv) })
}

/// execvpe(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(file: *const c_char, argv: Strings, envp: Strings) -> c_int {
    // SAFETY: the program's own call.
    replace(|| unsafe { real::execvpe(file, argv, envp) })
}

/// fexecve(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fexecve(fd: c_int, argv: Strings, envp: Strings) -> c_int {
    // SAFETY: the program's own call.
    replace(|| unsafe { real::fexecve(fd, argv, envp) })
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
