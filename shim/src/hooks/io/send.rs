//! write(2), send(2) and their families.

use super::{MANY, has_parts, may_have, no_wait, part, parts};
use crate::fdtable::{self, Known};
use crate::hooks::kcm::{check_address, destination};
use crate::socket::calls::Answer;
use crate::socket::kcm::csock::Sock;
use crate::socket::kcm::send::{self as kcm, Outgoing};
use crate::socket::passing::pack::{self, Parcels};
use crate::socket::tx;
use core::ffi::{c_int, c_uint, c_void};
use libc::{iovec, mmsghdr, msghdr, off64_t, size_t, sockaddr, socklen_t, ssize_t};
use preloop_kcm::send::MSG_BATCH;
use preloop_shm::copy::Buffers;
use preloop_sys::probe::{self, Access};
use preloop_sys::rights::{self, Copied};
use preloop_sys::{Errno, real};

/// An address and its length.
type Address = (*const sockaddr, socklen_t);

const NO_ADDRESS: Address = (core::ptr::null(), 0);

/// Sends to whatever socket it is; on a KCM socket, where the address says.
///
/// # Safety
/// The parts must be readable, and nobody may write to the address meanwhile.
unsafe fn send(
    socket: Known,
    fd: c_int,
    (parts, address): (&[iovec], Address),
    flags: c_int,
    mut kernel: impl FnMut() -> isize,
) -> Answer {
    // SAFETY: the caller's.
    let data = unsafe { Buffers::new(parts) };
    match socket {
        Known::Tcp(file) => tx::send(&file, fd, &mut &data, flags, &mut kernel),
        // SAFETY: the caller's.
        Known::Kcm(sock) => Answer::Ours(unsafe {
            let to = destination(address.0, address.1);
            kcm::send(sock, Outgoing { data, flags, to })
        }),
    }
}

/// Writes to whatever socket it is: to one with messages, a whole one.
///
/// # Safety
/// The parts must be readable.
unsafe fn write_any(socket: Known, fd: c_int, parts: &[iovec], flags: c_int, kernel: impl FnMut() -> isize) -> ssize_t {
    let flags = if let Known::Kcm(sock) = &socket { flags | kcm::part(sock.kind, false) } else { flags };
    // SAFETY: the caller's.
    unsafe { send(socket, fd, (parts, NO_ADDRESS), flags, kernel) }.into_c()
}

