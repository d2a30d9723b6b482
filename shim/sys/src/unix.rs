//! Abstract Unix sockets: the handshake's mailboxes (sequenced packets that carry descriptors) and the bells
//! (datagrams without content). Abstract names live in the network namespace, as 127.0.0.1 does. Nothing here blocks.

use crate::{Errno, Fd, call, rights};
use syscalls::{Sysno, syscall};

/// A descriptor of the library's own, closed on drop.
#[derive(Debug)]
pub struct Inner(Fd);

impl Inner {
    /// The number.
    pub fn fd(&self) -> Fd {
        self.0
    }

    /// Gives the number away; nobody closes it any more.
    pub fn into_raw(self) -> Fd {
        let fd = self.0;
        core::mem::forget(self);
        fd
    }

    /// The same out of the way of the program's descriptors, see [`call::move_high`].
    pub fn move_high(self) -> Self {
        Self(call::move_high(self.into_raw()))
    }

    /// Takes charge of a descriptor that the library made.
    pub fn from_raw(fd: Fd) -> Self {
        Self(fd)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        call::close(self.0);
    }
}

/// Longest abstract name, without its leading NUL.
pub const NAME_MAX: usize = 107;

fn address(name: &[u8]) -> (libc::sockaddr_un, u32) {
    let mut addr = libc::sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; 108] };
    for (to, from) in addr.sun_path[1..].iter_mut().zip(name) {
        *to = *from as core::ffi::c_char;
    }
    (addr, (size_of::<u16>() + 1 + name.len().min(NAME_MAX)) as u32)
}

fn socket(kind: i32) -> Result<Inner, Errno> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: plain numbers.
    let fd = unsafe { syscall!(Sysno::socket, libc::AF_UNIX, kind, 0) }?;
    Ok(Inner(fd as Fd).move_high())
}

/// A mailbox that listens under `name`.
///
/// # Errors
/// EADDRINUSE when somebody squats the name, or what socket, bind and listen answer.
pub fn mailbox(name: &[u8], backlog: i32) -> Result<Inner, Errno> {
    let socket = socket(libc::SOCK_SEQPACKET)?;
    bind_to(socket.0, name)?;
    // SAFETY: plain numbers.
    unsafe { syscall!(Sysno::listen, socket.0, backlog) }?;
    Ok(socket)
}

/// Connects to a mailbox.
///
/// # Errors
/// ECONNREFUSED when nobody listens under that name, EAGAIN when its backlog is full.
pub fn connect(name: &[u8]) -> Result<Inner, Errno> {
    let socket = socket(libc::SOCK_SEQPACKET)?;
    let (addr, len) = address(name);
    // SAFETY: `addr` is readable for `len` bytes.
    unsafe { syscall!(Sysno::connect, socket.0, &raw const addr, len) }?;
    Ok(socket)
}

/// The next one who connected to a mailbox.
///
/// # Errors
/// EAGAIN when there is none.
pub fn accept(mailbox: Fd) -> Result<Inner, Errno> {
    // SAFETY: no addresses are asked for.
    let fd = unsafe { syscall!(Sysno::accept4, mailbox, 0, 0, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) }?;
    Ok(Inner(fd as Fd).move_high())
}

/// Process and user at the other end, as the kernel recorded them when the connection was made.
///
/// # Errors
/// The kernel's.
pub fn peer(socket: &Inner) -> Result<libc::ucred, Errno> {
    credentials(socket.0)
}

/// The user who made a socket of a pair, see socketpair(2).
///
/// # Errors
/// The kernel's.
pub fn owner(socket: Fd) -> Result<u32, Errno> {
    credentials(socket).map(|cred| cred.uid)
}

/// What the kernel recorded of the other end: who connected, or listens; of a pair, who made it.
///
/// # Errors
/// The kernel's.
pub fn credentials(socket: Fd) -> Result<libc::ucred, Errno> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `cred` is writable for `len` bytes.
    unsafe { syscall!(Sysno::getsockopt, socket, libc::SOL_SOCKET, libc::SO_PEERCRED, &raw mut cred, &raw mut len) }?;
    Ok(cred)
}

#[repr(C, align(8))]
struct Control([u8; 64]);

/// Descriptors that one message may carry.
pub const FDS_MAX: usize = 8;

/// Sends one message, with descriptors beside it: no more than [`FDS_MAX`].
///
/// # Errors
/// EAGAIN rather than waiting; EPIPE without SIGPIPE; ETOOMANYREFS when too many are under way.
pub fn send(socket: &Inner, bytes: &[u8], pass: &[Fd]) -> Result<(), Errno> {
    send_from(socket.0, bytes, pass)
}

/// As [`send`].
///
/// # Errors
/// As [`send`].
pub fn send_from(socket: Fd, bytes: &[u8], pass: &[Fd]) -> Result<(), Errno> {
    let pass = &pass[..pass.len().min(FDS_MAX)];
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data; its pointers are filled below with buffers that outlive the call.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    // SAFETY: `control` has room for one header with eight descriptors (48 of 64 bytes), aligned as cmsghdr needs.
    unsafe {
        if !pass.is_empty() {
            let len = size_of_val(pass) as u32;
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(len) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(len) as usize;
            let data = libc::CMSG_DATA(header).cast::<Fd>();
            for (index, fd) in pass.iter().enumerate() {
                data.add(index).write_unaligned(*fd);
            }
        }
        call::sendmsg(socket, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).map(drop)
    }
}

