//! What the ring carries, and how the stream ends behind it.

use super::kernel::{leave_unmoved_end, settle, take_kept_error};
use super::{How, lock};
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::sock::{Sock, flag, rx_state};
use crate::socket::tx::{self, broken, note_cpu};
use crate::socket::wait;
use preloop_shm::copy::Buffers;
use preloop_smc::back;
use preloop_smc::ring::Broken;
use preloop_sys::{Errno, Fd, call, event};
use preloop_uapi::sync::Ordering;

/// Takes what the ring has; whether the call can return with it. `None`: the ring is empty for good, and the stream goes on in
/// the kernel's socket.
pub(super) fn take_from_ring(
    file: &OpenFile,
    link: &Link,
    fd: Fd,
    room: &Buffers<'_>,
    got: &mut usize,
    how: How,
) -> Result<Option<bool>, Errno> {
    let sock = file.sock;
    note_cpu(&link.own().rx.cpu);
    if sock.has(flag::BROKEN) {
        return Err(Errno::ECONNRESET);
    }
    if *got == room.len() && !room.is_empty() {
        return Ok(Some(true));
    }
    // What ended the stream is looked at before the ring: bytes that were stored before the end are then seen.
    let mut end = stream_end(file, link);
    let mut data = sock.receiver.data(&link.peer().tx, link.rx_ring().size()).map_err(|Broken| broken(file, fd))?;
    if data.is_empty() && end.is_none() {
        wait::look_at_kernel(file, fd);
        end = stream_end(file, link);
        if end.is_some() {
            data = sock.receiver.data(&link.peer().tx, link.rx_ring().size()).map_err(|Broken| broken(file, fd))?;
        }
    }
    if data.is_empty() {
        return match end {
            // Whatever ended TCP did so behind what came over it since.
            _ if back::is_marked(&link.peer().tx) => Ok(None),
            None => Ok(Some(*got >= how.enough || (!how.patient && *got > 0))),
            Some(_) if *got > 0 => Ok(Some(true)),
            Some(end) => tell(file, fd, end).map(|()| Some(true)),
        };
    }
    if room.is_empty() {
        return Ok(Some(true));
    }
    let span = data.take(room.len() - *got);
    if how.flags & libc::MSG_TRUNC == 0 {
        let mut at = *got;
        for (offset, len) in span.pieces() {
            link.rx_ring().drain(offset, len, room, at);
            at += len;
        }
    }
    *got += span.len();
    let is_left = !how.peeks() && consume(file, link, span.len());
    if is_left && *got < room.len() && call::int_ioctl(fd, libc::FIONREAD).is_ok_and(|bytes| bytes > 0) {
        // One read takes what lies in both, as it would had all come over TCP.
        return Ok(None);
    }
    // A peek cannot wait for more than the ring holds, nor for what the sender would need space for.
    let size = link.rx_ring().size() as usize;
    let goes_on_there = back::is_marked(&link.peer().tx);
    let full = how.peeks() && (data.len() >= size - size / 4 || goes_on_there);
    Ok(Some(*got >= how.enough || !how.patient || end.is_some() && !goes_on_there || full))
}

/// Gives the space of `bytes` back to the sender, and wakes it when it waits for that. Answers whether those were the ring's last
/// bytes for good. Under the rx lock.
pub fn consume(file: &OpenFile, link: &Link, bytes: usize) -> bool {
    file.sock.receiver.consume(&link.own().rx, bytes);
    if file.sock.receiver.space_wanted(&link.peer().tx, link.rx_ring().size()) {
        link.notify();
    }
    // Afterwards the kernel's socket is to be watched.
    back::is_marked(&link.peer().tx)
        && settle(file, file.fd()).is_ok()
        && file.sock.rx_state.load(Ordering::Relaxed) == rx_state::BACK
}

/// How the incoming stream ends once the ring is empty.
pub(super) enum End {
    /// End of file.
    File,
    /// The kernel has an error to tell.
    Kernel,
    /// The peer vanished before it read what this end sent: as when it closes with unread data.
    Reset,
}

pub(super) fn stream_end(file: &OpenFile, link: &Link) -> Option<End> {
    let sock = file.sock;
    if sock.has(flag::RX_SHUT) || link.peer().tx.shut.load(Ordering::Acquire) != 0 {
        return Some(End::File);
    }
    if sock.has(flag::ERROR) {
        return Some(End::Kernel);
    }
    if !sock.has(flag::FIN) {
        return None;
    }
    Some(if is_reset(file, link) { End::Reset } else { End::File })
}

