//! Data: read, write and their families.

use crate::fdtable;
use crate::socket::calls::Answer;
use crate::socket::file::OpenFile;
use crate::socket::{close, rx, tx};
use core::ffi::{c_int, c_uint, c_void};
use libc::{iovec, mmsghdr, msghdr, off64_t, size_t, sockaddr, socklen_t, ssize_t, timespec};
use preloop_shm::copy::Buffers;
use preloop_shm::counted::Counted;
use preloop_sys::{Errno, clock, real, unix};

fn part(buf: *const c_void, len: size_t) -> [iovec; 1] {
    [iovec { iov_base: buf.cast_mut(), iov_len: len }]
}

/// # Safety
/// `iov` must be valid for `count` entries.
unsafe fn parts<'a>(iov: *const iovec, count: usize) -> &'a [iovec] {
    if iov.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { core::slice::from_raw_parts(iov, count) }
}

/// Whether a message has as many parts as the kernel takes; it refuses every other.
///
/// # Safety
/// `msg` must be null or valid.
unsafe fn has_parts(msg: *const msghdr) -> bool {
    // SAFETY: the caller's.
    unsafe { msg.as_ref() }.is_some_and(|msg| msg.msg_iovlen <= 1024)
}

/// # Safety
/// The parts must be writable.
unsafe fn receive(
    file: Counted<OpenFile>,
    fd: c_int,
    parts: &[iovec],
    flags: c_int,
    mut kernel: impl FnMut() -> isize,
) -> Answer {
    // SAFETY: the caller's.
    let room = unsafe { Buffers::new(parts) };
    rx::receive(&file, fd, &room, flags, &mut kernel)
}

/// # Safety
/// The parts must be readable.
unsafe fn send(
    file: Counted<OpenFile>,
    fd: c_int,
    parts: &[iovec],
    flags: c_int,
    mut kernel: impl FnMut() -> isize,
) -> Answer {
    // SAFETY: the caller's.
    let data = unsafe { Buffers::new(parts) };
    tx::send(&file, fd, &mut &data, flags, &mut kernel)
}

/// read(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::read(fd, buf, len) };
    match fdtable::get(fd).filter(|_| len > 0) {
        None => kernel(),
        // SAFETY: the program vouches for its buffer.
        Some(file) => unsafe { receive(file, fd, &part(buf, len), 0, kernel) }.into_c(),
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
    match fdtable::get(fd).filter(|_| (0..=1024).contains(&count)) {
        None => kernel(),
        // SAFETY: the program vouches for its buffers.
        Some(file) => unsafe { receive(file, fd, parts(iov, count as usize), 0, kernel) }.into_c(),
    }
}

/// preadv2(2): at the position -1 it reads a socket as readv does.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn preadv2(fd: c_int, iov: *const iovec, count: c_int, offset: off64_t, flags: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::preadv2(fd, iov, count, offset, flags) };
    match fdtable::get(fd).filter(|_| offset == -1 && (0..=1024).contains(&count)) {
        None => kernel(),
        // SAFETY: the program vouches for its buffers.
        Some(file) => unsafe { receive(file, fd, parts(iov, count as usize), no_wait(flags), kernel) }.into_c(),
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

/// A socket's flag for RWF_NOWAIT.
fn no_wait(flags: c_int) -> c_int {
    if flags & libc::RWF_NOWAIT != 0 { libc::MSG_DONTWAIT } else { 0 }
}

/// recv(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recv(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::recv(fd, buf, len, flags) };
    match fdtable::get(fd) {
        None => kernel(),
        // SAFETY: the program vouches for its buffer.
        Some(file) => unsafe { receive(file, fd, &part(buf, len), flags, kernel) }.into_c(),
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
    let Some(file) = fdtable::get(fd) else { return kernel() };
    // SAFETY: the program vouches for its buffer.
    let answer = unsafe { receive(file, fd, &part(buf, len), flags, kernel) };
    if matches!(answer, Answer::Ours(Ok(_))) && !addr.is_null() && !alen.is_null() {
        // A connection names no sender: the kernel says so with a length of 0.
        // SAFETY: the program's pointer.
        unsafe { *alen = 0 };
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
    let Some(file) = fdtable::get(fd).filter(|_| unsafe { has_parts(msg) }) else { return kernel() };
    // SAFETY: the program vouches for the header and what it points to.
    let answer = unsafe { receive(file, fd, parts((*msg).msg_iov, (*msg).msg_iovlen), flags, kernel) };
    if matches!(answer, Answer::Ours(Ok(_))) {
        // SAFETY: as above. A stream has no sender, no ancillary data and no message ends.
        unsafe {
            ((*msg).msg_namelen, (*msg).msg_controllen) = (0, 0);
            (*msg).msg_flags = flags & libc::MSG_CMSG_CLOEXEC;
        }
    }
    answer.into_c()
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
    if fdtable::get(fd).is_none() || msgs.is_null() || wrong_time {
        // SAFETY: the program's.
        return unsafe { real::recvmmsg(fd, msgs, count, flags, timeout) };
    }
    // SAFETY: the program's pointer.
    let limit = unsafe { timeout.as_ref() }
        .map(|t| clock::now().saturating_add(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64));
    let mut done = 0;
    let mut flags = flags;
    while done < count {
        // SAFETY: the program vouches for `count` headers.
        let got = unsafe { recvmsg(fd, &raw mut (*msgs.add(done as usize)).msg_hdr, flags & !libc::MSG_WAITFORONE) };
        if got < 0 {
            return if done > 0 { done as c_int } else { -1 };
        }
        // SAFETY: as above.
        unsafe { (*msgs.add(done as usize)).msg_len = got as c_uint };
        done += 1;
        // At the end of the stream the kernel fills the rest of the messages with nothing, too.
        if limit.is_some_and(|limit| clock::now() >= limit) {
            break;
        }
        if flags & libc::MSG_WAITFORONE != 0 {
            flags |= libc::MSG_DONTWAIT;
        }
    }
    done as c_int
}

/// write(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::write(fd, buf, len) };
    match fdtable::get(fd) {
        None => kernel(),
        // SAFETY: the program vouches for its buffer.
        Some(file) => unsafe { send(file, fd, &part(buf, len), 0, kernel) }.into_c(),
    }
}

/// writev(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::writev(fd, iov, count) };
    match fdtable::get(fd).filter(|_| (0..=1024).contains(&count)) {
        None => kernel(),
        // SAFETY: the program vouches for its buffers.
        Some(file) => unsafe { send(file, fd, parts(iov, count as usize), 0, kernel) }.into_c(),
    }
}

