//! Streams (stdio) on KCM sockets: fdopen(3). The C library would read and write the pair of Unix sockets below, so such a
//! stream goes through the hooks. As in the kernel, filling its buffer reads a message, and emptying it sends one.

use super::stdio;
use core::ffi::c_char;
use libc::FILE;
use preloop_sys::Fd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

/// The streams, by their addresses, and their descriptors, which the C library does not know.
static STREAMS: Mutex<Vec<(usize, Fd)>> = Mutex::new(Vec::new());
/// Whether there has been one.
static ANY: AtomicBool = AtomicBool::new(false);

fn streams() -> MutexGuard<'static, Vec<(usize, Fd)>> {
    STREAMS.lock().unwrap_or_else(|e| e.into_inner())
}

/// Whether this process has had such a stream.
pub fn any() -> bool {
    ANY.load(Relaxed)
}

/// Runs `during` while none comes or goes (for fork).
pub fn hold<R>(during: impl FnOnce() -> R) -> R {
    let _held = streams();
    during()
}

/// fdopen(3) of a KCM socket.
///
/// # Safety
/// As in C.
pub unsafe fn open(fd: Fd, mode: *const c_char) -> *mut FILE {
    // SAFETY: the caller's.
    let stream = unsafe { stdio::through_hooks(fd, mode) };
    if !stream.is_null() {
        ANY.store(true, Relaxed);
        streams().push((stream.addr(), fd));
    }
    stream
}

/// The descriptor of such a stream.
pub fn number_of(stream: *mut FILE) -> Option<Fd> {
    if !any() {
        return None;
    }
    streams().iter().find(|(known, _)| *known == stream.addr()).map(|(_, fd)| *fd)
}

/// Such a stream is about to be closed; answers its descriptor.
pub fn forget(stream: *mut FILE) -> Option<Fd> {
    if !any() {
        return None;
    }
    let mut streams = streams();
    let at = streams.iter().position(|(known, _)| *known == stream.addr())?;
    Some(streams.swap_remove(at).1)
}
