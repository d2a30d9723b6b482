//! read(2), recv(2) and their families.

use super::headers::Headers;
use super::{MANY, has_parts, may_have, no_wait, part, parts};
use crate::fdtable::{self, Known};
use crate::hooks::kcm::put_address;
use crate::process;
use crate::socket::calls::Answer;
use crate::socket::kcm::csock::Sock;
use crate::socket::kcm::receive::{self as kcm, Slot, Slots};
use crate::socket::kcm::share;
use crate::socket::passing::open;
use crate::socket::rx;
use core::ffi::{c_int, c_uint, c_void};
use libc::{iovec, mmsghdr, msghdr, off64_t, size_t, sockaddr, socklen_t, ssize_t, timespec};
use preloop_kcm::receive::Received;
use preloop_shm::copy::Buffers;
use preloop_sys::{Errno, clock, real, rights};

/// What a call received that failed.
const NOTHING: Received = Received { len: 0, flags: 0, connection: 0 };

/// What a call received, beside its bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Beside {
    flags: c_int,
    /// The connection that it came from, where the program wants to know; 0 for none.
    connection: u64,
}

impl Beside {
    pub(super) fn of(message: &Received) -> Self {
        Self { flags: message.flags, connection: message.connection }
    }
}

/// Receives from whatever socket it is. Flags are those of a message.
///
/// # Safety
/// The parts must be writable.
unsafe fn receive(
    socket: Known,
    fd: c_int,
    parts: &[iovec],
    flags: c_int,
    mut kernel: impl FnMut() -> isize,
) -> (Answer, Beside) {
    // SAFETY: the caller's.
    let room = unsafe { Buffers::new(parts) };
    match socket {
        Known::Tcp(file) => (rx::receive(&file, fd, &room, flags, &mut kernel), Beside::default()),
        Known::Kcm(sock) => {
            let mut slot = Slot::new(room);
            let done = kcm::receive(sock, &mut slot, flags);
            let message = slot.received.ok().flatten().unwrap_or(NOTHING);
            (Answer::Ours(done.map(|_| message.len)), Beside::of(&message))
        }
    }
}

/// read(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::read(fd, buf, len) };
    match fdtable::socket(fd).filter(|_| len > 0) {
        None => kernel(),
        // SAFETY: the program vouches for its buffer.
        Some(socket) => unsafe { receive(socket, fd, &part(buf, len), 0, kernel) }.0.into_c(),
    }
}

/// The fortified read of glibc.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __read_chk(fd: c_int, buf: *mut c_void, len: size_t, room: size_t) -> ssize_t {
    if len > room {
        std::process::abort();
    }
    // SAFETY: the program's.
    unsafe { read(fd, buf, len) }
}

/// readv(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::readv(fd, iov, count) };
    match fdtable::socket(fd).filter(|_| may_have(count)) {
        None => kernel(),
        // SAFETY: the program vouches for its buffers.
        Some(socket) => unsafe { receive_vector(socket, fd, parts(iov, count as usize), 0, kernel) },
    }
}

/// Of a vector without room nothing is read, as of a buffer without room: the kernel has no message either.
///
/// # Safety
/// The parts must be writable.
unsafe fn receive_vector(
    socket: Known,
    fd: c_int,
    parts: &[iovec],
    flags: c_int,
    mut kernel: impl FnMut() -> isize,
) -> ssize_t {
    if matches!(socket, Known::Kcm(_)) && parts.iter().all(|part| part.iov_len == 0) {
        return kernel();
    }
    // SAFETY: the caller's.
    unsafe { receive(socket, fd, parts, flags, kernel) }.0.into_c()
}

/// preadv2(2): at the position -1 it reads a socket as readv does.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn preadv2(fd: c_int, iov: *const iovec, count: c_int, offset: off64_t, flags: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::preadv2(fd, iov, count, offset, flags) };
    match fdtable::socket(fd).filter(|_| offset == -1 && may_have(count)) {
        None => kernel(),
        // SAFETY: the program vouches for its buffers.
        Some(socket) => unsafe { receive_vector(socket, fd, parts(iov, count as usize), no_wait(flags), kernel) },
    }
}

