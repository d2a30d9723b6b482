//! Receiving: from TCP up to the offset where the peer moved, then from the ring.

mod drain;
mod kernel;
mod now;
mod ring;

use crate::socket::back as change_back;
use crate::socket::calls::{Answer, Kernel};
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::kcm::lower;
use crate::socket::sock::{flag, phase, rx_state};
use crate::socket::tx::broken;
use crate::socket::wait;
use kernel::{FromKernel, keep_error, moved_before_end, ring_follows, take_from_kernel};
use preloop_shm::copy::Buffers;
use preloop_shm::counted::Counted;
use preloop_shm::lock::Held;
use preloop_smc::back;
use preloop_smc::ring::Broken;
use preloop_sys::{Errno, Fd, call, cancel};
use preloop_uapi::decline::Decline;
use preloop_uapi::sync::Ordering;
use ring::take_from_ring;
use std::sync::Arc;

pub use drain::{Drained, drain_to};
pub use kernel::{learn, settle};
pub use now::{discard, peek, position};
pub use ring::{readable, reset_of};

/// How one call reads.
#[derive(Clone, Copy)]
struct How {
    flags: i32,
    patient: bool,
    /// Bytes without which a patient call does not return.
    enough: usize,
}

impl How {
    fn peeks(self) -> bool {
        self.flags & libc::MSG_PEEK != 0
    }

    /// Whether the call waits for bytes to pile up unread: in the kernel's socket only the kernel can do that.
    fn must_collect_in_kernel(self) -> bool {
        self.patient && self.enough > 1 && (self.peeks() || self.flags & libc::MSG_WAITALL == 0)
    }
}

/// Receives into the buffers; `kernel` is the program's own call, for connections that stay on TCP.
pub fn receive(file: &Counted<OpenFile>, fd: Fd, room: &Buffers<'_>, flags: i32, kernel: Kernel<'_>) -> Answer {
    let sock = file.sock;
    if matches!(sock.phase(), phase::TCP | phase::INIT) || flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) != 0 {
        if sock.posted.load(Ordering::Relaxed) != 0
            && let Some(error) = lower::error_of_receive(file, fd, room.len(), flags)
        {
            return Answer::Ours(Err(error));
        }
        return Answer::Kernel(kernel());
    }
    cancel::point();
    let low_water = sock.low_water.load(Ordering::Relaxed).max(1) as usize;
    // A call with no room waits for a byte, too.
    let enough = if flags & libc::MSG_WAITALL != 0 { room.len() } else { low_water.min(room.len()) }.max(1);
    let patient = flags & libc::MSG_DONTWAIT == 0 && !file.nonblocking();
    if room.is_empty() && !patient && !sock.rx_in_ring() {
        return Answer::Kernel(kernel());
    }
    let how = How { flags, patient, enough };
    let mut got = 0;
    let mut deadline = None;
    if how.must_collect_in_kernel() && sock.phase() < phase::SMC {
        clc::pin(file, Decline::OPTION);
    }
    let answer = loop {
        // Another thread may have closed what the program's number stood for: it is not asked twice.
        let fd = if deadline.is_none() { fd } else { file.fd() };
        // Loaded before the look below: what is published later differs, and ends the wait.
        let seen = file.link().map_or(0, |link| link.peer().tx.prod.load(Ordering::Acquire));
        if sock.phase() < phase::SMC {
            clc::step(file, fd, false);
        }
        if sock.phase() == phase::TCP && deadline.is_none() {
            return Answer::Kernel(kernel());
        }
        match take(file, fd, room, &mut got, how) {
            Ok(true) if got == 0 && !room.is_empty() && moved_before_end(file) => continue,
            Ok(true) => break Ok(got),
            Ok(false) if !how.patient => break Err(Errno::EAGAIN),
            Ok(false) => {}
            Err(errno) if !sock.has(flag::BROKEN) && moved_before_end(file) => {
                keep_error(sock, errno);
                continue;
            }
            Err(errno) => break Err(errno),
        }
        if how.peeks() {
            got = 0;
        }
        let until = *deadline.get_or_insert_with(|| wait::deadline_of(file, fd, libc::SO_RCVTIMEO));
        if let Err(errno) = wait_for_data(file, fd, until, got == 0, seen) {
            break Err(errno);
        }
    };
    Answer::Ours(match answer {
        Err(_) if got > 0 => Ok(got),
        other => other,
    })
}

