//! How the library comes to know a socket: socket, connect, accept, listen, dup.

use crate::fdtable::{self, hint};
use crate::fork;
use crate::policy;
use crate::process;
use crate::socket::back::ask;
use crate::socket::file::OpenFile;
use crate::socket::sock::{flag, phase};
use crate::socket::{clc, close, uncounted};
use crate::{stats, streams};
use core::net::SocketAddr;
use preloop_shm::counted::Counted;
use preloop_sys::addr::RawAddr;
use preloop_sys::{Errno, Fd, addr, call, clock, tcp};
use preloop_uapi::decline::Decline;
use preloop_uapi::listing::kind;
use preloop_uapi::sync::Ordering;

fn nonblock(flags: i32) -> u32 {
    if flags & libc::SOCK_NONBLOCK != 0 { flag::NONBLOCK } else { 0 }
}

/// The kernel gave a number out: what the table may still hold there was closed unseen.
pub fn given_out(fd: Fd) {
    if fork::is_inside() || !fdtable::knows(fd) || process::is_uncounted() {
        return;
    }
    if let Some(stale) = fdtable::set(fd, None) {
        close::forget_unseen(&stale, fd);
    }
    if let Some(set) = fdtable::set_epoll(fd, None) {
        set.closes(fd);
    }
    drop(fdtable::set_kcm(fd, None));
}

/// A TCP socket was made.
pub fn made(fd: Fd, flags: i32, smc: bool) {
    if OpenFile::enter(fd, nonblock(flags) | if smc { flag::AF_SMC } else { 0 }).is_none() {
        given_out(fd);
    }
}

/// A socket listens now.
pub fn listens(fd: Fd) {
    if let Some(file) = fdtable::get(fd) {
        file.sock.listing.kind.store(kind::LISTEN, Ordering::Relaxed);
    }
}

/// Whether both ends of the connection to `peer` are in this network namespace. Where the addresses do not say so, the
/// kernel is asked whether it has the other end too: the host has several addresses, and may have made one up.
fn is_local(fd: Fd, peer: SocketAddr) -> bool {
    policy::address_is_local(peer.ip())
        || addr::local(fd).is_some_and(|local| {
            policy::addresses_are_local(local, peer)
                || (!process::is_confined()
                    && process::find_end(peer, local).is_some_and(|end| end.state != tcp::state::LISTEN))
        })
}

fn becomes_connection(file: &OpenFile, fd: Fd, peer: SocketAddr) {
    stats::begins(file.sock, file.is_active(), || Some((addr::local(fd)?, peer)));
    file.sock.listing.kind.store(kind::CONNECTION, Ordering::Relaxed);
    if process::is_confined() {
        file.sock.decline(Decline::CONFIGURATION);
    } else if is_local(fd, peer) {
        file.sock.began_at.store(clock::now(), Ordering::Relaxed);
        file.sock.phase.store(phase::ELIGIBLE, Ordering::Release);
        if policy::handshake_is_early() {
            clc::step(file, fd, false);
        }
    } else {
        file.sock.decline(Decline::NO_SMCD_DEVICE);
    }
}

/// connect(2) succeeded, or is under way.
pub fn connects(file: &OpenFile, fd: Fd, to: &RawAddr) {
    if file.sock.phase() != phase::INIT {
        return;
    }
    let Some(peer) = to.inet() else { return };
    // Of an earlier attempt that failed.
    file.sock.lower(flag::FIN | flag::ERROR);
    file.sock.raise(flag::ACTIVE);
    becomes_connection(file, fd, peer);
}

/// A connection was accepted.
pub fn accepted(listener: Fd, fd: Fd, from: &RawAddr, flags: i32) {
    let Some(peer) = from.inet() else { return };
    let listener = fdtable::get(listener).map(|listener| listener.sock);
    const INHERITED: u32 = flag::AF_SMC | flag::RX_AT_ONCE | flag::TX_AT_ONCE;
    let inherited = listener.map_or(0, |listener| listener.flags.load(Ordering::Relaxed) & INHERITED);
    let Some(file) = OpenFile::enter(fd, nonblock(flags) | inherited) else { return given_out(fd) };
    // Options of the listener are the connection's, too.
    if let Some(listener) = listener {
        file.sock.low_water.store(listener.low_water.load(Ordering::Relaxed), Ordering::Relaxed);
        if listener.phase() == phase::TCP {
            file.sock.listing.kind.store(kind::CONNECTION, Ordering::Relaxed);
            stats::begins(file.sock, false, || Some((addr::local(fd)?, peer)));
            return file.sock.decline(Decline::OPTION);
        }
    }
    becomes_connection(&file, fd, peer);
}

