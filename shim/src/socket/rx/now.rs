//! Receiving for a KCM mux, which never waits: bytes are peeked at, and taken afterwards.

use super::kernel::{keep_error, leave_ended_kernel, moved_before_end, settle};
use super::ring::consume;
use super::{How, lock, take_under_lock};
use crate::socket::file::OpenFile;
use crate::socket::sock::{flag, rx_state};
use preloop_shm::copy::lend;
use preloop_sys::{Errno, Fd, call, tcp};
use preloop_uapi::sync::Ordering;

/// Copies the bytes that are there and leaves them: fewer than fit only when that is all. `Ok(0)` is the end of the stream.
///
/// # Errors
/// EAGAIN; those of the connection.
pub fn peek(file: &OpenFile, fd: Fd, into: &mut [u8]) -> Result<usize, Errno> {
    let how = How { flags: libc::MSG_PEEK | libc::MSG_DONTWAIT, patient: false, enough: 1 };
    lend(into, |room| {
        loop {
            let mut got = 0;
            match take_under_lock(file, fd, &room, &mut got, how) {
                Ok(_) if got > 0 => return Ok(got),
                Ok(true) if moved_before_end(file) => {}
                Ok(true) if peer_may_send(file) => return Err(Errno::EAGAIN),
                Ok(true) => return Ok(0),
                Ok(false) => return Err(Errno::EAGAIN),
                Err(errno) if !file.sock.has(flag::BROKEN) && moved_before_end(file) => keep_error(file.sock, errno),
                Err(errno) => return Err(errno),
            }
        }
    })
}

/// Whether a stream that has ended was shut down here: bytes that come nevertheless are received.
fn peer_may_send(file: &OpenFile) -> bool {
    let has_shut = || file.link().is_some_and(|link| link.peer().tx.shut.load(Ordering::Acquire) != 0);
    file.sock.has(flag::RX_SHUT) && !file.sock.has(flag::FIN | flag::ERROR) && !has_shut()
}

/// Takes `n` bytes that a peek has shown. If a read of the program's was quicker there are fewer.
pub fn discard(file: &OpenFile, fd: Fd, mut n: usize) {
    let (sock, Some(link)) = (file.sock, file.link()) else { return };
    let _held = lock(file);
    if settle(file, fd).is_err() {
        return;
    }
    while n > 0 && !sock.rx_in_ring() {
        let drains = sock.rx_state.load(Ordering::Relaxed) == rx_state::DRAINING;
        let left = if drains { sock.kernel_left.load(Ordering::Relaxed) } else { u64::MAX };
        let taken = call::discard(fd, n.min(usize::try_from(left).unwrap_or(usize::MAX)));
        match taken {
            Ok(taken) if taken > 0 => {
                n -= taken.min(n);
                if drains {
                    sock.kernel_left.store(left - taken as u64, Ordering::Relaxed);
                }
                if left == taken as u64 {
                    sock.rx_state.store(rx_state::RING, Ordering::Release);
                }
            }
            Err(Errno::EAGAIN) => return,
            ended if leave_ended_kernel(sock, fd) => {
                sock.raise(if ended.is_err() { flag::ERROR } else { flag::FIN });
                if let Err(errno) = ended {
                    keep_error(sock, errno);
                }
            }
            _ => return,
        }
    }
    if n > 0
        && let Ok(data) = sock.receiver.data(&link.peer().tx, link.rx_ring().size())
    {
        consume(file, link, n.min(data.len()));
    }
}

/// How far the stream was read, in bytes from its beginning, while nobody reads; `None` where that is not known.
pub fn position(file: &OpenFile, fd: Fd) -> Option<u64> {
    let link = file.link()?;
    let _held = lock(file);
    settle(file, fd).ok()?;
    match file.sock.rx_state.load(Ordering::Relaxed) {
        rx_state::BACK => tcp::taken(fd)?.checked_add(file.sock.receiver.taken()),
        rx_state::RING => {
            let over_tcp = link.peer().tx.switch_at.load(Ordering::Acquire).checked_sub(1)?;
            over_tcp.checked_add(file.sock.receiver.taken())
        }
        rx_state::DRAINING_TO_END => None,
        _ => tcp::taken(fd),
    }
}
