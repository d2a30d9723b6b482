//! What TCP still carries: up to the offset where the peer moved, or to its end.

use super::How;
use super::ring::{End as RxEnd, is_reset, tell};
use crate::socket::back::{End, answer, finish};
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::sock::{Sock, flag, phase, rx_state, tx_state};
use crate::socket::tx::broken;
use preloop_shm::copy::Buffers;
use preloop_smc::back;
use preloop_smc::ring::Broken;
use preloop_sys::{Errno, Fd, call, tcp};
use preloop_uapi::sync::Ordering;

/// Learns where the peer moved, if it did, and whether it moved back; answers it, if it wants this end to. Under the rx lock.
pub fn settle(file: &OpenFile, fd: Fd) -> Result<(), Errno> {
    let Some(link) = file.link() else { return Ok(()) };
    if back::is_asked(&link.peer().rx) {
        answer::answer(file, link, fd);
    }
    learn(file, link, fd)?;
    if back::is_marked(&link.peer().tx) { leave_ring(file, link, fd) } else { Ok(()) }
}

/// The peer publishes no more: behind what is in the ring the stream goes on in the kernel's socket.
fn leave_ring(file: &OpenFile, link: &Link, fd: Fd) -> Result<(), Errno> {
    let sock = file.sock;
    let is_empty = || {
        let data = sock.receiver.data(&link.peer().tx, link.rx_ring().size()).map_err(|Broken| broken(file, fd))?;
        Ok(data.is_empty())
    };
    let leaves = match sock.rx_state.load(Ordering::Relaxed) {
        // It never moved.
        rx_state::KERNEL => link.peer().tx.switch_at.load(Ordering::Acquire) == 0,
        rx_state::RING => is_empty()?,
        // It had sent urgent data before it asked for the other direction, too.
        rx_state::BACK => sock.tx_state.load(Ordering::Acquire) == tx_state::BACK,
        _ => false,
    };
    if leaves {
        sock.rx_state.store(rx_state::BACK, Ordering::Release);
        finish(file, link, fd, End::Peer);
    }
    Ok(())
}

/// Learns where the peer moved, if it did. Under the rx lock.
pub fn learn(file: &OpenFile, link: &Link, fd: Fd) -> Result<(), Errno> {
    let sock = file.sock;
    if sock.rx_state.load(Ordering::Relaxed) != rx_state::KERNEL {
        return Ok(());
    }
    let is_marked = back::is_marked(&link.peer().tx);
    let switch_at = link.peer().tx.switch_at.load(Ordering::Acquire);
    if switch_at == 0 {
        return Ok(());
    }
    // What comes over TCP once it has moved back, an end too, must not be taken for what came before; perhaps it has just now.
    let taken = if is_marked { None } else { tcp::taken(fd) };
    let taken = match taken {
        None if back::is_marked(&link.peer().tx) => Some(tcp::read_position(fd).ok_or_else(|| broken(file, fd))?),
        taken => taken,
    };
    let state = match taken {
        None => {
            sock.kernel_left.store(switch_at - 1, Ordering::Relaxed);
            rx_state::DRAINING_TO_END
        }
        Some(taken) => {
            let left = (switch_at - 1).checked_sub(taken).ok_or_else(|| broken(file, fd))?;
            sock.kernel_left.store(left, Ordering::Relaxed);
            if left == 0 { rx_state::RING } else { rx_state::DRAINING }
        }
    };
    sock.rx_state.store(state, Ordering::Release);
    Ok(())
}

/// Whether the kernel's socket gets no more, and the ring continues behind what it has.
pub(super) fn ring_follows(sock: &Sock, fd: Fd) -> bool {
    let gets_no_more = sock.rx_state.load(Ordering::Relaxed) == rx_state::DRAINING_TO_END;
    gets_no_more && tcp::received(fd).is_some_and(|got| got >= sock.kernel_left.load(Ordering::Relaxed))
}

/// The kernel's socket is empty and gets no more: on to the ring, unless a reset cut TCP short. What lies in the ring
/// then stands behind a hole, and is lost with it, as it would be had all of it gone over TCP.
pub(super) fn leave_ended_kernel(sock: &Sock, fd: Fd) -> bool {
    let follows = ring_follows(sock, fd);
    if follows {
        sock.rx_state.store(rx_state::RING, Ordering::Release);
    }
    follows
}

