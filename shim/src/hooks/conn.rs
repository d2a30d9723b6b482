//! Connections: socket, listen, connect, accept, shutdown.

use super::answer;
use super::kcm::check_address;
use crate::fdtable;
use crate::process;
use crate::socket::birth;
use crate::socket::close::{self, Shutdown};
use crate::socket::kcm::{csock, lower};
use crate::socket::spare;
use core::ffi::c_int;
use libc::{sockaddr, socklen_t};
use preloop_sys::addr::RawAddr;
use preloop_sys::{Errno, errno, real};
use preloop_uapi::kcm::AF_KCM;

const AF_SMC: c_int = 43;
const IPPROTO_SMC: c_int = 256;
/// Protocol of an AF_SMC socket that speaks IPv6 (`SMCPROTO_SMC6`).
const SMCPROTO_SMC6: c_int = 1;

/// A call that makes a descriptor. Where the program has none left, the library gives back what it can do without.
fn with_room(kernel: impl Fn() -> c_int) -> c_int {
    let done = kernel();
    if done >= 0 || errno::get() != Errno::EMFILE {
        return done;
    }
    if spare::release() {
        return kernel();
    }
    answer(Err(Errno::EMFILE))
}

/// socket(2). On a kernel without SMC, AF_SMC and IPPROTO_SMC give TCP where the library serves SMC, and that treats it as
/// every other.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    if domain == AF_KCM && process::settings().kcm {
        return answer(csock::make(kind, protocol).map(|fd| fd as usize));
    }
    let stream = kind & 0xf == libc::SOCK_STREAM;
    // SAFETY: plain numbers.
    let mut fd = with_room(|| unsafe { real::socket(domain, kind, protocol) });
    let mut smc = false;
    let missing = fd < 0 && stream && process::settings().smc;
    if missing && domain == AF_SMC && matches!(protocol, 0 | SMCPROTO_SMC6) {
        let family = if protocol == SMCPROTO_SMC6 { libc::AF_INET6 } else { libc::AF_INET };
        // SAFETY: as above.
        fd = unsafe { real::socket(family, kind, 0) };
        smc = true;
    } else if missing && protocol == IPPROTO_SMC && matches!(domain, libc::AF_INET | libc::AF_INET6) {
        // SAFETY: as above.
        fd = unsafe { real::socket(domain, kind, libc::IPPROTO_TCP) };
    }
    let tcp =
        matches!(domain, libc::AF_INET | libc::AF_INET6) && matches!(protocol, 0 | libc::IPPROTO_TCP | IPPROTO_SMC);
    if fd >= 0 && stream && (tcp || smc) {
        birth::made(fd, kind, smc);
    } else if fd >= 0 {
        birth::given_out(fd);
    }
    fd
}

/// socketpair(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int {
    if domain == AF_KCM && process::settings().kcm {
        return answer(Err(csock::pair_error(kind, protocol)));
    }
    // SAFETY: the program's own call.
    unsafe { real::socketpair(domain, kind, protocol, pair) }
}

/// What a call with an address answers on a KCM socket: the address is read before the socket refuses. `None` when it is no
/// KCM socket.
fn refuses_address(fd: c_int, addr: *const sockaddr, len: socklen_t) -> Option<Errno> {
    fdtable::kcm(fd)?;
    Some(match check_address(addr, len) {
        // What sendto(2) takes for no address.
        Ok(()) if addr.is_null() && len > 0 => Errno::EFAULT,
        Ok(()) => Errno::EOPNOTSUPP,
        Err(error) => error,
    })
}

/// bind(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bind(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    match refuses_address(fd, addr, len) {
        Some(error) => answer(Err(error)),
        // SAFETY: the program's own call.
        None => unsafe { real::bind(fd, addr, len) },
    }
}

/// getsockname(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockname(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    if fdtable::kcm(fd).is_some() {
        return answer(Err(Errno::EOPNOTSUPP));
    }
    // SAFETY: the program's own call.
    unsafe { real::getsockname(fd, addr, len) }
}

/// getpeername(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getpeername(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    if fdtable::kcm(fd).is_some() {
        return answer(Err(Errno::EOPNOTSUPP));
    }
    // SAFETY: the program's own call.
    unsafe { real::getpeername(fd, addr, len) }
}

/// listen(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn listen(fd: c_int, backlog: c_int) -> c_int {
    if fdtable::kcm(fd).is_some() {
        return answer(Err(Errno::EOPNOTSUPP));
    }
    // SAFETY: plain numbers.
    let done = unsafe { real::listen(fd, backlog) };
    if done == 0 {
        birth::listens(fd);
    }
    done
}

/// connect(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    if let Some(error) = refuses_address(fd, addr, len) {
        return answer(Err(error));
    }
    let Some(file) = fdtable::get(fd) else {
        // SAFETY: the program's own call.
        return unsafe { real::connect(fd, addr, len) };
    };
    // SAFETY: the program vouches for its address.
    let to = unsafe { RawAddr::from_user(addr, len) };
    if i32::from(to.storage.ss_family) == libc::AF_UNSPEC && !birth::disconnects(&file) {
        return answer(Err(Errno::EOPNOTSUPP));
    }
    // SAFETY: the program's own call.
    let done = unsafe { real::connect(fd, addr, len) };
    let code = errno::get();
    if done == 0 || matches!(code, Errno::EINPROGRESS | Errno::EINTR) {
        birth::connects(&file, fd, &to);
        errno::set(code);
    }
    done
}

fn accept_any(
    fd: c_int,
    addr: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
    kernel: impl Fn(*mut sockaddr, *mut socklen_t) -> c_int,
) -> c_int {
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) == 0 && fdtable::kcm(fd).is_some() {
        return answer(Err(Errno::EOPNOTSUPP));
    }
    if fdtable::get(fd).is_none() {
        return kernel(addr, len);
    }
    let mut from = RawAddr::new();
    let (storage, room) = (&raw mut from.storage, &raw mut from.len);
    let new = with_room(|| kernel(storage.cast(), room));
    if new >= 0 {
        // SAFETY: the program vouches for its address buffer.
        unsafe { from.to_user(addr, len) };
        birth::accepted(fd, new, &from, flags);
    }
    new
}

/// accept(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: the program's own call, or one with the library's address buffer.
    accept_any(fd, addr, len, 0, |addr, len| unsafe { real::accept(fd, addr, len) })
}

/// accept4(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
    // SAFETY: as in `accept`.
    accept_any(fd, addr, len, flags, |addr, len| unsafe { real::accept4(fd, addr, len, flags) })
}

/// shutdown(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    if fdtable::kcm(fd).is_some() {
        return answer(Err(Errno::EOPNOTSUPP));
    }
    let file = fdtable::get(fd);
    let done = match file.as_ref().map(|file| close::shutdown(file, fd, how)) {
        Some(Ok(Shutdown::Done)) => 0,
        Some(Err(code)) => return answer(Err(code)),
        // SAFETY: plain numbers.
        Some(Ok(Shutdown::Kernel)) | None => unsafe { real::shutdown(fd, how) },
    };
    if let Some(file) = file.filter(|file| done == 0 && file.is_attached()) {
        lower::shut(&file);
    }
    done
}
