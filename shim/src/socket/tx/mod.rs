//! Sending: over TCP until the direction moves, through the ring afterwards.

mod now;

use crate::socket::calls::{Answer, Kernel};
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::kcm::lower;
use crate::socket::link::Link;
use crate::socket::sock::{Sock, flag, phase};
use crate::socket::wait;
use crate::stats;
use preloop_shm::copy::{Buffers, Ring, Store};
use preloop_shm::counted::Counted;
use preloop_shm::lock::Held;
use preloop_smc::ring::{Broken, Span};
use preloop_sys::{Errno, Fd, call, cancel, clock, errno, process, tcp};
use preloop_uapi::ring::shut;
use preloop_uapi::sync::{Ordering, fence};

pub use now::{position, send_now};

/// Bytes published at a time, so that the receiver works on the first while the rest is copied.
const PIECE: usize = 32 << 10;

/// Bytes from which a piece is stored past the caches when the receiver runs on another processor. A smaller one is
/// mostly a request or reply, whose receiver waits for it: it comes soonest from the sender's cache.
const STREAM_FROM: usize = 2 << 10;

/// Failures to move after which it is tried less and less often.
const OFTEN: u32 = 16;

/// `Sock::tx_state` while a sender is about to move the direction: nobody enters the kernel's write.
const MOVING: u32 = 1;
const MOVED: u32 = 2;

/// Where the bytes to send come from.
pub trait Source {
    /// Bytes wanted in all.
    fn len(&self) -> usize;

    /// Puts up to the span's bytes into the ring, `done` bytes having been put before; how many it put. Fewer than the
    /// span says that there are no more. `store` is how they are best stored.
    ///
    /// # Errors
    /// What reading the source answers.
    fn fill(&mut self, ring: &Ring, span: Span, done: usize, store: Store) -> Result<usize, Errno>;
}

impl Source for &Buffers<'_> {
    fn len(&self) -> usize {
        Buffers::len(self)
    }

    fn fill(&mut self, ring: &Ring, span: Span, done: usize, store: Store) -> Result<usize, Errno> {
        let mut at = done;
        for (offset, len) in span.pieces() {
            ring.fill(offset, len, self, at, store);
            at += len;
        }
        Ok(span.len())
    }
}

/// Sends what the source has; `kernel` is the program's own call, for as long as the bytes go over TCP.
pub fn send(file: &Counted<OpenFile>, fd: Fd, source: &mut dyn Source, flags: i32, kernel: Kernel<'_>) -> Answer {
    if file.sock.posted.load(Ordering::Relaxed) != 0
        && let Some(error) = lower::error_of_send(file, flags)
    {
        return Answer::Ours(Err(error));
    }
    match route(file, fd, flags) {
        Route::Ring => send_through_ring(file, fd, source, flags, kernel),
        Route::Kernel => {
            let answer = kernel();
            stats::sent_on_tcp(file.sock, answer > 0);
            Answer::Kernel(answer)
        }
        Route::Counted => {
            let answer = cancel::run(&mut || leave_kernel(file.sock, false), kernel);
            leave_kernel(file.sock, answer > 0);
            Answer::Kernel(answer)
        }
        Route::Unsupported => Answer::Ours(Err(Errno::EOPNOTSUPP)),
    }
}

/// Which way the bytes of a sending call go.
enum Route {
    /// Through shared memory.
    Ring,
    /// To the kernel, for good.
    Kernel,
    /// To the kernel, and the direction must not move meanwhile: [`leave_kernel`] afterwards.
    Counted,
    /// The call cannot be carried any more.
    Unsupported,
}