/// preadv64v2, the name that programs with 64-bit offsets use.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn preadv64v2(
    fd: c_int,
    iov: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the program's.
    unsafe { preadv2(fd, iov, count, offset, flags) }
}

/// recv(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recv(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::recv(fd, buf, len, flags) };
    match fdtable::socket(fd) {
        None => kernel(),
        // SAFETY: the program vouches for its buffer.
        Some(socket) => unsafe { receive(socket, fd, &part(buf, len), flags, kernel) }.0.into_c(),
    }
}

/// The fortified recv of glibc.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recv_chk(fd: c_int, buf: *mut c_void, len: size_t, room: size_t, flags: c_int) -> ssize_t {
    if len > room {
        std::process::abort();
    }
    // SAFETY: the program's.
    unsafe { recv(fd, buf, len, flags) }
}

/// recvfrom(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    flags: c_int,
    addr: *mut sockaddr,
    alen: *mut socklen_t,
) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::recvfrom(fd, buf, len, flags, addr, alen) };
    let Some(socket) = fdtable::socket(fd) else { return kernel() };
    // SAFETY: the program vouches for its buffer.
    let (answer, got) = unsafe { receive(socket, fd, &part(buf, len), flags, kernel) };
    if matches!(answer, Answer::Ours(Ok(_))) && !addr.is_null() && !alen.is_null() {
        // SAFETY: the program's pointers.
        match unsafe { put_address(got.connection, addr.cast(), *alen) } {
            // SAFETY: the program's pointer.
            Ok(len) => unsafe { *alen = len },
            Err(error) => return Answer::Ours(Err(error)).into_c(),
        }
    }
    answer.into_c()
}

/// The fortified recvfrom of glibc.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    room: size_t,
    flags: c_int,
    addr: *mut sockaddr,
    alen: *mut socklen_t,
) -> ssize_t {
    if len > room {
        std::process::abort();
    }
    // SAFETY: the program's.
    unsafe { recvfrom(fd, buf, len, flags, addr, alen) }
}

/// recvmsg(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::recvmsg(fd, msg, flags) };
    // SAFETY: the program's pointer.
    let Some(socket) = fdtable::socket(fd).filter(|_| unsafe { has_parts(msg) }) else {
        let got = kernel();
        if got >= 0 {
            // SAFETY: the kernel has filled it.
            unsafe { take_passed(msg, flags) };
        }
        return got;
    };
    // SAFETY: the program vouches for the header and what it points to.
    let (answer, got) = unsafe { receive(socket, fd, parts((*msg).msg_iov, (*msg).msg_iovlen), flags, kernel) };
    if matches!(answer, Answer::Ours(Ok(_)))
        // SAFETY: as above.
        && let Err(error) = unsafe { received(&mut *msg, got, flags) }
    {
        return Answer::Ours(Err(error)).into_c();
    }
    answer.into_c()
}

/// Connections and KCM sockets that were passed with a message (SCM_RIGHTS) are served from now on.
///
/// # Safety
/// The header must be as the kernel left it.
unsafe fn take_passed(msg: *const msghdr, flags: c_int) {
    // SAFETY: the caller's.
    for fd in unsafe { rights::passed(msg) } {
        open::came(fd, flags & libc::MSG_PEEK != 0);
        if process::settings().kcm {
            share::came(fd);
        }
    }
}

