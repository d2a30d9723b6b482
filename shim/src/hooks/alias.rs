//! Other names under which the C library has functions that are hooked here. Programs that were built against them, and
//! libraries that come with their own wrappers, call these.

use super::{child, conn, event, fd, io, limit, opt, process};
use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use libc::{FILE, fd_set, nfds_t, pid_t, pollfd, rlimit, size_t, sockaddr, socklen_t, ssize_t, timeval};

/// A name, its signature, and the hook it stands for.
macro_rules! aliases {
    ($( $name:ident ( $($arg:ident : $ty:ty),* ) -> $ret:ty = $module:ident :: $hook:ident; )*) => { $(
        #[doc = concat!("Another name of `", stringify!($hook), "`.")]
        ///
        /// # Safety
        /// As in C.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: the program's.
            unsafe { $module::$hook($($arg),*) }
        }
    )* };
}

aliases! {
    __read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t = io::read;
    __write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t = io::write;
    __send(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t = io::send_one;
    __connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int = conn::connect;
    __close(fd: c_int) -> c_int = fd::close;
    __dup2(fd: c_int, to: c_int) -> c_int = fd::dup2;
    __fcntl(fd: c_int, command: c_int, argument: *mut c_void) -> c_int = fd::fcntl;
    __ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int = opt::ioctl;
    __poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int = event::poll;
    __select(nfds: c_int, r: *mut fd_set, w: *mut fd_set, e: *mut fd_set, timeout: *mut timeval) -> c_int = event::select;
    __fork() -> pid_t = process::fork;
    __libc_fork() -> pid_t = process::fork;
    __vfork() -> pid_t = process::vfork;
    __clone(start: Option<child::Start>, stack: *mut c_void, flags: c_int, argument: *mut c_void, parent: *mut pid_t, tls: *mut c_void, child: *mut pid_t) -> c_int = child::clone;
    _IO_popen(command: *const c_char, mode: *const c_char) -> *mut FILE = child::popen;
    setrlimit64(resource: c_uint, wanted: *const rlimit) -> c_int = limit::setrlimit;
    prlimit64(pid: pid_t, resource: c_uint, wanted: *const rlimit, old: *mut rlimit) -> c_int = limit::prlimit;
}
