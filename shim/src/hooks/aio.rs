//! Asynchronous I/O: the C library's own threads read and write, unseen, so a connection stays on TCP.

use super::answer;
use crate::fdtable;
use crate::socket::back::ask;
use core::ffi::c_int;
use libc::{aiocb, sigevent};
use preloop_sys::{Errno, real};

/// Whether the C library may use the block's descriptor: afterwards a connection does not move any more.
///
/// # Safety
/// `block` must be null or valid.
unsafe fn may_use(block: *const aiocb) -> bool {
    // SAFETY: the caller's.
    let fd = unsafe { block.as_ref() }.map_or(-1, |block| block.aio_fildes);
    fdtable::get(fd).is_none_or(|file| ask::pin(&file))
}

/// aio_read(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio_read(block: *mut aiocb) -> c_int {
    // SAFETY: the program's own call.
    unsafe { if may_use(block) { real::aio_read(block) } else { answer(Err(Errno::EOPNOTSUPP)) } }
}

/// aio_write(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio_write(block: *mut aiocb) -> c_int {
    // SAFETY: the program's own call.
    unsafe { if may_use(block) { real::aio_write(block) } else { answer(Err(Errno::EOPNOTSUPP)) } }
}

/// lio_listio(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lio_listio(
    mode: c_int,
    blocks: *const *mut aiocb,
    count: c_int,
    event: *mut sigevent,
) -> c_int {
    let all = if blocks.is_null() { 0 } else { count.max(0) as usize };
    // SAFETY: the program vouches for so many pointers, each null or valid.
    if !(0..all).all(|at| unsafe { may_use(*blocks.add(at)) }) {
        return answer(Err(Errno::EOPNOTSUPP));
    }
    // SAFETY: the program's own call.
    unsafe { real::lio_listio(mode, blocks, count, event) }
}

/// aio_read64, the name that programs with 64-bit offsets use.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio_read64(block: *mut aiocb) -> c_int {
    // SAFETY: the program's; the two blocks are laid out alike.
    unsafe { aio_read(block) }
}

/// aio_write64, likewise.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio_write64(block: *mut aiocb) -> c_int {
    // SAFETY: as above.
    unsafe { aio_write(block) }
}

/// lio_listio64, likewise.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lio_listio64(
    mode: c_int,
    blocks: *const *mut aiocb,
    count: c_int,
    event: *mut sigevent,
) -> c_int {
    // SAFETY: as above.
    unsafe { lio_listio(mode, blocks, count, event) }
}