/// What a header says of a message: a stream has no sender, no ancillary data and no message ends; a KCM socket has ends.
///
/// # Errors
/// EFAULT for an address outside of memory.
///
/// # Safety
/// The program vouches for the address.
#[inline]
pub(super) unsafe fn received(msg: &mut msghdr, got: Beside, flags: c_int) -> Result<(), Errno> {
    msg.msg_flags = got.flags | flags & libc::MSG_CMSG_CLOEXEC;
    msg.msg_controllen = 0;
    let room = core::mem::replace(&mut msg.msg_namelen, 0);
    if got.connection != 0 && !msg.msg_name.is_null() {
        // SAFETY: the caller's.
        msg.msg_namelen = unsafe { put_address(got.connection, msg.msg_name, room) }?;
    }
    Ok(())
}

/// recvmmsg(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmmsg(
    fd: c_int,
    msgs: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    // SAFETY: the program's pointer.
    let wrong_time =
        unsafe { timeout.as_ref() }.is_some_and(|t| t.tv_sec < 0 || !(0..1_000_000_000).contains(&t.tv_nsec));
    let Some(socket) = fdtable::socket(fd).filter(|_| !msgs.is_null() && !wrong_time) else {
        // SAFETY: the program's.
        let got = unsafe { real::recvmmsg(fd, msgs, count, flags, timeout) };
        for index in 0..got.max(0) as usize {
            // SAFETY: the kernel has filled so many.
            unsafe { take_passed(&raw const (*msgs.add(index)).msg_hdr, flags) };
        }
        return got;
    };
    // SAFETY: the program's pointer.
    let limit = unsafe { timeout.as_ref() }.map(|t| {
        let length = (t.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as u64);
        clock::now().saturating_add(length)
    });
    let mut done = 0;
    let mut flags = flags;
    let mut first = Some(socket);
    while done < count {
        // Looked up for each call: none may hold it while another one sleeps.
        let Some(socket) = first.take().or_else(|| fdtable::socket(fd)) else { break };
        // SAFETY: the program vouches for `count` headers.
        let (got, failed) = unsafe { receive_some(socket, fd, msgs.add(done as usize), count - done, flags) };
        if got < 0 {
            return if done > 0 { done as c_int } else { -1 };
        }
        done += got as c_uint;
        // At the end of the stream the kernel fills the rest of the messages with nothing, too.
        if failed || limit.is_some_and(|limit| clock::now() >= limit) {
            break;
        }
        if flags & libc::MSG_WAITFORONE != 0 {
            flags |= libc::MSG_DONTWAIT;
        }
    }
    done as c_int
}

/// One or more of the messages that recvmmsg(2) asks for. Answers how many, or -1, and whether the one behind them failed: its
/// message is lost.
///
/// # Safety
/// `msgs` must be valid for `count` headers, and they for a receive.
unsafe fn receive_some(socket: Known, fd: c_int, msgs: *mut mmsghdr, count: c_uint, flags: c_int) -> (isize, bool) {
    let flags = flags & !libc::MSG_WAITFORONE;
    if let Known::Kcm(sock) = socket {
        let count = (count as usize).min(if flags & libc::MSG_PEEK != 0 { 1 } else { MANY });
        // SAFETY: the caller's.
        let (answer, failed) = unsafe { receive_batch(sock, core::slice::from_raw_parts_mut(msgs, count), flags) };
        return (answer.into_c(), failed);
    }
    // SAFETY: the caller's.
    unsafe {
        let got = recvmsg(fd, &raw mut (*msgs).msg_hdr, flags);
        if got < 0 {
            return (-1, true);
        }
        (*msgs).msg_len = got as c_uint;
    }
    (1, false)
}

/// # Safety
/// The headers must be valid for a receive.
unsafe fn receive_batch(sock: Sock, msgs: &mut [mmsghdr], flags: c_int) -> (Answer, bool) {
    // SAFETY: the caller's.
    let mut headers = unsafe { Headers::new(msgs, flags) };
    if let Some(error) = headers.refused() {
        return (Answer::Ours(Err(error)), true);
    }
    let received = kcm::receive(sock, &mut headers, flags);
    (Answer::Ours(received), headers.error().is_some())
}
