//! Receiving: from TCP up to the offset where the peer moved, then from the ring.

use crate::socket::calls::{Answer, Kernel};
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::group::Link;
use crate::socket::sock::{Sock, flag, phase, rx_state};
use crate::socket::tx::{self, broken, note_cpu};
use crate::socket::wait;
use preloop_shm::copy::{Buffers, Ring};
use preloop_shm::counted::Counted;
use preloop_shm::lock::Held;
use preloop_smc::ring::{Broken, Span};
use preloop_sys::sleep::{self, SignalMask};
use preloop_sys::{Errno, Fd, call, tcp};
use preloop_uapi::decline::Decline;
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

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
        return Answer::Kernel(kernel());
    }
    let low_water = sock.low_water.load(Ordering::Relaxed).max(1) as usize;
    let enough = if flags & libc::MSG_WAITALL != 0 { room.len() } else { low_water.min(room.len()) };
    let patient = flags & libc::MSG_DONTWAIT == 0 && !file.nonblocking();
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
        let until = *deadline.get_or_insert_with(|| wait::deadline_of(fd, libc::SO_RCVTIMEO));
        if let Err(errno) = wait_for_data(file, fd, until, got == 0, seen) {
            break Err(errno);
        }
    };
    Answer::Ours(match answer {
        Err(_) if got > 0 => Ok(got),
        other => other,
    })
}

/// Takes what there is; `true` when the call can return with it.
fn take(file: &OpenFile, fd: Fd, room: &Buffers<'_>, got: &mut usize, how: How) -> Result<bool, Errno> {
    let sock = file.sock;
    let _held = lock(file);
    let link = file.link();
    settle(file, fd)?;
    if sock.rx_state.load(Ordering::Relaxed) != rx_state::RING {
        match take_from_kernel(file, fd, room, got, how)? {
            FromKernel::Ended => return Ok(true),
            FromKernel::Empty if sock.has(flag::RX_SHUT) => return Ok(true),
            FromKernel::Empty => return Ok(*got > 0 && (!how.patient || *got >= how.enough)),
            // The last bytes over TCP were peeked at, or taken: what follows lies in the ring.
            FromKernel::RingNext => {}
            FromKernel::More => return Ok(*got >= how.enough || !how.patient),
        }
    }
    let Some(link) = link else { return Err(Errno::EINVAL) };
    take_from_ring(file, link, fd, room, got, how)
}

/// Takes the rx lock; what a sibling that died with it left undone is done.
pub fn lock(file: &OpenFile) -> Held<'_> {
    let held = file.sock.rx.lock();
    if held.owner_died {
        repair(file);
    }
    held
}

/// The previous owner of the rx lock died in it, perhaps between a kernel read and its count.
fn repair(file: &OpenFile) {
    let sock = file.sock;
    if let Some(link) = file.link() {
        sock.receiver.republish(&link.own().rx);
    }
    if sock.rx_state.load(Ordering::Relaxed) == rx_state::DRAINING {
        // Counted anew by `settle`.
        sock.rx_state.store(rx_state::KERNEL, Ordering::Relaxed);
    }
}