/// What [`receive`] received.
pub type Received = (usize, [Option<Inner>; FDS_MAX]);

/// Receives one message and at most [`FDS_MAX`] descriptors; any further ones are closed. With MSG_PEEK the message stays,
/// and the descriptors are new ones each time.
///
/// # Errors
/// EAGAIN when none is there; an empty message means that the other end closed.
pub fn receive(socket: &Inner, bytes: &mut [u8], flags: i32) -> Result<Received, Errno> {
    receive_from(socket.0, bytes, flags)
}

/// As [`receive`].
///
/// # Errors
/// As [`receive`].
pub fn receive_from(socket: Fd, bytes: &mut [u8], flags: i32) -> Result<Received, Errno> {
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: as in `send`.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: the message points to `bytes` and `control`.
    let got = unsafe { call::recvmsg(socket, &raw mut message, flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) }?;
    let mut kept = [const { None }; FDS_MAX];
    // SAFETY: the kernel has filled the message.
    for fd in unsafe { rights::passed(&raw const message) }.map(Inner) {
        if let Some(place) = kept.iter_mut().find(|place| place.is_none()) {
            *place = Some(fd);
        }
    }
    Ok((got, kept))
}

/// Takes one message off a socket, whose descriptors are closed; `false` when it has none with descriptors.
pub fn discard(socket: Fd) -> bool {
    // SAFETY: plain data.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    // SAFETY: the message has no room for anything.
    let got = unsafe { call::recvmsg(socket, &raw mut message, libc::MSG_DONTWAIT) };
    got.is_ok() && message.msg_flags & libc::MSG_CTRUNC != 0
}

/// The abstract name that a Unix socket, or with `peer` the one at its other end, is bound to: without its leading NUL.
pub fn name(socket: Fd, peer: bool) -> Option<Vec<u8>> {
    let mut addr = libc::sockaddr_un { sun_family: 0, sun_path: [0; 108] };
    let mut len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    let number = if peer { Sysno::getpeername } else { Sysno::getsockname };
    // SAFETY: `addr` is writable for `len` bytes.
    unsafe { syscall!(number, socket, &raw mut addr, &raw mut len) }.ok()?;
    let path = addr.sun_path.get(..(len as usize).checked_sub(size_of::<u16>())?)?;
    let [0, name @ ..] = path else { return None };
    (i32::from(addr.sun_family) == libc::AF_UNIX).then(|| name.iter().map(|byte| *byte as u8).collect())
}

/// Binds a Unix socket to an abstract name.
///
/// # Errors
/// EADDRINUSE; EINVAL when it has a name already.
pub fn bind_to(socket: Fd, name: &[u8]) -> Result<(), Errno> {
    let (addr, len) = address(name);
    // SAFETY: `addr` is readable for `len` bytes.
    unsafe { syscall!(Sysno::bind, socket, &raw const addr, len) }.map(drop)
}

/// A bell: a datagram socket bound to `name`, or without a name one to ring from.
///
/// # Errors
/// EMFILE and the like.
pub fn bell(name: Option<&[u8]>) -> Result<Inner, Errno> {
    let socket = socket(libc::SOCK_DGRAM)?;
    if let Some(name) = name {
        bind_to(socket.0, name)?;
    }
    Ok(socket)
}

/// Rings the bell of that name. A bell that is full rings already; one that is gone has no owner: neither matters.
/// What nobody took off the bells that were rung counts against the socket that rang them: when it may ring no more,
/// `from` is made anew, under the same number.
pub fn ring(from: Fd, name: &[u8]) {
    if sendto(from, name) == Err(Errno::EAGAIN) && is_exhausted(from) && replace(from).is_ok() {
        let _ = sendto(from, name);
    }
}

fn sendto(from: Fd, name: &[u8]) -> Result<usize, Errno> {
    let (addr, len) = address(name);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: an empty datagram; `addr` is readable for `len` bytes.
    unsafe { syscall!(Sysno::sendto, from, 0, 0, flags, &raw const addr, len) }
}

/// Whether as much of what a socket sent waits to be received as it may send.
fn is_exhausted(socket: Fd) -> bool {
    let room = call::int_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF);
    matches!((call::int_ioctl(socket, libc::TIOCOUTQ), room), (Ok(waits), Ok(room)) if waits >= room)
}

fn replace(ringer: Fd) -> Result<(), Errno> {
    let new = socket(libc::SOCK_DGRAM)?;
    // SAFETY: plain numbers.
    unsafe { syscall!(Sysno::dup3, new.0, ringer, libc::O_CLOEXEC) }.map(drop)
}

/// Has a descriptor of the program's stand for a socket that is connected to nothing, and stay close-on-exec or not.
///
/// # Errors
/// EMFILE and its like.
pub fn disconnect(fd: Fd) -> Result<(), Errno> {
    let new = socket(libc::SOCK_SEQPACKET)?;
    let flags = if call::closes_on_exec(fd) { libc::O_CLOEXEC } else { 0 };
    // SAFETY: plain numbers.
    unsafe { syscall!(Sysno::dup3, new.0, fd, flags) }.map(drop)
}

/// Takes one ring off a bell.
pub fn hush(bell: Fd) {
    let _ = call::recv(bell, &mut [], libc::MSG_DONTWAIT);
}