/// Decides the way, and takes the handshake a step on.
fn route(file: &OpenFile, fd: Fd, flags: i32) -> Route {
    let sock = file.sock;
    match sock.phase() {
        phase::TCP | phase::INIT => return Route::Kernel,
        phase::SMC => {}
        _ if flags & libc::MSG_OOB != 0 => {
            clc::pin(file, preloop_uapi::decline::Decline::OPTION);
        }
        _ => clc::step(file, fd, true),
    }
    if sock.phase() == phase::SMC {
        if flags & libc::MSG_OOB != 0 {
            return Route::Unsupported;
        }
        if !sock.tx_in_ring() {
            try_to_move(file, fd);
        }
        if sock.tx_in_ring() {
            return Route::Ring;
        }
    }
    if enter_kernel(file) { Route::Counted } else { Route::Ring }
}

/// Counts this call among the kernel's writers, unless the direction has moved.
fn enter_kernel(file: &OpenFile) -> bool {
    let sock = file.sock;
    loop {
        sock.kernel_writers.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        match sock.tx_state.load(Ordering::Acquire) {
            MOVED => {
                sock.kernel_writers.fetch_sub(1, Ordering::AcqRel);
                return false;
            }
            MOVING => {
                sock.kernel_writers.fetch_sub(1, Ordering::AcqRel);
                // Whoever moves it holds the lock, for a few system calls.
                drop(lock(file));
            }
            _ => return true,
        }
    }
}

/// The call left the kernel; `sent`: it sent something.
fn leave_kernel(sock: &Sock, sent: bool) {
    sock.kernel_writers.fetch_sub(1, Ordering::AcqRel);
    if sent && sock.phase() < phase::SMC {
        sock.sends.fetch_add(1, Ordering::Relaxed);
        if sock.phase() == phase::PROPOSED {
            sock.raise(flag::ASKED);
        }
    }
}

/// Moves the sending direction of a confirmed connection into the ring, unless somebody is inside a kernel write: then
/// a later call does it.
pub fn try_to_move(file: &OpenFile, fd: Fd) {
    let (sock, Some(link)) = (file.sock, file.link()) else { return };
    let failures = sock.move_failures.load(Ordering::Relaxed);
    if failures >= OFTEN && !failures.is_power_of_two() {
        sock.move_failures.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Some(held) = sock.tx.try_lock() else { return };
    repair(file, &held);
    if sock.tx_state.load(Ordering::Acquire) == MOVED || sock.has(flag::TX_SHUT) {
        return;
    }
    sock.tx_state.store(MOVING, Ordering::Release);
    fence(Ordering::SeqCst);
    let alone = sock.kernel_writers.load(Ordering::Acquire) == 0;
    // What MSG_MORE or TCP_CORK holds back must leave: nothing will follow it on TCP.
    let flushed = || call::set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_CORK, 0).is_ok();
    match (alone && flushed()).then(|| tcp::written(fd, file.is_active())).flatten() {
        Some(count) => {
            link.own().tx.switch_at.store(count + 1, Ordering::Release);
            sock.tx_state.store(MOVED, Ordering::Release);
            stats::moved(sock);
        }
        None => {
            sock.move_failures.fetch_add(1, Ordering::Relaxed);
            sock.tx_state.store(0, Ordering::Release);
        }
    }
}

/// Takes the tx lock; what a sibling that died with it left undone is done.
pub fn lock(file: &OpenFile) -> Held<'_> {
    let held = file.sock.tx.lock();
    repair(file, &held);
    held
}

/// When the previous owner of the tx lock died in it: its cursor is ours to know, whether or not it was published; a move
/// it had begun is begun again.
fn repair(file: &OpenFile, held: &Held<'_>) {
    let (sock, Some(link), true) = (file.sock, file.link(), held.owner_died) else { return };
    if sock.tx_state.load(Ordering::Acquire) == MOVED {
        sock.sender.republish(&link.own().tx);
        // It may not have come to tell of it.
        link.notify();
    } else if link.own().tx.switch_at.load(Ordering::Acquire) != 0 {
        sock.tx_state.store(MOVED, Ordering::Release);
    } else {
        sock.tx_state.store(0, Ordering::Release);
    }
}

