//! Data: read, write and their families.

mod headers;
mod receive;
mod send;

pub use receive::*;
pub use send::*;

use core::ffi::{c_int, c_void};
use libc::{iovec, msghdr, size_t};
use preloop_sys::probe::{self, Access};

/// Messages that sendmmsg(2) takes at most (`UIO_MAXIOV`), and recvmmsg(2) here at a time.
const MANY: usize = 1024;

fn part(buf: *const c_void, len: size_t) -> [iovec; 1] {
    [iovec { iov_base: buf.cast_mut(), iov_len: len }]
}

/// # Safety
/// `iov` must be valid for `count` entries.
unsafe fn parts<'a>(iov: *const iovec, count: usize) -> &'a [iovec] {
    if iov.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { core::slice::from_raw_parts(iov, count) }
}

/// Whether a call has as many parts as the kernel takes; it refuses every other.
fn may_have(count: c_int) -> bool {
    (0..=1024).contains(&count)
}

/// As [`may_have`], of a message; and whether they can be read at all.
///
/// # Safety
/// `msg` must be null or valid.
unsafe fn has_parts(msg: *const msghdr) -> bool {
    // SAFETY: the caller's.
    unsafe { msg.as_ref() }.is_some_and(|msg| {
        may_have_parts(msg) && probe::may(Access::Read, msg.msg_iov.cast(), msg.msg_iovlen * size_of::<iovec>())
    })
}

/// As [`may_have`], of a message.
fn may_have_parts(msg: &msghdr) -> bool {
    msg.msg_iovlen <= 1024
}

/// A socket's flag for RWF_NOWAIT.
fn no_wait(flags: c_int) -> c_int {
    if flags & libc::RWF_NOWAIT != 0 { libc::MSG_DONTWAIT } else { 0 }
}