/// TCP ended with the peer still sending over it: what the end means, a close or a reset, the ring tells into which this
/// end has moved. On to it, although nothing will come there; unless the peer has moved after all, and is just not known to.
/// Under the rx lock, with TCP empty and its end seen.
pub(super) fn leave_unmoved_end(sock: &Sock, link: &Link) -> bool {
    let leaves = sock.rx_state.load(Ordering::Relaxed) == rx_state::KERNEL
        && sock.tx_in_ring()
        && !sock.has(flag::RX_SHUT)
        && link.peer().tx.switch_at.load(Ordering::Acquire) == 0;
    if leaves {
        sock.raise(flag::FIN);
        sock.rx_state.store(rx_state::RING, Ordering::Release);
    }
    leaves
}

pub(super) enum FromKernel {
    /// The stream ended there.
    Ended,
    /// Nothing is there now.
    Empty,
    /// Something came; more may follow there.
    More,
    /// All that TCP carries was seen; the ring continues.
    RingNext,
}

pub(super) fn take_from_kernel(
    file: &OpenFile,
    fd: Fd,
    room: &Buffers<'_>,
    got: &mut usize,
    how: How,
) -> Result<FromKernel, Errno> {
    let sock = file.sock;
    let state = sock.rx_state.load(Ordering::Relaxed);
    let left = if state == rx_state::DRAINING { sock.kernel_left.load(Ordering::Relaxed) as usize } else { usize::MAX };
    if room.is_empty() {
        return Ok(FromKernel::Ended);
    }
    if state == rx_state::BACK && *got > 0 && call::int_ioctl(fd, call::SIOCATMARK) == Ok(1) {
        // A read ends where urgent data was. The kernel does not know that this one has bytes.
        return Ok(FromKernel::Ended);
    }
    let flags = how.flags & (libc::MSG_PEEK | libc::MSG_TRUNC) | libc::MSG_DONTWAIT;
    let received = match room.receive(fd, *got, left, flags) {
        Ok(received) => received,
        Err(Errno::EAGAIN) => return Ok(FromKernel::Empty),
        Err(errno) if state == rx_state::DRAINING_TO_END && leave_ended_kernel(sock, fd) => {
            // What lies in the ring was sent before the error happened.
            sock.raise(flag::ERROR);
            keep_error(sock, errno);
            return Ok(FromKernel::RingNext);
        }
        Err(errno) => return Err(errno),
    };
    if received == 0 {
        let kept = sock.kept_error.load(Ordering::Relaxed) != 0;
        if state == rx_state::DRAINING_TO_END && leave_ended_kernel(sock, fd) {
            sock.raise(if kept { flag::ERROR } else { flag::FIN });
            return Ok(FromKernel::RingNext);
        }
        if kept {
            return Err(take_kept_error(sock));
        }
        let Some(link) = file.link() else { return Ok(FromKernel::Ended) };
        if state == rx_state::BACK && link.peer().tx.shut.load(Ordering::Acquire) == 0 && is_reset(file, link) {
            return tell(file, fd, RxEnd::Reset).map(|()| FromKernel::Ended);
        }
        return Ok(if leave_unmoved_end(sock, link) { FromKernel::RingNext } else { FromKernel::Ended });
    }
    *got += received;
    count(sock);
    if how.peeks() {
        return Ok(if received == left { FromKernel::RingNext } else { FromKernel::More });
    }
    if state == rx_state::DRAINING {
        sock.kernel_left.store((left - received) as u64, Ordering::Relaxed);
        if left == received {
            sock.rx_state.store(rx_state::RING, Ordering::Release);
            return Ok(FromKernel::RingNext);
        }
    }
    Ok(FromKernel::More)
}

/// The kernel told an error once and will not repeat it: it is kept until the ring is empty.
pub(super) fn keep_error(sock: &Sock, errno: Errno) {
    sock.kept_error.store(errno.into_raw() as u32, Ordering::Relaxed);
}

pub(super) fn take_kept_error(sock: &Sock) -> Errno {
    Errno::new(sock.kept_error.swap(0, Ordering::Relaxed) as i32)
}

/// TCP ended before the peer was known to have moved: it may have confirmed, moved, sent and closed, all after this
/// call's first look. Then the stream goes on in the ring. Called without locks.
pub(super) fn moved_before_end(file: &OpenFile) -> bool {
    let sock = file.sock;
    if sock.rx_state.load(Ordering::Acquire) != rx_state::KERNEL {
        return false;
    }
    clc::notice(file);
    file.link().is_some_and(|link| link.peer().tx.switch_at.load(Ordering::Acquire) != 0)
}

/// Counts a receiving call of a connection that has not moved.
fn count(sock: &Sock) {
    if sock.phase() < phase::SMC {
        sock.receives.fetch_add(1, Ordering::Relaxed);
        if sock.lower(flag::ASKED) {
            sock.answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}
