//! This process: who it is, random numbers, and what memory it may use.

use crate::Errno;
use core::ffi::{CStr, c_char};
use std::ffi::CString;
use syscalls::{Sysno, syscall};

/// Process id.
pub fn pid() -> u32 {
    // SAFETY: takes no arguments.
    unsafe { libc::getpid() as u32 }
}

/// Whether the parent is in another pid namespace, an outer one.
pub fn parent_is_elsewhere() -> bool {
    // SAFETY: takes no arguments.
    unsafe { libc::getppid() == 0 }
}

/// A number of this thread, which is never 0.
pub fn this_thread() -> usize {
    // SAFETY: takes no arguments.
    unsafe { libc::pthread_self() as usize }
}

/// The number of this thread, as the kernel knows it.
pub fn tid() -> u32 {
    // SAFETY: takes no arguments.
    unsafe { syscall!(Sysno::gettid) }.unwrap_or(0) as u32
}

/// While it lives no signal handler runs in this thread: none finds a lock taken that it would wait for.
pub struct Masked {
    before: libc::sigset_t,
}

impl Masked {
    /// From now on.
    pub fn begin() -> Self {
        // SAFETY: the sets are filled before they are read.
        unsafe {
            let (mut all, mut before) = (core::mem::zeroed::<libc::sigset_t>(), core::mem::zeroed::<libc::sigset_t>());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self { before }
        }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        // SAFETY: the mask that the thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, core::ptr::null_mut()) };
    }
}

/// Starts a thread of the library's own, which no signal interrupts.
///
/// # Errors
/// EAGAIN when the process may have no more.
pub fn spawn(name: &str, stack: usize, run: impl FnOnce() + Send + 'static) -> Result<(), Errno> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(stack);
    let masked = Masked::begin();
    let spawned = thread.spawn(run);
    drop(masked);
    spawned.map(drop).map_err(|error| Errno::new(error.raw_os_error().unwrap_or(libc::EAGAIN)))
}

/// Effective uid.
pub fn euid() -> u32 {
    // SAFETY: takes no arguments.
    unsafe { libc::geteuid() }
}

/// Whether the kernel would let this process execute a file, as far as its permissions and the mount's go. Where it cannot be
/// asked (before Linux 5.8), yes.
pub fn may_execute(path: &CStr) -> bool {
    // SAFETY: the path is a C string.
    let answer = unsafe { syscall!(Sysno::faccessat2, libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
    answer != Err(Errno::EACCES)
}

/// Whether a process of this id exists.
pub fn exists(pid: u32) -> bool {
    // SAFETY: signal 0 only asks.
    !matches!(unsafe { syscall!(Sysno::kill, pid, 0) }, Err(Errno::ESRCH))
}

unsafe extern "C" {
    static environ: *mut *mut c_char;
}

/// The value of an environment variable, which is then taken out of the environment: by hand, for some programs (bash)
/// bring a `getenv` and `unsetenv` of their own, which know nothing before `main`. For a constructor: nobody else may use
/// the environment meanwhile.
pub fn take_env(name: &str) -> Option<CString> {
    // SAFETY: `environ` is an array of C strings that ends with a null pointer, or null; nobody else changes it, by this
    // function's contract.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = CStr::from_ptr(*entry).to_bytes();
            if let Some(value) = text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
                let value = CString::new(value).ok();
                // The entries behind it move up, with the null pointer.
                while !(*entry).is_null() {
                    *entry = *entry.add(1);
                    entry = entry.add(1);
                }
                return value;
            }
            entry = entry.add(1);
        }
        None
    }
}

/// Random bits from the kernel; where it gives none (a seccomp filter), bits that are at least not used twice.
pub fn random() -> u64 {
    let mut value = 0u64;
    // SAFETY: eight writable bytes.
    match unsafe { syscall!(Sysno::getrandom, &raw mut value, 8, 0) } {
        Ok(8) => value,
        _ => crate::clock::now().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(pid()),
    }
}

/// Bytes of memory this process may use: physical memory or its address-space limit, whichever is less.
pub fn memory_limit() -> u64 {
    // SAFETY: sysconf only reads.
    let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let physical = (pages.max(0) as u64).saturating_mul(page.max(0) as u64);
    physical.min(limit(libc::RLIMIT_AS))
}

/// A soft resource limit; `u64::MAX` is unlimited.
pub fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    limits(resource).rlim_cur
}

/// The most that a soft resource limit may be; `u64::MAX` is unlimited.
pub fn hard_limit(resource: libc::__rlimit_resource_t) -> u64 {
    limits(resource).rlim_max
}

fn limits(resource: libc::__rlimit_resource_t) -> libc::rlimit {
    let mut limits = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limits` is writable.
    let _ = unsafe { syscall!(Sysno::prlimit64, 0, resource, 0, &raw mut limits) };
    limits
}

/// Raises SIGPIPE in this thread, as a write to a broken connection does.
pub fn raise_sigpipe() {
    // SAFETY: raise takes a number.
    unsafe { libc::raise(libc::SIGPIPE) };
}
