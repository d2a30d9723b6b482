//! Data between descriptors: sendfile and splice.

use crate::fdtable::{self, Known};
use crate::socket::calls::Answer;
use crate::socket::kcm::transfer as kcm;
use crate::socket::transfer;
use core::ffi::{c_int, c_uint};
use libc::{off64_t, size_t, ssize_t};
use preloop_sys::real;

/// sendfile(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(out: c_int, input: c_int, offset: *mut off64_t, count: size_t) -> ssize_t {
    // SAFETY: the program's own call.
    let mut kernel = || unsafe { real::sendfile(out, input, offset, count) };
    let Some(socket) = fdtable::socket(out) else { return kernel() };
    // SAFETY: the program's pointer.
    let mut at = unsafe { offset.as_ref() }.copied();
    let answer = match socket {
        Known::Tcp(file) => transfer::sendfile(&file, out, input, &mut at, count, &mut kernel),
        Known::Kcm(sock) => Answer::Ours(kcm::sendfile(&sock, input, &mut at, count)),
    };
    if let (Answer::Ours(_), Some(at), false) = (&answer, at, offset.is_null()) {
        // SAFETY: as above.
        unsafe { *offset = at };
    }
    answer.into_c()
}

/// sendfile64(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(out: c_int, input: c_int, offset: *mut off64_t, count: size_t) -> ssize_t {
    // SAFETY: the program's.
    unsafe { sendfile(out, input, offset, count) }
}

/// splice(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn splice(
    input: c_int,
    in_offset: *mut off64_t,
    out: c_int,
    out_offset: *mut off64_t,
    len: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: the program's own call.
    let mut kernel = || unsafe { real::splice(input, in_offset, out, out_offset, len, flags) };
    if in_offset.is_null() && out_offset.is_null() {
        match (fdtable::kcm(input), fdtable::kcm(out)) {
            (Some(sock), None) => return Answer::Ours(kcm::splice_out(sock, out, len, flags)).into_c(),
            (None, Some(sock)) => return Answer::Ours(kcm::splice_in(sock, input, len, flags)).into_c(),
            _ => {}
        }
    }
    let nonblocking = flags & libc::SPLICE_F_NONBLOCK != 0;
    let answer = match (fdtable::get(input), fdtable::get(out)) {
        // The kernel refuses them: a socket has no offset, and one end must be a pipe.
        (Some(_), Some(_)) => Answer::Kernel(kernel()),
        (Some(_), None) if len == 0 || !in_offset.is_null() => Answer::Kernel(kernel()),
        (None, Some(_)) if !out_offset.is_null() => Answer::Kernel(kernel()),
        (Some(file), None) => transfer::splice_out(&file, out, len, nonblocking, &mut kernel),
        (None, Some(file)) => transfer::splice_in(&file, out, input, len, nonblocking, &mut kernel),
        (None, None) => Answer::Kernel(kernel()),
    };
    answer.into_c()
}
