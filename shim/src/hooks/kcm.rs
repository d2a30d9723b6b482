//! Options and requests of KCM sockets, for the hooks of setsockopt, getsockopt and ioctl.

use super::answer;
use crate::socket::file::OpenFile;
use crate::socket::kcm::csock::{self, Sock};
use crate::socket::kcm::{lower, options, psock, registry};
use core::ffi::{c_int, c_ulong, c_void};
use libc::{SOL_SOCKET, sockaddr, socklen_t};
use preloop_sys::probe::{self, Access};
use preloop_sys::{Errno, real};
use preloop_uapi::kcm::{
    AF_KCM, Address, Attach, Clone, SIOCKCMATTACH, SIOCKCMCLONE, SIOCKCMUNATTACH, SOL_KCM, Unattach,
};

/// Requests that other sockets know, and KCM's do not (`SIOCATMARK`, which libc names for few machines).
const UNKNOWN: [c_ulong; 3] = [libc::FIONREAD, libc::TIOCOUTQ, 0x8905];

/// The longest address that the kernel takes (`struct __kernel_sockaddr_storage`).
const ADDRESS_MAX: socklen_t = 128;

/// Checks an address that nobody is going to use, as the kernel does, which reads it all the same. Null is none.
pub fn check_address(addr: *const sockaddr, len: socklen_t) -> Result<(), Errno> {
    if addr.is_null() {
        return Ok(());
    }
    if len > ADDRESS_MAX {
        return Err(Errno::EINVAL);
    }
    if probe::may(Access::Read, addr.cast(), len as usize) { Ok(()) } else { Err(Errno::EFAULT) }
}

/// The connection that an address names, 0 for any: for sockets that have addresses (KCM_ADDRESSES).
///
/// # Errors
/// EINVAL for an address that is not KCM's; EFAULT.
///
/// # Safety
/// Nobody may write to the `len` bytes meanwhile, if they are in memory.
pub unsafe fn destination(addr: *const sockaddr, len: socklen_t) -> Result<u64, Errno> {
    if addr.is_null() || len == 0 {
        return Ok(0);
    }
    if (len as usize) < size_of::<Address>() {
        return Err(Errno::EINVAL);
    }
    if !probe::may(Access::Read, addr.cast(), size_of::<Address>()) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: they may be read; and the caller's.
    let address = unsafe { addr.cast::<Address>().read_unaligned() };
    if i32::from(address.family) == AF_KCM { Ok(address.cookie) } else { Err(Errno::EINVAL) }
}

/// Says which connection a message came from, as the kernel says an address: cut to the room that there is, with its whole
/// length, which is the answer. A connection names no sender otherwise: 0 is none, of length 0.
///
/// # Errors
/// EFAULT; EINVAL for a negative room.
///
/// # Safety
/// `room` bytes must be the caller's, if they are in memory.
pub unsafe fn put_address(connection: u64, addr: *mut c_void, room: socklen_t) -> Result<socklen_t, Errno> {
    if connection == 0 {
        return Ok(0);
    }
    if room > i32::MAX as socklen_t {
        return Err(Errno::EINVAL);
    }
    let address = Address { family: AF_KCM as u16, _zero: [0; 3], cookie: connection };
    let size = size_of::<Address>();
    let len = size.min(room as usize);
    if !probe::may(Access::Write, addr.cast(), len) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: they may be written to; and the caller's.
    unsafe { core::ptr::copy_nonoverlapping((&raw const address).cast(), addr, len) };
    Ok(size as socklen_t)
}

/// setsockopt(2) on a KCM socket.
///
/// # Safety
/// As in C.
pub unsafe fn setsockopt(
    sock: &Sock,
    (fd, level, name): (c_int, c_int, c_int),
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    let negative = len > i32::MAX as socklen_t;
    if level == SOL_KCM {
        return answer(if negative || (len as usize) < size_of::<c_int>() {
            Err(Errno::EINVAL)
        } else if value.is_null() {
            Err(Errno::EFAULT)
        } else {
            // SAFETY: the program vouches for `len` bytes.
            options::set(sock, name, unsafe { value.cast::<c_int>().read_unaligned() })
        });
    }
    if level != SOL_SOCKET {
        return answer(Err(if negative { Errno::EINVAL } else { Errno::ENOPROTOOPT }));
    }
    // SAFETY: the program's own call.
    let done = unsafe { real::setsockopt(fd, level, name, value, len) };
    if done == 0 {
        options::after_set(sock, name);
    }
    done
}

/// getsockopt(2) on a KCM socket.
///
/// # Safety
/// As in C.
pub unsafe fn getsockopt(
    sock: &Sock,
    (fd, level, name): (c_int, c_int, c_int),
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    let known = match options::get(sock, level, name) {
        Err(error) => return answer(Err(error)),
        // SAFETY: the program's own call.
        Ok(options::Option::Kernel) => return unsafe { real::getsockopt(fd, level, name, value, len) },
        Ok(options::Option::Int(known)) => known,
    };
    if len.is_null() {
        return answer(Err(Errno::EFAULT));
    }
    // SAFETY: the program's pointer.
    let room = unsafe { *len };
    if room > i32::MAX as socklen_t {
        return answer(Err(Errno::EINVAL));
    }
    let bytes = known.to_ne_bytes();
    let count = bytes.len().min(room as usize);
    if value.is_null() && count > 0 {
        return answer(Err(Errno::EFAULT));
    }
    // SAFETY: the program vouches for `*len` bytes.
    unsafe {
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), value.cast(), count);
        *len = count as socklen_t;
    }
    0
}

/// ioctl(2) on a KCM socket; `None` for requests that any socket answers.
///
/// # Safety
/// As in C.
pub unsafe fn ioctl(sock: &Sock, request: c_ulong, argument: *mut c_void) -> Option<Result<usize, Errno>> {
    let is_null = argument.is_null();
    // SAFETY: the program vouches for what the request takes.
    Some(unsafe {
        match request {
            SIOCKCMATTACH | SIOCKCMUNATTACH if is_null => Err(Errno::EFAULT),
            SIOCKCMATTACH => psock::attach(sock, argument.cast::<Attach>().read_unaligned()),
            SIOCKCMUNATTACH => psock::unattach(sock, argument.cast::<Unattach>().read_unaligned()),
            SIOCKCMCLONE => csock::clone(sock).and_then(|fd| {
                if is_null {
                    super::fd::close(fd);
                    return Err(Errno::EFAULT);
                }
                argument.cast::<Clone>().write_unaligned(Clone { fd });
                Ok(0)
            }),
            request if UNKNOWN.contains(&request) => Err(Errno::ENOTTY),
            _ => return None,
        }
    })
}

/// SO_ERROR of a TCP socket that is or was attached to a mux: KCM may have posted one over the kernel's. `file` is the
/// socket, if this process knows it.
///
/// # Safety
/// The kernel has written its error there, `len` bytes of an `int`.
pub unsafe fn add_posted_error(fd: c_int, file: Option<&OpenFile>, value: *mut c_void, len: socklen_t) {
    let error = match file {
        Some(file) if file.concerns_kcm() => lower::take_error(file),
        // One that a process attached which shares a mux with this one.
        _ if registry::any() => psock::take_error(fd),
        _ => None,
    };
    if let Some(error) = error {
        let bytes = error.into_raw().to_ne_bytes();
        // SAFETY: the caller's.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), value.cast(), bytes.len().min(len as usize)) };
    }
}
