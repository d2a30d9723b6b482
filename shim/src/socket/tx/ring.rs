//! Through the ring, until the direction changes back.

use super::{PIECE, STREAM_FROM, Source, broken, lock, note_cpu, try_lock};
use crate::socket::back::stall;
use crate::socket::calls::{Answer, Kernel};
use crate::socket::epoll;
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::rx;
use crate::socket::sock::{Sock, flag};
use crate::socket::wait;
use preloop_shm::copy::Store;
use preloop_shm::counted::Counted;
use preloop_smc::back;
use preloop_smc::ring::Broken;
use preloop_sys::{Errno, Fd, call, cancel, errno, process};
use preloop_uapi::ring::shut;
use preloop_uapi::sync::Ordering;

/// Where a sending call stands.
pub(super) enum Sending {
    /// Everything there was is in the ring.
    Done,
    /// The ring is full.
    Full,
    /// The peer closed: TCP itself answers what it answers then.
    PeerClosed,
    /// The peer wants the direction to change back to TCP.
    Asked,
    /// It has.
    Back,
}

pub(super) fn send_through_ring(
    file: &Counted<OpenFile>,
    number: Fd,
    source: &mut dyn Source,
    flags: i32,
    kernel: Kernel<'_>,
) -> Answer {
    let Some(link) = file.link() else { return Answer::Kernel(kernel()) };
    let patient = flags & libc::MSG_DONTWAIT == 0 && !file.nonblocking();
    cancel::point();
    let (mut sent, mut heeds) = (0, true);
    let mut deadline = None;
    let stopped = loop {
        // Another thread may have closed what the program's number stood for.
        let fd = if deadline.is_none() { number } else { file.fd() };
        match put(file, link, fd, source, &mut sent, heeds) {
            Err(errno) => break errno,
            Ok(Sending::Done) => return Answer::Ours(Ok(sent)),
            Ok(Sending::PeerClosed) if sent == 0 && (deadline.is_none() || file.is_at(number)) => {
                let answer = kernel();
                // TCP calls a reset of a half-closed connection so. Of this one the kernel's socket saw no half-close.
                if answer < 0 && errno::get() == Errno::ECONNRESET && link.peer().tx.shut.load(Ordering::Acquire) != 0 {
                    break Errno::EPIPE;
                }
                return Answer::Kernel(answer);
            }
            Ok(Sending::PeerClosed) if sent == 0 => break Errno::EPIPE,
            Ok(Sending::PeerClosed) => return Answer::Ours(Ok(sent)),
            Ok(Sending::Asked) => {
                heeds = false;
                rx::heed(file, fd);
                continue;
            }
            Ok(Sending::Back) if sent == 0 && (deadline.is_none() || file.is_at(number)) => {
                return Answer::Kernel(kernel());
            }
            Ok(Sending::Back) => {
                let until = deadline.unwrap_or_else(|| wait::deadline_of(file, fd, libc::SO_SNDTIMEO));
                match send_rest(file, source, &mut sent, patient, until) {
                    Ok(()) => return Answer::Ours(Ok(sent)),
                    Err(errno) => break errno,
                }
            }
            Ok(Sending::Full) if stall::look(file, link, fd) => continue,
            Ok(Sending::Full) if !patient => match room_soon(file, link) {
                Ok(true) => continue,
                Ok(false) => {
                    if !file.sock.rx_in_ring() || stall::is_to_be_watched(file) {
                        epoll::look_later(file);
                    }
                    break Errno::EAGAIN;
                }
                Err(errno) => break errno,
            },
            Ok(Sending::Full) => {}
        }
        let until = *deadline.get_or_insert_with(|| wait::deadline_of(file, fd, libc::SO_SNDTIMEO));
        if let Err(errno) = wait_for_room(file, link, fd, until, sent == 0) {
            break errno;
        }
    };
    Answer::Ours(if sent > 0 { Ok(sent) } else { Err(stops(stopped, flags)) })
}

/// A call that has sent nothing answers an error: EPIPE with a signal.
fn stops(error: Errno, flags: i32) -> Errno {
    if error == Errno::EPIPE && flags & libc::MSG_NOSIGNAL == 0 {
        process::raise_sigpipe();
    }
    error
}

/// The direction has changed back: the rest of what was partly sent goes over TCP.
fn send_rest(
    file: &Counted<OpenFile>,
    source: &mut dyn Source,
    sent: &mut usize,
    patient: bool,
    deadline: wait::Deadline,
) -> Result<(), Errno> {
    while *sent < source.len() {
        let fd = file.fd();
        match source.send_rest(fd, *sent) {
            None if *sent == 0 => return Err(Errno::EBADF),
            None => break,
            Some(Ok(count)) => *sent += count,
            Some(Err(Errno::EAGAIN)) if patient => {
                let restartable = *sent == 0;
                let how = wait::Sleep { events: libc::POLLOUT, deadline, restartable, looks_again: false };
                wait::sleep(file, fd, how, || false)?;
            }
            Some(Err(errno)) => return Err(errno),
        }
    }
    Ok(())
}

