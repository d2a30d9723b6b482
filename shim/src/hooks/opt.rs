//! Options and questions: setsockopt, getsockopt, ioctl.

use super::{answer, kcm};
use crate::fdtable;
use crate::socket::options;
use crate::socket::sock::flag;
use core::ffi::{c_int, c_ulong, c_void};
use libc::socklen_t;
use preloop_sys::call::SIOCATMARK;
use preloop_sys::real;

const AF_SMC: c_int = 43;

/// setsockopt(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    if let Some(sock) = fdtable::kcm(fd) {
        // SAFETY: the program's.
        return unsafe { kcm::setsockopt(&sock, (fd, level, name), value, len) };
    }
    let file = fdtable::get(fd);
    if let Some(Err(code)) = file.as_ref().map(|file| options::before_set(file, level, name)) {
        return answer(Err(code));
    }
    // SAFETY: the program's own call.
    let done = unsafe { real::setsockopt(fd, level, name, value, len) };
    if let Some(file) = file.filter(|_| done == 0 && len as usize >= size_of::<c_int>()) {
        // SAFETY: the kernel accepted `len` bytes there.
        options::after_set(&file, level, name, unsafe { value.cast::<c_int>().read_unaligned() });
        if level == libc::SOL_SOCKET && len as usize >= size_of::<libc::timeval>() {
            // SAFETY: as above.
            options::after_timeout(&file, name, unsafe { value.cast::<i64>().read_unaligned() });
        }
    }
    done
}

/// getsockopt(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    if let Some(sock) = fdtable::kcm(fd) {
        // SAFETY: the program's.
        return unsafe { kcm::getsockopt(&sock, (fd, level, name), value, len) };
    }
    let file = fdtable::get(fd);
    if let Some(Err(code)) = file.as_ref().map(|file| options::before_get(file, level, name)) {
        return answer(Err(code));
    }
    // SAFETY: the program's own call.
    let done = unsafe { real::getsockopt(fd, level, name, value, len) };
    if done == 0 && (level, name) == (libc::SOL_SOCKET, libc::SO_ERROR) {
        // SAFETY: the kernel wrote `*len` bytes there.
        unsafe { kcm::add_posted_error(fd, file.as_deref(), value, *len) };
    }
    let asks_domain = (level, name) == (libc::SOL_SOCKET, libc::SO_DOMAIN);
    // SAFETY: the kernel wrote `*len` bytes there.
    if done == 0 && asks_domain && file.is_some_and(|file| file.sock.has(flag::AF_SMC)) && unsafe { *len } >= 4 {
        // SAFETY: as above.
        unsafe { value.cast::<c_int>().write_unaligned(AF_SMC) };
    }
    done
}

/// sockatmark(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sockatmark(fd: c_int) -> c_int {
    let mut is_there: c_int = 0;
    // SAFETY: the request takes a pointer to an int.
    let done = unsafe { ioctl(fd, SIOCATMARK, (&raw mut is_there).cast()) };
    if done < 0 { done } else { is_there }
}

/// ioctl(2). The third argument is passed on as it came.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // Programs pass the request as an int, too.
    let request32 = request as u32 as c_ulong;
    if let Some(sock) = fdtable::kcm(fd)
        // SAFETY: the program's pointer.
        && let Some(result) = unsafe { kcm::ioctl(&sock, request32, argument) }
    {
        return answer(result);
    }
    let file = fdtable::get(fd);
    if let Some(result) = file.as_ref().and_then(|file| options::int_ioctl(file, fd, request32)) {
        return answer(result.map(|value| {
            // SAFETY: these requests take a pointer to an int.
            unsafe { argument.cast::<c_int>().write(value as c_int) };
            0
        }));
    }
    // SAFETY: FIOASYNC takes a pointer to an int.
    let asks = || unsafe { argument.cast::<c_int>().as_ref() }.is_some_and(|on| *on != 0);
    if request32 == libc::FIOASYNC
        && let Some(Err(code)) = file.as_ref().filter(|_| asks()).map(options::before_signals)
    {
        return answer(Err(code));
    }
    // SAFETY: the program's own call.
    let done = unsafe { real::ioctl(fd, request, argument) };
    if let Some(file) = file.filter(|_| done == 0 && request32 == libc::FIONBIO) {
        // SAFETY: FIONBIO takes a pointer to an int, which the kernel has read.
        options::set_nonblocking(&file, unsafe { *argument.cast::<c_int>() } != 0);
    }
    done
}