/// Where a sending call stands.
enum Sending {
    /// Everything there was is in the ring.
    Done,
    /// The ring is full.
    Full,
    /// The peer closed: TCP itself answers what it answers then.
    PeerClosed,
}

fn send_through_ring(
    file: &Counted<OpenFile>,
    number: Fd,
    source: &mut dyn Source,
    flags: i32,
    kernel: Kernel<'_>,
) -> Answer {
    let Some(link) = file.link() else { return Answer::Kernel(kernel()) };
    let patient = flags & libc::MSG_DONTWAIT == 0 && !file.nonblocking();
    cancel::point();
    let mut sent = 0;
    let mut deadline = None;
    let stopped = loop {
        // Another thread may have closed what the program's number stood for.
        let fd = if deadline.is_none() { number } else { file.fd() };
        match put(file, link, fd, source, &mut sent) {
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
            Ok(Sending::Full) if !patient => match room_soon(file, link) {
                Ok(true) => continue,
                Ok(false) => break Errno::EAGAIN,
                Err(errno) => break errno,
            },
            Ok(Sending::Full) => {}
        }
        let until = *deadline.get_or_insert_with(|| wait::deadline_of(file, fd, libc::SO_SNDTIMEO));
        if let Err(errno) = wait_for_room(file, link, fd, until, sent == 0) {
            break errno;
        }
    };
    if sent > 0 {
        return Answer::Ours(Ok(sent));
    }
    if stopped == Errno::EPIPE && flags & libc::MSG_NOSIGNAL == 0 {
        process::raise_sigpipe();
    }
    Answer::Ours(Err(stopped))
}

/// Puts as much into the ring as fits.
fn put(file: &OpenFile, link: &Link, fd: Fd, source: &mut dyn Source, sent: &mut usize) -> Result<Sending, Errno> {
    let sock = file.sock;
    let _held = lock(file);
    let (line, peer, ring) = (&link.own().tx, &link.peer().rx, link.tx_ring());
    note_cpu(&line.cpu);
    let receiver_elsewhere = wait::peer_elsewhere(peer.cpu.load(Ordering::Relaxed));
    loop {
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

/// Stores where this thread runs, for the peer to decide whether to spin.
pub fn note_cpu(cell: &preloop_uapi::sync::AtomicU32) {
    let cpu = clock::cpu();
    if cell.load(Ordering::Relaxed) != cpu {
        cell.store(cpu, Ordering::Relaxed);
    }
}

/// The peer stored something impossible. The connection is aborted, never the process.
pub fn broken(file: &OpenFile, fd: Fd) -> Errno {
    if !file.sock.raise(flag::BROKEN) {
        crate::log::debug(format_args!("the peer's cursors are impossible: connection reset"));
        call::linger_zero(fd);
        let _ = call::shutdown(fd, libc::SHUT_RDWR);
    }
    Errno::ECONNRESET
}

/// Whether there is room now; otherwise a wake-up will come when there is.
fn room_soon(file: &OpenFile, link: &Link) -> Result<bool, Errno> {
    let _held = lock(file);
    let (line, peer, size) = (&link.own().tx, &link.peer().rx, link.tx_ring().size());
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
        sock.sender.writable(&link.peer().rx, link.tx_ring().size()).unwrap_or(true)
    };
    let cpu = link.peer().rx.cpu.load(Ordering::Relaxed);
    if wait::peer_elsewhere(cpu) && wait::spin(&file.spin, deadline, room) {
        return Ok(());
    }
    let events = if sock.has(flag::FIN) { 0 } else { libc::POLLRDHUP };
    wait::sleep(file, fd, events, deadline, restartable, || {
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
    let Some(held) = sock.tx.try_lock() else { return true };
    repair(file, &held);
    let room = sock.sender.writable(&link.peer().rx, link.tx_ring().size()).unwrap_or(true);
    drop(held);
    // The peer is asked for a wake-up only when there is no room.
    room || room_soon(file, link).unwrap_or(true)
}
