//! `sock_diag(7)`: what the kernel says of one exact TCP connection, here always the other end of one of ours.

use crate::unix::Inner;
use crate::{Errno, Fd, call};
use core::net::{IpAddr, SocketAddr};
use syscalls::{Sysno, syscall};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NETLINK_SOCK_DIAG: i32 = 4;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_HEADER: usize = 16;
const REQUEST: usize = NLMSG_HEADER + 56;
const BODY: usize = 72;

/// One end of a TCP connection, as the kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// TCP state, see [`crate::tcp::state`].
    pub state: u8,
    /// Owner, in this process's user namespace.
    pub uid: u32,
    /// SO_COOKIE.
    pub cookie: u64,
}

/// A netlink socket for questions.
///
/// # Errors
/// EMFILE and the like; EPROTONOSUPPORT without CONFIG_INET_DIAG.
pub fn open() -> Result<Inner, Errno> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain numbers.
    let fd = unsafe { syscall!(Sysno::socket, libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG) }?;
    Ok(Inner::from_raw(call::move_high(fd as Fd)))
}

fn octets(ip: IpAddr, out: &mut [u8]) {
    match ip {
        IpAddr::V4(v4) => out[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.copy_from_slice(&v6.octets()),
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (linux/inet_diag.h) for the connection from `local` to `peer`.
fn request(local: SocketAddr, peer: SocketAddr) -> [u8; REQUEST] {
    let mut message = [0u8; REQUEST];
    message[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    let body = &mut message[NLMSG_HEADER..];
    body[0] = if local.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 };
    body[1] = libc::IPPROTO_TCP as u8;
    body[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    body[8..10].copy_from_slice(&local.port().to_be_bytes());
    body[10..12].copy_from_slice(&peer.port().to_be_bytes());
    octets(local.ip(), &mut body[12..28]);
    octets(peer.ip(), &mut body[28..44]);
    // Interface 0, and a cookie of all ones: not asked for.
    body[48..56].fill(0xff);
    message
}

/// Asks for the socket that is connected from `local` to `peer`; `None` when this network namespace has none.
pub fn find(socket: Fd, local: SocketAddr, peer: SocketAddr) -> Option<End> {
    ask(socket, local, peer).ok()?.map(|body| body.end())
}

/// Whether no process holds that socket any more, or there is none. Not where the kernel does not say.
pub fn is_left(socket: Fd, local: SocketAddr, peer: SocketAddr) -> bool {
    match ask(socket, local, peer) {
        Ok(Some(body)) => body.inode() == 0,
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Whether the kernel says that there is no such socket. It says so of every one while it has no module that tells of them.
pub fn is_unknown(socket: Fd, local: SocketAddr, peer: SocketAddr) -> bool {
    ask(socket, local, peer) == Ok(None)
}

fn ask(socket: Fd, local: SocketAddr, peer: SocketAddr) -> Result<Option<Body>, Errno> {
    let unmap = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let (local, peer) = (unmap(local), unmap(peer));
    let message = request(local, peer);
    call::send(socket, &message, libc::MSG_DONTWAIT)?;
    let mut answer = [0u8; 512];
    let got = call::recv(socket, &mut answer, libc::MSG_DONTWAIT)?;
    parse(&answer[..got], local, peer)
}

/// `struct inet_diag_msg`: family, state, timer, retrans, id (48 bytes), expires, rqueue, wqueue, uid, inode.
#[derive(PartialEq, Eq)]
struct Body([u8; BODY]);

impl Body {
    fn word(&self, at: usize) -> u32 {
        let body = &self.0;
        u32::from_ne_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]])
    }

    fn end(&self) -> End {
        let cookie = u64::from(self.word(44)) | u64::from(self.word(48)) << 32;
        End { state: self.0[1], uid: self.word(64), cookie }
    }

    /// Of the file that the socket is; none once it was closed.
    fn inode(&self) -> u32 {
        self.word(68)
    }
}

fn parse(answer: &[u8], local: SocketAddr, peer: SocketAddr) -> Result<Option<Body>, Errno> {
    let bytes = |from: usize, to: usize| answer.get(from..to).ok_or(Errno::EPROTO);
    let kind = u16::from_ne_bytes([bytes(4, 5)?[0], bytes(5, 6)?[0]]);
    if kind == NLMSG_ERROR && *bytes(NLMSG_HEADER, NLMSG_HEADER + 4)? == (-libc::ENOENT).to_ne_bytes() {
        return Ok(None);
    }
    let body: [u8; BODY] = bytes(NLMSG_HEADER, NLMSG_HEADER + BODY)?.try_into().map_err(|_| Errno::EPROTO)?;
    let is_asked_for = body[4..6] == local.port().to_be_bytes() && body[6..8] == peer.port().to_be_bytes();
    if kind == SOCK_DIAG_BY_FAMILY && is_asked_for { Ok(Some(Body(body))) } else { Err(Errno::EPROTO) }
}

#[cfg(test)]
mod tests {
    use super::{find, is_left, is_unknown, open};
    use crate::pair::pair;
    use std::io::Write;

    #[test]
    fn an_end_is_left_when_nobody_holds_it() -> std::io::Result<()> {
        let socket = open().unwrap();
        let [mut a, b] = pair()?;
        let (of_a, of_b) = (a.local_addr()?, b.local_addr()?);
        assert!(find(socket.fd(), of_a, of_b).is_some());
        assert!(!is_unknown(socket.fd(), of_a, of_b) && is_unknown(socket.fd(), of_a, of_a));
        assert!(!is_left(socket.fd(), of_a, of_b));
        // More than the other end has room for: the FIN stands behind it.
        a.set_nonblocking(true)?;
        while a.write(&[0; 1 << 16]).is_ok() {}
        let second = a.try_clone()?;
        drop(a);
        assert!(!is_left(socket.fd(), of_a, of_b));
        drop(second);
        assert!(find(socket.fd(), of_a, of_b).is_some(), "the kernel is not through with it");
        assert!(is_left(socket.fd(), of_a, of_b));
        drop(b);
        assert!(is_left(socket.fd(), of_a, of_b));
        Ok(())
    }
}