/// pwritev2(2): at the position -1 it writes to a socket as writev does.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev2(
    fd: c_int,
    iov: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::pwritev2(fd, iov, count, offset, flags) };
    match fdtable::get(fd).filter(|_| offset == -1 && (0..=1024).contains(&count)) {
        None => kernel(),
        // SAFETY: the program vouches for its buffers.
        Some(file) => unsafe { send(file, fd, parts(iov, count as usize), no_wait(flags), kernel) }.into_c(),
    }
}

/// pwritev64v2, the name that programs with 64-bit offsets use.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64v2(
    fd: c_int,
    iov: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the program's.
    unsafe { pwritev2(fd, iov, count, offset, flags) }
}

/// send(2).
///
/// # Safety
/// As in C.
#[unsafe(export_name = "send")]
pub unsafe extern "C" fn send_one(fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::send(fd, buf, len, flags) };
    match fdtable::get(fd) {
        None => kernel(),
        // SAFETY: the program vouches for its buffer.
        Some(file) => unsafe { send(file, fd, &part(buf, len), flags, kernel) }.into_c(),
    }
}

/// sendto(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    buf: *const c_void,
    len: size_t,
    flags: c_int,
    addr: *const sockaddr,
    alen: socklen_t,
) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::sendto(fd, buf, len, flags, addr, alen) };
    match fdtable::get(fd) {
        None => kernel(),
        // SAFETY: the program vouches for its buffer.
        Some(file) => unsafe { send(file, fd, &part(buf, len), flags, kernel) }.into_c(),
    }
}

/// sendmsg(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::sendmsg(fd, msg, flags) };
    // SAFETY: the program vouches for the header and what it points to.
    if !msg.is_null() && !unsafe { unix::passes_only(msg, close::may_pass) } {
        return Answer::Ours(Err(Errno::EOPNOTSUPP)).into_c();
    }
    // SAFETY: the program's pointer.
    match fdtable::get(fd).filter(|_| unsafe { has_parts(msg) }) {
        None => kernel(),
        // SAFETY: the program vouches for the header and what it points to.
        Some(file) => unsafe { send(file, fd, parts((*msg).msg_iov, (*msg).msg_iovlen), flags, kernel) }.into_c(),
    }
}

/// sendmmsg(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmmsg(fd: c_int, msgs: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    // SAFETY: the program vouches for `count` headers.
    let passes = |index| unsafe { unix::passes_only(&raw const (*msgs.add(index)).msg_hdr, close::may_pass) };
    let plain = fdtable::get(fd).is_none() && (msgs.is_null() || (0..count as usize).all(passes));
    if plain || msgs.is_null() {
        // SAFETY: the program's.
        return unsafe { real::sendmmsg(fd, msgs, count, flags) };
    }
    for done in 0..count {
        // SAFETY: the program vouches for `count` headers.
        let sent = unsafe { sendmsg(fd, &raw const (*msgs.add(done as usize)).msg_hdr, flags) };
        if sent < 0 {
            return if done > 0 { done as c_int } else { -1 };
        }
        // SAFETY: as above.
        unsafe { (*msgs.add(done as usize)).msg_len = sent as c_uint };
    }
    count as c_int
}
