//! Children that cannot be counted (see [`uncounted`]): what the C library runs for system(3) and its like, `_Fork`, clone(2).

use crate::process;
use crate::socket::uncounted::{self, Gets};
use core::ffi::{c_char, c_int, c_void};
use libc::pid_t;
use preloop_sys::real;

/// What a child made by clone(2) with these flags gets.
fn gets(flags: u64) -> Gets {
    let has = |flag: c_int| flags & flag as u64 != 0;
    if !has(libc::CLONE_VM) {
        Gets::All
    } else if has(libc::CLONE_FILES) {
        Gets::Nothing
    } else if has(libc::CLONE_VFORK) {
        Gets::Open
    } else {
        Gets::All
    }
}

/// Makes a child with these flags, which has its own copy of the memory or this very one.
fn made<R: From<i8> + PartialEq>(flags: u64, call: impl FnOnce() -> R) -> R {
    let has = |flag: c_int| flags & flag as u64 != 0;
    uncounted::before(gets(flags));
    if has(libc::CLONE_VM) && !has(libc::CLONE_THREAD) { process::lends(has(libc::CLONE_VFORK), call) } else { call() }
}

/// Makes a child by a call that comes back in it, too.
pub fn cloned<R: From<i8> + PartialEq>(flags: u64, call: impl FnOnce() -> R) -> R {
    let child = made(flags, call);
    if child == 0.into() && flags & libc::CLONE_VM as u64 == 0 {
        uncounted::in_copy();
    }
    child
}

/// `_Fork`: may be called in a signal handler, whatever its thread was doing.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Fork() -> pid_t {
    // SAFETY: the program's own call.
    cloned(0, || unsafe { real::_Fork() })
}

/// Where clone(2) has a child begin.
pub type Start = unsafe extern "C" fn(*mut c_void) -> c_int;

/// Where a child begins, as the program wants it.
struct Beginning {
    start: Start,
    argument: *mut c_void,
}

/// Where a child with a copy of the memory begins.
///
/// # Safety
/// `beginning` is a [`Beginning`].
unsafe extern "C" fn begin(beginning: *mut c_void) -> c_int {
    uncounted::in_copy();
    // SAFETY: the caller's; and the program's own call.
    unsafe {
        let Beginning { start, argument } = *beginning.cast_const().cast();
        start(argument)
    }
}

/// clone(2), the C function. All arguments are taken, whatever the flags need: see [`syscall`](super::syscall::syscall).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clone(
    start: Option<Start>,
    stack: *mut c_void,
    flags: c_int,
    argument: *mut c_void,
    parent: *mut pid_t,
    tls: *mut c_void,
    child: *mut pid_t,
) -> c_int {
    let (Some(first), true) = (start, flags & libc::CLONE_VM == 0) else {
        // SAFETY: the program's own call.
        return made(flags as u64, || unsafe { real::clone(start, stack, flags, argument, parent, tls, child) });
    };
    // The child has a copy of this frame.
    let beginning = Beginning { start: first, argument };
    let beginning = (&raw const beginning).cast_mut().cast();
    // SAFETY: the program's own call, but for where the child begins.
    made(flags as u64, || unsafe { real::clone(Some(begin), stack, flags, beginning, parent, tls, child) })
}

/// system(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn system(command: *const c_char) -> c_int {
    if !command.is_null() {
        uncounted::before(Gets::Open);
    }
    // SAFETY: the program's own call.
    unsafe { real::system(command) }
}

/// popen(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    uncounted::before(Gets::Open);
    // SAFETY: the program's own call.
    unsafe { real::popen(command, mode) }
}

/// wordexp(3): it may run commands.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wordexp(words: *const c_char, into: *mut c_void, flags: c_int) -> c_int {
    /// `wordexp.h`
    const WRDE_NOCMD: c_int = 4;
    if flags & WRDE_NOCMD == 0 {
        uncounted::before(Gets::Open);
    }
    // SAFETY: the program's own call.
    unsafe { real::wordexp(words, into, flags) }
}
