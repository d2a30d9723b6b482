//! The C library's errno.

use crate::Errno;

/// Stores `errno`; hooks do this once, on the way out.
pub fn set(errno: Errno) {
    // SAFETY: __errno_location returns this thread's errno, valid for its lifetime.
    unsafe { *libc::__errno_location() = errno.into_raw() }
}

/// Reads `errno`.
pub fn get() -> Errno {
    // SAFETY: as in `set`.
    Errno::new(unsafe { *libc::__errno_location() })
}
