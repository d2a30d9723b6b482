//! The system calls that have no safe wrapper: replacing this process, making a child of it, and reading another's memory.

use std::ffi::{CStr, CString, c_char, c_long};
use std::fs::File;
use std::io::{self, Read};

use rustix::pipe::{PipeFlags, pipe_with};

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

/// Runs `work` in a child of this process, and answers what it wrote: less, when something ended the child before.
///
/// It is made without a signal for its end, which would come to the command where SIGCHLD is blocked.
///
/// # Errors
/// The kernel's, when there is no child.
pub fn in_child(work: impl FnOnce(File)) -> io::Result<Vec<u8>> {
    let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
    let none: c_long = 0;
    // SAFETY: without flags and with no stack of its own the child is a copy of this process, as after fork. A launcher has
    // one thread, so that all its memory is as that thread needs it.
    let child = unsafe { libc::syscall(libc::SYS_clone, none, none, none, none, none) };
    match child {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            drop(from);
            work(to.into());
            // SAFETY: ends the child, with nothing of the parent's run or flushed a second time.
            unsafe { libc::_exit(0) }
        }
        _ => drop(to),
    }
    let mut written = Vec::new();
    let read = File::from(from).read_to_end(&mut written);
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(child as libc::pid_t, std::ptr::null_mut(), libc::__WALL) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
    read.map(|_| written)
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
