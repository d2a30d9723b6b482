//! open(2) and its relatives: `/proc/net/kcm`, which a kernel without the module does not have.

use super::answer;
use crate::process;
use crate::socket::kcm::proc::{self, File};
use core::ffi::{CStr, c_char, c_int, c_uint};
use libc::FILE;
use preloop_sys::real;

/// The file of KCM's that a path names.
///
/// # Safety
/// `path` is null or a C string.
unsafe fn named(path: *const c_char) -> Option<File> {
    if path.is_null() || !process::settings().kcm {
        return None;
    }
    // SAFETY: the caller's.
    proc::named(unsafe { CStr::from_ptr(path) })
}

fn open_file(file: File, flags: c_int) -> c_int {
    answer(proc::open(file, flags).map(|fd| fd as usize))
}

macro_rules! hooks {
    ($( $(#[$doc:meta])* $name:ident([$($dir:ident)?] [$($mode:ident)?]); )*) => {
        $(
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C. The mode is passed on as it came, whether the call needs it or not.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            $($dir: c_int,)?
            path: *const c_char,
            flags: c_int,
            $($mode: c_uint,)?
        ) -> c_int {
            // SAFETY: the program's path, and its own call.
            unsafe {
                match named(path) {
                    Some(file) => open_file(file, flags),
                    None => real::$name($($dir,)? path, flags $(, $mode)?),
                }
            }
        }
        )*
    };
}

hooks! {
    /// open(2).
    open([] [mode]);
    /// open64, the name that programs with 64-bit offsets use.
    open64([] [mode]);
    /// openat(2).
    openat([dir] [mode]);
    /// openat64, the name that programs with 64-bit offsets use.
    openat64([dir] [mode]);
    /// The fortified open of glibc.
    __open_2([] []);
    /// The fortified open64 of glibc.
    __open64_2([] []);
    /// The fortified openat of glibc.
    __openat_2([dir] []);
    /// The fortified openat64 of glibc.
    __openat64_2([dir] []);
}

/// # Safety
/// As fopen(3), which `kernel` is.
unsafe fn open_stream(
    path: *const c_char,
    mode: *const c_char,
    kernel: unsafe fn(*const c_char, *const c_char) -> *mut FILE,
) -> *mut FILE {
    // SAFETY: the program's path and mode.
    unsafe {
        let Some(file) = named(path) else { return kernel(path, mode) };
        let reads = !mode.is_null() && CStr::from_ptr(mode).to_bytes().first() == Some(&b'r');
        let fd = open_file(file, if reads { libc::O_RDONLY } else { libc::O_WRONLY });
        if fd < 0 { core::ptr::null_mut() } else { real::fdopen(fd, mode) }
    }
}

/// fopen(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: the program's own call.
    unsafe { open_stream(path, mode, real::fopen) }
}

/// fopen64, the name that programs with 64-bit offsets use.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: the program's own call.
    unsafe { open_stream(path, mode, real::fopen64) }
}
