//! The system calls that have no safe wrapper: replacing this process, and reading another's memory.

use std::ffi::{CStr, CString, c_char};
use std::io;

/// Most ranges of one [`read_memory`]: the kernel's `UIO_MAXIOV`.
pub const MAX_RANGES: usize = 1024;

/// Replaces this process by `file`, which keeps every signal disposition and mask (std's `exec` resets them). Returns
/// only when that failed.
pub fn exec(file: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let [arguments, environment] = [arguments, environment].map(null_terminated);
    // SAFETY: both arrays end with a null pointer, every other entry points at a C string that the caller's slices
    // keep alive, and execve only reads them.
    unsafe { libc::execve(file.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

fn null_terminated(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Fills `buffer` with the bytes at `ranges` (address, length) of process `pid`, one after the other. The memory may
/// change meanwhile; only copies are looked at.
///
/// # Errors
/// The kernel's refusal, or `UnexpectedEof` when some of the memory is not there.
///
/// # Panics
/// When there are more than [`MAX_RANGES`] ranges, or `buffer` is not exactly as long as all of them.
pub fn read_memory(pid: i32, ranges: &[(u64, usize)], buffer: &mut [u8]) -> io::Result<()> {
    assert!(ranges.len() <= MAX_RANGES && ranges.iter().map(|range| range.1).sum::<usize>() == buffer.len());
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote: Vec<_> = ranges
        .iter()
        .map(|&(address, length)| libc::iovec { iov_base: address as *mut libc::c_void, iov_len: length })
        .collect();
    // SAFETY: `local` is the one range written to, and is exactly `buffer`, borrowed for the call; the remote ranges
    // name another address space, which the kernel checks.
    let copied = unsafe { libc::process_vm_readv(pid, &local, 1, remote.as_ptr(), remote.len() as libc::c_ulong, 0) };
    match usize::try_from(copied) {
        Ok(copied) if copied == buffer.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