/// Puts as much into the ring as fits. `heeds`: not when the peer wants the direction to change back; whoever heeds that once in
/// a call gets on, however often the peer may ask.
pub(super) fn put(
    file: &OpenFile,
    link: &Link,
    fd: Fd,
    source: &mut dyn Source,
    sent: &mut usize,
    heeds: bool,
) -> Result<Sending, Errno> {
    let sock = file.sock;
    let _held = lock(file);
    let (line, peer, ring) = (&link.own().tx, &link.peer().rx, link.tx_ring());
    note_cpu(&line.cpu);
    let receiver_elsewhere = wait::peer_elsewhere(peer.cpu.load(Ordering::Relaxed));
    loop {
        if !sock.tx_in_ring() {
            return Ok(Sending::Back);
        }
        if heeds && back::is_asked(peer) {
            return Ok(Sending::Asked);
        }
        if let Some(state) = ended(file, link, fd)? {
            return Ok(state);
        }
        if *sent == source.len() {
            return Ok(Sending::Done);
        }
        let space = sock.sender.space(peer, ring.size()).map_err(|Broken| broken(file, fd))?;
        if space.is_empty() {
            return Ok(Sending::Full);
        }
        let span = space.take(PIECE.min(source.len() - *sent));
        let store = if span.len() >= STREAM_FROM && receiver_elsewhere { Store::Streaming } else { Store::Cached };
        let filled = source.fill(ring, span, *sent, store)?;
        sock.sender.publish(line, filled);
        *sent += filled;
        link.notify();
        if *sent == source.len() || filled < span.len() {
            return Ok(Sending::Done);
        }
    }
}

/// Whether this direction can still carry bytes; `Some` when the peer has closed. Under the tx lock.
fn ended(file: &OpenFile, link: &Link, fd: Fd) -> Result<Option<Sending>, Errno> {
    let sock = file.sock;
    if sock.has(flag::TX_SHUT) {
        // An error that the kernel has to tell comes first, once.
        let pending = call::int_option(fd, libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0);
        return Err(if pending == 0 { Errno::EPIPE } else { Errno::new(pending) });
    }
    if sock.has(flag::BROKEN) {
        return Err(Errno::ECONNRESET);
    }
    // A peer that was killed says nothing in shared memory. It is asked after while it lags behind.
    if sock.sender.unread(&link.peer().rx).map_err(|Broken| broken(file, fd))? > 0 {
        wait::look_at_kernel(file, fd);
    }
    Ok(peer_closed(sock, link).then_some(Sending::PeerClosed))
}

/// Whether nobody at the other end can read any more. A FIN after a mere shutdown(SHUT_WR) does not say so.
pub fn peer_closed(sock: &Sock, link: &Link) -> bool {
    link.peer_closed()
        || sock.has(flag::ERROR)
        || (sock.has(flag::FIN) && link.peer().tx.shut.load(Ordering::Acquire) != shut::FIN_SENT)
}

/// Whether there is room now; otherwise a wake-up will come when there is.
pub(super) fn room_soon(file: &OpenFile, link: &Link) -> Result<bool, Errno> {
    let _held = lock(file);
    let (line, peer, size) = (&link.own().tx, &link.peer().rx, link.tx_ring().size());
    if !file.sock.tx_in_ring() || back::is_asked(peer) {
        return Ok(true);
    }
    file.sock.sender.request_space(line, peer, size).map_err(|Broken| broken(file, file.fd()))
}

fn wait_for_room(
    file: &Counted<OpenFile>,
    link: &Link,
    fd: Fd,
    deadline: wait::Deadline,
    restartable: bool,
) -> Result<(), Errno> {
    let sock = file.sock;
    let room = || {
        let _held = lock(file);
        let peer = &link.peer().rx;
        !sock.tx_in_ring() || back::is_asked(peer) || sock.sender.writable(peer, link.tx_ring().size()).unwrap_or(true)
    };
    let cpu = link.peer().rx.cpu.load(Ordering::Relaxed);
    if wait::peer_elsewhere(cpu) && wait::spin(&file.spin, deadline, room) {
        return Ok(());
    }
    let how = wait::Sleep {
        events: wait::of_end(file, link),
        deadline,
        restartable,
        looks_again: stall::is_to_be_watched(file),
    };
    wait::sleep(file, fd, how, || {
        room_soon(file, link).unwrap_or(true) || sock.has(flag::TX_SHUT | flag::BROKEN) || peer_closed(sock, link)
    })
}

/// Whether poll would call the moved sending direction writable.
pub fn is_writable(file: &OpenFile, link: &Link) -> bool {
    let sock = file.sock;
    if sock.has(flag::TX_SHUT | flag::BROKEN) || peer_closed(sock, link) {
        return true;
    }
    // Whoever has the lock is sending, perhaps from a slow file: the poller does not wait for that. There was room for
    // what is being sent.
    let Some(held) = try_lock(file) else { return true };
    let room = !sock.tx_in_ring() || sock.sender.writable(&link.peer().rx, link.tx_ring().size()).unwrap_or(true);
    drop(held);
    // The peer is asked for a wake-up only when there is no room.
    room || room_soon(file, link).unwrap_or(true)
}
