//! syscall(2), the C function: some programs make calls with it that have hooks here (libuv closes with it).

use super::{bpf, child, conn, event, fd, io, limit, open, opt, process, transfer};
use crate::process as this_process;
use core::ffi::{c_int, c_long, c_uint, c_ulong};
use preloop_sys::memory::Memory;
use preloop_sys::{Errno, errno, real};

/// Calls a hook with arguments as registers hold them, cast to what its parameters are.
macro_rules! hook {
    ($module:ident :: $name:ident ( $($arg:ident as $ty:ty),* )) => {
        // SAFETY: the program vouches for the arguments, as it would for those of the function of this name.
        unsafe { $module::$name($($arg as $ty),*) as c_long }
    };
}

/// Whether seccomp(2) with these arguments makes the process filter its system calls. Programs that ask what the kernel knows
/// give no filter.
fn filters(operation: c_ulong, flags: c_ulong, argument: c_ulong) -> bool {
    const STRICT: c_ulong = libc::SECCOMP_SET_MODE_STRICT as c_ulong;
    const FILTER: c_ulong = libc::SECCOMP_SET_MODE_FILTER as c_ulong;
    match operation {
        STRICT => flags == 0 && argument == 0,
        FILTER => argument != 0,
        _ => false,
    }
}

/// syscall(2). Six arguments are taken whatever the call needs: the calling conventions of Linux pass them in registers,
/// or in a place of the caller's that can be read.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_ulong,
    b: c_ulong,
    c: c_ulong,
    d: c_ulong,
    e: c_ulong,
    f: c_ulong,
) -> c_long {
    match number {
        libc::SYS_read => hook!(io::read(a as c_int, b as *mut _, c as usize)),
        libc::SYS_write => hook!(io::write(a as c_int, b as *const _, c as usize)),
        libc::SYS_readv => hook!(io::readv(a as c_int, b as *const _, c as c_int)),
        libc::SYS_writev => hook!(io::writev(a as c_int, b as *const _, c as c_int)),
        libc::SYS_recvfrom => {
            hook!(io::recvfrom(a as c_int, b as *mut _, c as usize, d as c_int, e as *mut _, f as *mut _))
        }
        libc::SYS_sendto => {
            hook!(io::sendto(a as c_int, b as *const _, c as usize, d as c_int, e as *const _, f as c_uint))
        }
        libc::SYS_recvmsg => hook!(io::recvmsg(a as c_int, b as *mut _, c as c_int)),
        libc::SYS_sendmsg => hook!(io::sendmsg(a as c_int, b as *const _, c as c_int)),
        libc::SYS_recvmmsg => hook!(io::recvmmsg(a as c_int, b as *mut _, c as c_uint, d as c_int, e as *mut _)),
        libc::SYS_sendmmsg => hook!(io::sendmmsg(a as c_int, b as *mut _, c as c_uint, d as c_int)),
        libc::SYS_sendfile => hook!(transfer::sendfile(a as c_int, b as c_int, c as *mut _, d as usize)),
        libc::SYS_splice => {
            hook!(transfer::splice(a as c_int, b as *mut _, c as c_int, d as *mut _, e as usize, f as c_uint))
        }
        libc::SYS_socket => hook!(conn::socket(a as c_int, b as c_int, c as c_int)),
        libc::SYS_socketpair => hook!(conn::socketpair(a as c_int, b as c_int, c as c_int, d as *mut _)),
        libc::SYS_bind => hook!(conn::bind(a as c_int, b as *const _, c as c_uint)),
        libc::SYS_getsockname => hook!(conn::getsockname(a as c_int, b as *mut _, c as *mut _)),
        libc::SYS_getpeername => hook!(conn::getpeername(a as c_int, b as *mut _, c as *mut _)),
        libc::SYS_listen => hook!(conn::listen(a as c_int, b as c_int)),
        libc::SYS_connect => hook!(conn::connect(a as c_int, b as *const _, c as c_uint)),
        libc::SYS_accept => hook!(conn::accept(a as c_int, b as *mut _, c as *mut _)),
        libc::SYS_accept4 => hook!(conn::accept4(a as c_int, b as *mut _, c as *mut _, d as c_int)),
        libc::SYS_shutdown => hook!(conn::shutdown(a as c_int, b as c_int)),
        libc::SYS_setsockopt => hook!(opt::setsockopt(a as c_int, b as c_int, c as c_int, d as *const _, e as c_uint)),
        libc::SYS_getsockopt => {
            hook!(opt::getsockopt(a as c_int, b as c_int, c as c_int, d as *mut _, e as *mut _))
        }
        libc::SYS_ioctl => hook!(opt::ioctl(a as c_int, b as c_ulong, c as *mut _)),
        libc::SYS_fcntl => hook!(fd::fcntl(a as c_int, b as c_int, c as *mut _)),
        libc::SYS_openat => hook!(open::openat(a as c_int, b as *const _, c as c_int, d as c_uint)),
        libc::SYS_close => hook!(fd::close(a as c_int)),
        libc::SYS_close_range => hook!(fd::close_range(a as c_uint, b as c_uint, c as c_int)),
        libc::SYS_dup => hook!(fd::dup(a as c_int)),
        libc::SYS_dup3 => hook!(fd::dup3(a as c_int, b as c_int, c as c_int)),
        libc::SYS_bpf => hook!(bpf::bpf(a as c_int, b as usize, c as c_uint)),
        libc::SYS_epoll_create1 => hook!(event::epoll_create1(a as c_int)),
        libc::SYS_epoll_ctl => hook!(event::epoll_ctl(a as c_int, b as c_int, c as c_int, d as *mut _)),
        libc::SYS_epoll_pwait => {
            hook!(event::epoll_pwait(a as c_int, b as *mut _, c as c_int, d as c_int, e as *const _))
        }
        libc::SYS_epoll_pwait2 => {
            hook!(event::epoll_pwait2(a as c_int, b as *mut _, c as c_int, d as *const _, e as *const _))
        }
        libc::SYS_ppoll => hook!(event::ppoll(a as *mut _, b as libc::nfds_t, c as *const _, d as *const _)),
        libc::SYS_setrlimit => hook!(limit::setrlimit(a as c_uint, b as *const _)),
        libc::SYS_prlimit64 => hook!(limit::prlimit(a as c_int, b as c_uint, c as *const _, d as *mut _)),
        libc::SYS_prctl => hook!(process::prctl(a as c_int, b as c_ulong, c as c_ulong, d as c_ulong, e as c_ulong)),
        libc::SYS_seccomp if filters(a, b, c) => {
            // SAFETY: the program's own call.
            this_process::filters(|| unsafe { real::syscall(number, a, b, c, d, e, f) })
        }
        libc::SYS_clone if process::is_fork(a, b) => {
            // SAFETY: the program's own call.
            process::forked(|| unsafe { real::syscall(number, a, b, c, d, e, f) as c_int }).into()
        }
        libc::SYS_clone => {
            // SAFETY: the program's own call.
            child::cloned(a, || unsafe { real::syscall(number, a, b, c, d, e, f) })
        }
        libc::SYS_clone3 => {
            // SAFETY: the arguments are read as the kernel reads them.
            let memory = unsafe { Memory::of_this_call() };
            let mut flags = [0; 8];
            // Where they cannot be read, no child is made.
            let _ = memory.read(a, &mut flags);
            // SAFETY: the program's own call.
            child::cloned(u64::from_ne_bytes(flags), || unsafe { real::syscall(number, a, b, c, d, e, f) })
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork | libc::SYS_vfork => hook!(process::fork()),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_dup2 => hook!(fd::dup2(a as c_int, b as c_int)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => hook!(open::open(a as *const _, b as c_int, c as c_uint)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => hook!(event::poll(a as *mut _, b as libc::nfds_t, c as c_int)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_create => hook!(event::epoll_create(a as c_int)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => hook!(event::epoll_wait(a as c_int, b as *mut _, c as c_int, d as c_int)),
        _ => {
            if number == libc::SYS_io_uring_setup && !this_process::lets_io_uring() {
                errno::set(Errno::ENOSYS);
                return -1;
            }
            // SAFETY: the program's own call.
            unsafe { real::syscall(number, a, b, c, d, e, f) }
        }
    }
}