/// Whether the FIN that the kernel has shown is a reset that it knows nothing of, not told so far: the peer did not close, and
/// has not read what lies in its ring.
pub(super) fn is_reset(file: &OpenFile, link: &Link) -> bool {
    let sock = file.sock;
    if link.peer_closed() || sock.has(flag::RESET_TOLD) {
        return false;
    }
    let _held = tx::lock(file);
    let lies_there = sock.tx_in_ring() || back::is_marked(&link.own().tx);
    lies_there && sock.sender.unread(&link.peer().rx).unwrap_or(0) > 0
}

/// Tells an end of the stream: its error, once.
pub(super) fn tell(file: &OpenFile, fd: Fd, end: End) -> Result<(), Errno> {
    match end {
        End::File => Ok(()),
        End::Kernel => kernel_error(file, fd),
        End::Reset => {
            file.sock.raise(flag::RESET_TOLD);
            Err(Errno::ECONNRESET)
        }
    }
}

/// Has the kernel tell its error, which it does once.
fn kernel_error(file: &OpenFile, fd: Fd) -> Result<(), Errno> {
    if file.sock.kept_error.load(Ordering::Relaxed) != 0 {
        return Err(take_kept_error(file.sock));
    }
    let mut nothing = [0u8; 1];
    match call::recv(fd, &mut nothing, libc::MSG_DONTWAIT | libc::MSG_PEEK) {
        Err(errno) if errno != Errno::EAGAIN => Err(errno),
        _ => Ok(()),
    }
}

/// POLLERR and POLLHUP of a reset that the kernel's socket did not see, as [`Readable::reset`], where the peer's direction is
/// TCP's again.
pub fn reset_of(file: &OpenFile, link: &Link) -> u32 {
    let sock = file.sock;
    let is_back = sock.rx_state.load(Ordering::Acquire) == rx_state::BACK;
    if !is_back || !sock.has(flag::FIN) || link.peer().tx.shut.load(Ordering::Acquire) != 0 {
        return 0;
    }
    reset_bits(sock, is_reset(file, link))
}

fn reset_bits(sock: &Sock, is_reset: bool) -> u32 {
    let bits = match is_reset {
        true => libc::POLLERR | libc::POLLHUP,
        false if sock.has(flag::RESET_TOLD) => libc::POLLHUP,
        false => 0,
    };
    bits as u32
}

/// What poll would say of the receiving direction once it is in the ring.
#[derive(Clone, Copy, Default)]
pub struct Readable {
    /// A read would not wait.
    pub now: bool,
    /// The peer will send no more.
    pub ended: bool,
    /// POLLERR and POLLHUP of a reset that the kernel's socket did not see: the peer was killed with bytes unread.
    pub reset: u32,
}

/// Looks at a connection's receiving direction for poll; `None` while the bytes still come over TCP.
pub fn readable(file: &OpenFile, link: &Link) -> Option<Readable> {
    let (sock, fd) = (file.sock, file.fd());
    let _held = lock(file);
    if settle(file, fd).is_err() || sock.has(flag::BROKEN) {
        return Some(Readable { now: true, ended: true, reset: 0 });
    }
    let is_empty = || call::int_ioctl(fd, libc::FIONREAD) == Ok(0);
    let in_ring = sock.rx_state.load(Ordering::Relaxed) == rx_state::RING
        || sock.has(flag::FIN) && is_empty() && leave_unmoved_end(sock, link);
    if !in_ring {
        return None;
    }
    if link.peer_closed() && !sock.has(flag::FIN) {
        // The FIN is there or under way: whoever hears of the last bytes hears of the end with them, as on TCP.
        wait::note(file, event::poll_now(fd, libc::POLLRDHUP));
    }
    let end = stream_end(file, link);
    let ended = end.is_some();
    if ended && back::is_marked(&link.peer().tx) {
        // Whatever ended TCP did so behind what came over it since the mark, which may be news here.
        let is_settled = settle(file, fd).is_ok();
        if is_settled && sock.rx_state.load(Ordering::Relaxed) != rx_state::RING {
            return None;
        }
    }
    let reset = reset_bits(sock, matches!(end, Some(End::Reset)));
    // More than this a sender that waits for space may never put there.
    let most = (link.rx_ring().size() / 2) as usize;
    let low_water = (sock.low_water.load(Ordering::Relaxed).max(1) as usize).min(most);
    match sock.receiver.data(&link.peer().tx, link.rx_ring().size()) {
        Ok(data) => {
            // What is missing may lie in the kernel's socket, which tells of all that it has or nothing.
            let goes_on_there = !data.is_empty() && back::is_marked(&link.peer().tx);
            Some(Readable { now: ended || goes_on_there || data.len() >= low_water, ended, reset })
        }
        Err(Broken) => {
            broken(file, fd);
            Some(Readable { now: true, ended: true, reset: 0 })
        }
    }
}