/// Takes what there is; `true` when the call can return with it. Where there is nothing, an error that KCM posted is told.
fn take(file: &OpenFile, fd: Fd, room: &Buffers<'_>, got: &mut usize, how: How) -> Result<bool, Errno> {
    let drained = Drains::start(file);
    let taken = take_under_lock(file, fd, room, got, how);
    drained.finish();
    let is_posted = || *got == 0 && file.sock.posted.load(Ordering::Relaxed) != 0 && !moved_before_end(file);
    match taken {
        Ok(false) if is_posted() => lower::take_error(file).map_or(Ok(false), Err),
        taken => taken,
    }
}

/// A call that may take TCP's last bytes. Until they are gone poll and epoll leave the answer to the kernel, and epoll
/// sets forget what the peer noted of the ring meanwhile. So they look again afterwards: an end of the stream that is
/// already there is told although the program took its data in one read that came back short. Without locks.
struct Drains<'a>(Option<&'a OpenFile>);

impl<'a> Drains<'a> {
    fn start(file: &'a OpenFile) -> Self {
        Self(file.link().is_some().then_some(file).filter(|file| !file.sock.rx_in_ring()))
    }

    fn finish(self) {
        if let Some(file) = self.0.filter(|file| file.sock.rx_in_ring()) {
            clc::tell_watchers(file);
        }
    }
}

fn take_under_lock(file: &OpenFile, fd: Fd, room: &Buffers<'_>, got: &mut usize, how: How) -> Result<bool, Errno> {
    let sock = file.sock;
    let _held = lock(file);
    loop {
        let link = file.link();
        settle(file, fd)?;
        if sock.rx_state.load(Ordering::Relaxed) != rx_state::RING {
            match take_from_kernel(file, fd, room, got, how)? {
                FromKernel::Ended => return Ok(true),
                FromKernel::Empty if sock.has(flag::RX_SHUT) => return Ok(true),
                FromKernel::Empty => return Ok(*got > 0 && (!how.patient || *got >= how.enough)),
                // The last bytes over TCP were peeked at, or taken: what follows lies in the ring.
                FromKernel::RingNext => {}
                FromKernel::More if how.peeks() && *got < room.len() && ring_follows(sock, fd) => {}
                FromKernel::More => return Ok(*got >= how.enough || !how.patient),
            }
        }
        let Some(link) = link else { return Err(Errno::EINVAL) };
        if let Some(is_enough) = take_from_ring(file, link, fd, room, got, how)? {
            return Ok(is_enough);
        }
    }
}

/// Has this end do what the peer may have asked for; see [`settle`].
pub fn heed(file: &OpenFile, fd: Fd) {
    let _held = lock(file);
    let _ = settle(file, fd);
}

/// Takes the rx lock; what a sibling that died with it left undone is done.
pub fn lock(file: &OpenFile) -> Held<'_> {
    let held = file.sock.rx.lock();
    if held.owner_died {
        repair(file);
    }
    held
}

/// As [`lock`], unless somebody holds it.
pub fn try_lock(file: &OpenFile) -> Option<Held<'_>> {
    let held = file.sock.rx.try_lock()?;
    if held.owner_died {
        repair(file);
    }
    Some(held)
}

/// The previous owner of the rx lock died in it, perhaps between a kernel read and its count.
fn repair(file: &OpenFile) {
    let sock = file.sock;
    if let Some(link) = file.link() {
        sock.receiver.republish(&link.own().rx);
        // It may not have come to tell of it.
        link.notify();
        change_back::repair(file, link);
    }
    if sock.rx_state.load(Ordering::Relaxed) == rx_state::DRAINING {
        // Counted anew by `settle`.
        sock.rx_state.store(rx_state::KERNEL, Ordering::Relaxed);
    }
}