/// A connection is attached to a KCM mux, and stays on TCP: the library has to know it, if it did not so far. `None`: it
/// cannot.
pub fn attached(fd: Fd) -> Option<Counted<OpenFile>> {
    if let Some(file) = fdtable::get(fd) {
        return Some(file);
    }
    let nonblocking = call::status_flags(fd).is_ok_and(|flags| flags & libc::O_NONBLOCK != 0);
    let file = OpenFile::enter_any(fd, if nonblocking { flag::NONBLOCK } else { 0 })?;
    file.sock.listing.kind.store(kind::CONNECTION, Ordering::Relaxed);
    stats::begins(file.sock, false, || Some((addr::local(fd)?, addr::peer(fd)?)));
    file.sock.decline(Decline::OPTION);
    let mut all = vec![fd];
    if fdtable::has_hint(fd, hint::COPIED) {
        let socket = call::inode(fd);
        all.extend(fdtable::with_hint(hint::COPIED).filter(|other| *other != fd && call::inode(*other) == socket));
    }
    for copy in &all[1..] {
        file.descriptors.fetch_add(1, Ordering::AcqRel);
        if let Some(stale) = fdtable::set(*copy, Some(file.clone())) {
            close::forget_unseen(&stale, *copy);
        }
    }
    Some(file)
}

/// The library keeps a descriptor of its own of a connection, as if the program had made another one.
///
/// # Errors
/// EBADF when the program has closed its last one meanwhile, and with it the connection.
pub fn kept(file: &Counted<OpenFile>, fd: Fd) -> Result<(), Errno> {
    file.descriptors.fetch_add(1, Ordering::AcqRel);
    fdtable::set(fd, Some(file.clone()));
    if file.has_ended() { Err(Errno::EBADF) } else { Ok(()) }
}

/// connect(AF_UNSPEC) takes the connection away: the socket may be used anew, on TCP.
pub fn disconnects(file: &Counted<OpenFile>) -> bool {
    file.sock.phase() == phase::INIT || ask::pin(file)
}

/// Whether a number may stand for what `old` does. One beyond the table is used past the library: a connection that has it
/// stays on TCP, and one that cannot is lost for who uses it there.
pub fn may_be_at(new: Fd, old: Fd) -> bool {
    fdtable::has_place(new)
        || fork::is_inside()
        || process::is_uncounted()
        || fdtable::get(old).is_none_or(|file| ask::pin(&file))
}

/// `new` is a duplicate of `old`, made by the kernel.
pub fn duplicated(old: Fd, new: Fd) {
    let is_ours = fdtable::knows(old) || fdtable::knows(new);
    if process::settings().kcm && !fdtable::knows(old) {
        fdtable::give_hint(old, hint::COPIED);
        fdtable::give_hint(new, hint::COPIED);
    }
    if fork::is_inside() || !is_ours {
        return;
    }
    if process::is_uncounted() {
        return uncounted::uses(old);
    }
    if let Some(set) = fdtable::epoll(old) {
        set.duplicated();
        fdtable::set_epoll(new, Some(set));
        return;
    }
    drop(fdtable::set_kcm(new, fdtable::kcm(old)));
    let file = fdtable::get(old).filter(|_| fdtable::has_place(new));
    if let Some(file) = &file {
        file.descriptors.fetch_add(1, Ordering::AcqRel);
    }
    if let Some(stale) = fdtable::set(new, file.clone()) {
        close::forget_unseen(&stale, new);
    }
    if let Some(file) = file.filter(|file| new <= 2 && streams::may_use(file)) {
        clc::put_off(&file);
    }
}

#[cfg(test)]
mod tests {
    use super::{duplicated, may_be_at};
    use crate::fdtable;
    use crate::process;
    use crate::socket::file::OpenFile;
    use crate::socket::sock::phase;
    use preloop_uapi::sync::Ordering::Relaxed;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_number_beyond_the_table_is_the_kernels() {
        process::renew();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let file = OpenFile::enter_any(socket.as_raw_fd(), 0).unwrap();
        assert!(may_be_at(1 << 20, socket.as_raw_fd()));
        duplicated(socket.as_raw_fd(), 1 << 20);
        assert_eq!(file.descriptors.load(Relaxed), 1);
        assert_eq!(file.sock.phase(), phase::TCP);
        assert!(OpenFile::enter_any(1 << 20, 0).is_none());
        drop(fdtable::set(socket.as_raw_fd(), None));
    }
}
