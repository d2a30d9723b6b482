//! Limits that a process sets itself: one that forbids itself descriptors, as those do that guard against what they
//! serve, must be able to wait on its connections all the same.

use crate::process as this_process;
use core::ffi::{c_int, c_uint};
use libc::{pid_t, rlim_t, rlimit};
use preloop_sys::{process as system, real};

/// So few descriptors that those of the library find no place among them.
const FEW: rlim_t = 16;

/// What the kernel is to be told in the place of `wanted`. Connections that have not moved stay on TCP from now on: with no
/// descriptor to spare nobody could be rung. poll(2) takes no more entries than this limit has descriptors, and where a
/// connection has moved the library adds one to the program's, and polls two for a call that sleeps: then there are so
/// many.
fn granted(resource: c_uint, wanted: rlimit) -> rlimit {
    if resource != libc::RLIMIT_NOFILE || wanted.rlim_cur >= FEW || !this_process::confine() {
        return wanted;
    }
    let most = system::hard_limit(resource);
    let enough = (wanted.rlim_cur + 1).max(2).min(most);
    rlimit { rlim_cur: wanted.rlim_cur.max(enough), rlim_max: wanted.rlim_max.max(enough) }
}

/// setrlimit(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setrlimit(resource: c_uint, wanted: *const rlimit) -> c_int {
    if wanted.is_null() {
        // SAFETY: the program's own call.
        return unsafe { real::setrlimit(resource, wanted) };
    }
    // SAFETY: the program's pointer.
    let granted = granted(resource, unsafe { wanted.read() });
    // SAFETY: a value that outlives the call.
    unsafe { real::setrlimit(resource, &raw const granted) }
}

/// prlimit(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn prlimit(pid: pid_t, resource: c_uint, wanted: *const rlimit, old: *mut rlimit) -> c_int {
    let is_this = pid == 0 || u32::try_from(pid) == Ok(system::pid());
    if wanted.is_null() || !is_this {
        // SAFETY: the program's own call.
        return unsafe { real::prlimit(pid, resource, wanted, old) };
    }
    // SAFETY: the program's pointer.
    let granted = granted(resource, unsafe { wanted.read() });
    // SAFETY: a value that outlives the call, and the program's own pointer.
    unsafe { real::prlimit(pid, resource, &raw const granted, old) }
}