/// Waits until the peer publishes beyond `seen`, the stream ends, or, before it moved, TCP has something.
fn wait_for_data(
    file: &Counted<OpenFile>,
    fd: Fd,
    deadline: wait::Deadline,
    restartable: bool,
    seen: u64,
) -> Result<(), Errno> {
    let sock = file.sock;
    let (phase, prepared) = (sock.phase(), file.prepared());
    // The handshake took a step since this call looked, or memory came and went: the call looks again.
    let stepped = || {
        let now = file.prepared();
        sock.phase() != phase || now.as_ref().map(Arc::as_ptr) != prepared.as_ref().map(Arc::as_ptr)
    };
    let how = |events| wait::Sleep { events, deadline, restartable, looks_again: false };
    let Some(link) = &prepared else {
        let ready = || stepped() || sock.has(flag::RX_SHUT);
        return wait::sleep(file, fd, how(libc::POLLIN), ready);
    };
    let peer = &link.peer().tx;
    let is_asked = || sock.phase() != phase::TCP && back::is_asked(&link.peer().rx);
    if !sock.rx_in_ring() {
        let moved = || {
            let unsettled = sock.rx_state.load(Ordering::Acquire) == rx_state::KERNEL;
            let moves = || peer.switch_at.load(Ordering::Acquire) != 0 || back::is_marked(peer);
            unsettled && moves() || stepped() || is_asked() || sock.has(flag::RX_SHUT)
        };
        return wait::sleep(file, fd, how(libc::POLLIN), moved);
    }
    let news = || {
        let published = peer.prod.load(Ordering::Acquire) != seen || peer.shut.load(Ordering::Acquire) != 0;
        published || back::is_marked(peer)
    };
    if wait::peer_elsewhere(peer.cpu.load(Ordering::Relaxed)) && wait::spin(&file.spin, deadline, news) {
        return Ok(());
    }
    let events = wait::of_end(file, link);
    // The line where the peer asks is not for a spin: it stores its cursor there when it reads.
    let ready = || news() || is_asked() || sock.has(flag::RX_SHUT | flag::BROKEN);
    wait::sleep(file, fd, how(events), ready)
}

/// Whether the next byte to read lies in the ring, so that no mark of urgent data is there.
pub fn is_before_mark(file: &OpenFile, fd: Fd) -> bool {
    let sock = file.sock;
    let _held = lock(file);
    let Some(link) = file.link().filter(|_| settle(file, fd).is_ok() && sock.rx_in_ring()) else { return false };
    sock.receiver.data(&link.peer().tx, link.rx_ring().size()).is_ok_and(|data| !data.is_empty())
}

/// Bytes that a read would find, for FIONREAD.
pub fn queued(file: &OpenFile, fd: Fd) -> Result<usize, Errno> {
    let sock = file.sock;
    let _held = lock(file);
    settle(file, fd)?;
    let state = sock.rx_state.load(Ordering::Relaxed);
    let goes_on_there = || file.link().is_some_and(|link| back::is_marked(&link.peer().tx));
    let in_kernel = if state == rx_state::RING && !goes_on_there() {
        0
    } else {
        call::int_ioctl(fd, libc::FIONREAD)?.max(0) as usize
    };
    let all_there = state == rx_state::RING
        || (state == rx_state::DRAINING && in_kernel as u64 == sock.kernel_left.load(Ordering::Relaxed))
        || ring_follows(sock, fd);
    let in_ring = match file.link().filter(|_| all_there) {
        Some(link) => {
            let data = sock.receiver.data(&link.peer().tx, link.rx_ring().size());
            data.map_err(|Broken| broken(file, fd))?.len()
        }
        None => 0,
    };
    Ok(in_kernel + in_ring)
}