/// write(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: the program's own call.
    let kernel = || unsafe { real::write(fd, buf, len) };
    match fdtable::socket(fd) {
        None => kernel(),
        // SAFETY: the program vouches for its buffer.
        Some(socket) => unsafe { write_any(socket, fd, &part(buf, len), 0, kernel) },
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
    match fdtable::socket(fd).filter(|_| may_have(count)) {
        None => kernel(),
        // SAFETY: the program vouches for its buffers.
        Some(socket) => unsafe { write_any(socket, fd, parts(iov, count as usize), 0, kernel) },
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
    match fdtable::socket(fd).filter(|_| offset == -1 && may_have(count)) {
        None => kernel(),
        // SAFETY: the program vouches for its buffers.
        Some(socket) => unsafe { write_any(socket, fd, parts(iov, count as usize), no_wait(flags), kernel) },
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
    match fdtable::socket(fd) {
        None => kernel(),
        // SAFETY: the program vouches for its buffer.
        Some(socket) => unsafe { send(socket, fd, (&part(buf, len), NO_ADDRESS), flags, kernel) }.into_c(),
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
    let socket = fdtable::socket(fd);
    if matches!(socket, Some(Known::Kcm(_)))
        && let Err(error) = check_address(addr, alen)
    {
        return Answer::Ours(Err(error)).into_c();
    }
    match socket {
        None => kernel(),
        // SAFETY: the program vouches for its buffer.
        Some(socket) => unsafe { send(socket, fd, (&part(buf, len), (addr, alen)), flags, kernel) }.into_c(),
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
    // SAFETY: the program's pointer.
    let control = unsafe { msg.as_ref() }.map(|msg| (msg.msg_control.cast::<u8>(), msg.msg_controllen));
    if control.is_some_and(|(start, len)| !probe::may(Access::Read, start, len)) {
        return Answer::Ours(Err(Errno::EFAULT)).into_c();
    }
    // SAFETY: the program vouches for the header and what it points to.
    let packed = if msg.is_null() { Ok(Parcels::default()) } else { pack::pack(fd, unsafe { rights::passed(msg) }) };
    match packed {
        Ok(parcels) if parcels.is_empty() => {}
        Ok(parcels) => {
            // SAFETY: as above; the copy lives as long as the call.
            let message = unsafe { Copied::with(msg, parcels.instead()) };
            // SAFETY: as above.
            return parcels.send(|| unsafe { real::sendmsg(fd, message.header(), flags) }).into_c();
        }
        Err(error) => return Answer::Ours(Err(error)).into_c(),
    }
    // SAFETY: the program's pointer.
    match fdtable::socket(fd).filter(|_| unsafe { has_parts(msg) }) {
        None => kernel(),
        // SAFETY: the program vouches for the header and what it points to.
        Some(socket) => unsafe {
            let address = ((*msg).msg_name.cast_const().cast(), (*msg).msg_namelen);
            send(socket, fd, (parts((*msg).msg_iov, (*msg).msg_iovlen), address), flags, kernel).into_c()
        },
    }
}

/// sendmmsg(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmmsg(fd: c_int, msgs: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    // SAFETY: the program vouches for `count` headers.
    let needs_care = |index| unsafe { pack::concerns(rights::passed(&raw const (*msgs.add(index)).msg_hdr)) };
    let socket = fdtable::socket(fd);
    let plain = socket.is_none() && (msgs.is_null() || !(0..count as usize).any(needs_care));
    if plain || msgs.is_null() {
        // SAFETY: the program's.
        return unsafe { real::sendmmsg(fd, msgs, count, flags) };
    }
    let batches = matches!(socket, Some(Known::Kcm(_)));
    // None may hold it while a call sleeps.
    drop(socket);
    // SAFETY: the program vouches for `count` headers.
    let msgs = unsafe { core::slice::from_raw_parts_mut(msgs, MANY.min(count as usize)) };
    let mut done = 0;
    while done < msgs.len() {
        if batches && let Some(Known::Kcm(sock)) = fdtable::socket(fd) {
            // SAFETY: as above.
            done += unsafe { send_ahead(&sock, &mut msgs[done..], flags) };
        }
        let left = msgs.len() - done;
        let Some(msg) = msgs.get_mut(done) else { break };
        let flags = if batches { batched(left, flags) } else { flags };
        // SAFETY: as above.
        let sent = unsafe { sendmsg(fd, &raw const msg.msg_hdr, flags) };
        if sent < 0 {
            return if done > 0 { done as c_int } else { -1 };
        }
        msg.msg_len = sent as c_uint;
        done += 1;
    }
    done as c_int
}

/// The flags of a message of which so many are left: as in the kernel, all but the last are batched.
fn batched(left: usize, flags: c_int) -> c_int {
    if left > 1 { flags | MSG_BATCH } else { flags }
}

/// Sends messages of sendmmsg(2) on a KCM socket, up to the first that has to wait, fails, or has anything but bytes and an
/// address. Answers how many.
///
/// # Safety
/// The headers must be valid for a send.
unsafe fn send_ahead(sock: &Sock, msgs: &mut [mmsghdr], flags: c_int) -> usize {
    let (count, mut done) = (msgs.len(), 0);
    kcm::send_ahead(sock, |sent| {
        if let Some(sent) = sent {
            msgs[done].msg_len = sent as c_uint;
            done += 1;
        }
        let msg = &msgs.get(done)?.msg_hdr;
        // SAFETY: the caller's.
        let is_plain = msg.msg_controllen == 0 && unsafe { has_parts(msg) };
        // SAFETY: the caller's.
        is_plain.then(|| unsafe {
            let data = Buffers::new(parts(msg.msg_iov, msg.msg_iovlen));
            let to = destination(msg.msg_name.cast_const().cast(), msg.msg_namelen);
            Outgoing { data, flags: batched(count - done, flags), to }
        })
    });
    done
}