/// Learns where the peer moved, if it did. Under the rx lock.
fn settle(file: &OpenFile, fd: Fd) -> Result<(), Errno> {
    let sock = file.sock;
    if sock.rx_state.load(Ordering::Relaxed) != rx_state::KERNEL || sock.phase() != phase::SMC {
        return Ok(());
    }
    let Some(link) = file.link() else { return Ok(()) };
    let switch_at = link.peer().tx.switch_at.load(Ordering::Acquire);
    if switch_at == 0 {
        return Ok(());
    }
    let state = match tcp::taken(fd) {
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

/// The kernel's socket is empty and gets no more: on to the ring, unless a reset cut TCP short. What lies in the ring
/// then stands behind a hole, and is lost with it, as it would be had all of it gone over TCP.
fn leave_ended_kernel(sock: &Sock, fd: Fd) -> bool {
    let complete = tcp::received(fd).is_some_and(|got| got >= sock.kernel_left.load(Ordering::Relaxed));
    if complete {
        sock.rx_state.store(rx_state::RING, Ordering::Release);
    }
    complete
}

enum FromKernel {
    /// The stream ended there.
    Ended,
    /// Nothing is there now.
    Empty,
    /// Something came; more may follow there.
    More,
    /// All that TCP carries was seen; the ring continues.
    RingNext,
}

fn take_from_kernel(
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
        return if kept { Err(take_kept_error(sock)) } else { Ok(FromKernel::Ended) };
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
fn keep_error(sock: &Sock, errno: Errno) {
    sock.kept_error.store(errno.into_raw() as u32, Ordering::Relaxed);
}

fn take_kept_error(sock: &Sock) -> Errno {
    Errno::new(sock.kept_error.swap(0, Ordering::Relaxed) as i32)
}

/// TCP ended before the peer was known to have moved: it may have confirmed, moved, sent and closed, all after this
/// call's first look. Then the stream goes on in the ring. Called without locks.
fn moved_before_end(file: &OpenFile) -> bool {
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

fn take_from_ring(
    file: &OpenFile,
    link: &Link,
    fd: Fd,
    room: &Buffers<'_>,
    got: &mut usize,
    how: How,
) -> Result<bool, Errno> {
    let sock = file.sock;
    note_cpu(&link.own().rx.cpu);
    if sock.has(flag::BROKEN) {
        return Err(Errno::ECONNRESET);
    }
    if *got == room.len() {
        return Ok(true);
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
            None => Ok(*got >= how.enough || (!how.patient && *got > 0)),
            Some(_) if *got > 0 => Ok(true),
            Some(End::File) => Ok(true),
            Some(End::Kernel) => kernel_error(file, fd),
            Some(End::Reset) => {
                sock.raise(flag::RESET_TOLD);
                Err(Errno::ECONNRESET)
            }
        };
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
    if !how.peeks() {
        consume(file, link, span.len());
    }
    // A peek cannot wait for more than the ring holds, nor for what the sender would need space for.
    let size = link.rx_ring().size() as usize;
    let full = how.peeks() && data.len() >= size - size / 4;
    Ok(*got >= how.enough || !how.patient || end.is_some() || full)
}

/// Gives the space of `bytes` back to the sender, and wakes it when it waits for that. Under the rx lock.
pub fn consume(file: &OpenFile, link: &Link, bytes: usize) {
    file.sock.receiver.consume(&link.own().rx, bytes);
    if file.sock.receiver.space_wanted(&link.peer().tx, link.rx_ring().size()) {
        link.notify();
    }
}

/// How the incoming stream ends once the ring is empty.
enum End {
    /// End of file.
    File,
    /// The kernel has an error to tell.
    Kernel,
    /// The peer vanished before it read what this end sent: as when it closes with unread data.
    Reset,
}

fn stream_end(file: &OpenFile, link: &Link) -> Option<End> {
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
    let vanished = !link.peer_closed() && !sock.has(flag::RESET_TOLD);
    let unread = vanished && {
        let _held = tx::lock(file);
        sock.tx_in_ring() && sock.sender.unread(&link.peer().rx).unwrap_or(0) > 0
    };
    Some(if unread { End::Reset } else { End::File })
}

/// Has the kernel tell its error, which it does once.
fn kernel_error(file: &OpenFile, fd: Fd) -> Result<bool, Errno> {
    if file.sock.kept_error.load(Ordering::Relaxed) != 0 {
        return Err(take_kept_error(file.sock));
    }
    let mut nothing = [0u8; 1];
    match call::recv(fd, &mut nothing, libc::MSG_DONTWAIT | libc::MSG_PEEK) {
        Err(errno) if errno != Errno::EAGAIN => Err(errno),
        _ => Ok(true),
    }
}

/// What poll would say of the receiving direction once it is in the ring.
#[derive(Clone, Copy, Default)]
pub struct Readable {
    /// A read would not wait.
    pub now: bool,
    /// The peer will send no more.
    pub ended: bool,
}

/// Looks at a connection's receiving direction for poll; `None` while the bytes still come over TCP.
pub fn readable(file: &OpenFile, link: &Link) -> Option<Readable> {
    let (sock, fd) = (file.sock, file.fd());
    let _held = lock(file);
    if settle(file, fd).is_err() || sock.has(flag::BROKEN) {
        return Some(Readable { now: true, ended: true });
    }
    if sock.rx_state.load(Ordering::Relaxed) != rx_state::RING {
        return None;
    }
    let ended = stream_end(file, link).is_some();
    // More than this a sender that waits for space may never put there.
    let most = (link.rx_ring().size() / 2) as usize;
    let low_water = (sock.low_water.load(Ordering::Relaxed).max(1) as usize).min(most);
    match sock.receiver.data(&link.peer().tx, link.rx_ring().size()) {
        Ok(data) => Some(Readable { now: ended || data.len() >= low_water, ended }),
        Err(Broken) => {
            broken(file, fd);
            Some(Readable { now: true, ended: true })
        }
    }
}

/// Bytes that a read would find, for FIONREAD.
pub fn queued(file: &OpenFile, fd: Fd) -> Result<usize, Errno> {
    let sock = file.sock;
    let _held = lock(file);
    settle(file, fd)?;
    let state = sock.rx_state.load(Ordering::Relaxed);
    let in_kernel = if state == rx_state::RING { 0 } else { call::int_ioctl(fd, libc::FIONREAD)?.max(0) as usize };
    let all_there = state == rx_state::RING
        || (state == rx_state::DRAINING && in_kernel as u64 == sock.kernel_left.load(Ordering::Relaxed));
    let in_ring = match file.link().filter(|_| all_there) {
        Some(link) => {
            let data = sock.receiver.data(&link.peer().tx, link.rx_ring().size());
            data.map_err(|Broken| broken(file, fd))?.len()
        }
        None => 0,
    };
    Ok(in_kernel + in_ring)
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
    let Some(link) = &prepared else {
        let ready = || stepped() || sock.has(flag::RX_SHUT);
        return wait::sleep(file, fd, libc::POLLIN, deadline, restartable, ready);
    };
    let peer = &link.peer().tx;
    if !sock.rx_in_ring() {
        let moved = || {
            let unsettled = sock.rx_state.load(Ordering::Acquire) == rx_state::KERNEL;
            (unsettled && peer.switch_at.load(Ordering::Acquire) != 0) || stepped() || sock.has(flag::RX_SHUT)
        };
        return wait::sleep(file, fd, libc::POLLIN, deadline, restartable, moved);
    }
    let news = || peer.prod.load(Ordering::Acquire) != seen || peer.shut.load(Ordering::Acquire) != 0;
    if wait::peer_elsewhere(peer.cpu.load(Ordering::Relaxed)) && wait::spin(&file.spin, deadline, news) {
        return Ok(());
    }
    let events = if sock.has(flag::FIN) { 0 } else { libc::POLLRDHUP };
    wait::sleep(file, fd, events, deadline, restartable, || news() || sock.has(flag::RX_SHUT | flag::BROKEN))
}

/// What became of ring bytes that were handed to a file.
pub enum Drained {
    /// So many were taken; 0 says that the file takes none now.
    Bytes(usize),
    /// None were taken, and the file must become writable first.
    Full,
    /// The file answered an error.
    Failed(Errno),
}

/// Hands ring bytes to a file, for splice(2): once there are any. What TCP still carries of a connection that is just
/// moving goes through `from_kernel`, which moves at most so many bytes from a descriptor and does not wait.
///
/// # Errors
/// EAGAIN, EINTR, those of the file and of the connection.
pub fn drain_to(
    file: &Counted<OpenFile>,
    len: usize,
    nonblocking: bool,
    to: Fd,
    from_kernel: &mut dyn FnMut(Fd, usize) -> Result<usize, Errno>,
    with: &mut dyn FnMut(&Ring, Span) -> Drained,
) -> Result<usize, Errno> {
    let (sock, Some(link)) = (file.sock, file.link()) else { return Err(Errno::EINVAL) };
    let patient = !nonblocking && !file.nonblocking();
    loop {
        let fd = file.fd();
        let seen = link.peer().tx.prod.load(Ordering::Acquire);
        let held = lock(file);
        settle(file, fd)?;
        if sock.rx_state.load(Ordering::Relaxed) == rx_state::RING {
            let ended = stream_end(file, link).is_some();
            let data = sock.receiver.data(&link.peer().tx, link.rx_ring().size()).map_err(|Broken| broken(file, fd))?;
            if !data.is_empty() {
                match with(link.rx_ring(), data.take(len)) {
                    Drained::Bytes(0) => return Err(Errno::EAGAIN),
                    Drained::Bytes(count) => {
                        consume(file, link, count);
                        return Ok(count);
                    }
                    Drained::Failed(errno) => return Err(errno),
                    Drained::Full => {
                        drop(held);
                        wait_for_pipe(to)?;
                        continue;
                    }
                }
            }
            if ended {
                return Ok(0);
            }
            wait::look_at_kernel(file, fd);
        } else {
            let kernel_only = sock.rx_state.load(Ordering::Relaxed) == rx_state::KERNEL;
            match drain_kernel(sock, fd, len, from_kernel) {
                Err(Errno::EAGAIN) if patient && call::poll_now(fd, libc::POLLIN) != 0 => {
                    // Not for want of bytes.
                    drop(held);
                    wait_for_pipe(to)?;
                    continue;
                }
                Err(Errno::EAGAIN) => {}
                Ok(0) if kernel_only => {
                    drop(held);
                    if !moved_before_end(file) {
                        return Ok(0);
                    }
                    continue;
                }
                Ok(0) if sock.rx_in_ring() => continue,
                answer => return answer,
            }
        }
        drop(held);
        if !patient {
            return Err(Errno::EAGAIN);
        }
        wait_for_data(file, fd, None, true, seen)?;
    }
}

fn wait_for_pipe(pipe: Fd) -> Result<(), Errno> {
    let mut entry = [libc::pollfd { fd: pipe, events: libc::POLLOUT, revents: 0 }];
    sleep::poll(&mut entry, None, SignalMask::NONE).map(drop)
}

/// One step of [`drain_to`] while TCP still has bytes.
fn drain_kernel(
    sock: &Sock,
    fd: Fd,
    len: usize,
    move_up_to: &mut dyn FnMut(Fd, usize) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let draining = sock.rx_state.load(Ordering::Relaxed) == rx_state::DRAINING;
    let left = if draining { sock.kernel_left.load(Ordering::Relaxed) as usize } else { usize::MAX };
    let moved = move_up_to(fd, len.min(left))?;
    if draining {
        sock.kernel_left.store((left - moved) as u64, Ordering::Relaxed);
        if left == moved {
            sock.rx_state.store(rx_state::RING, Ordering::Release);
        }
    } else if moved == 0
        && sock.rx_state.load(Ordering::Relaxed) == rx_state::DRAINING_TO_END
        && leave_ended_kernel(sock, fd)
    {
        sock.raise(flag::FIN);
    }
    Ok(moved)
}
