//! Sending: over TCP until the direction moves, through the ring afterwards.

mod now;
mod ring;

use crate::process;
use crate::socket::back::{self, answer, urgent};
use crate::socket::calls::{Answer, Kernel};
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::kcm::lower;
use crate::socket::sock::{Sock, flag, phase, tx_state};
use crate::socket::unseen;
use crate::stats;
use preloop_shm::copy::{Buffers, Ring, Store};
use preloop_shm::counted::Counted;
use preloop_shm::lock::Held;
use preloop_smc::ring::Span;
use preloop_sys::{Errno, Fd, call, cancel, clock, tcp};
use preloop_uapi::decline::Decline;
use preloop_uapi::sync::{Ordering, fence};

pub use now::{position, send_now};
pub use ring::is_writable;
use ring::{Sending, put, room_soon, send_through_ring};

/// Bytes published at a time, so that the receiver works on the first while the rest is copied.
const PIECE: usize = 32 << 10;

/// Bytes from which a piece is stored past the caches when the receiver runs on another processor. A smaller one is
/// mostly a request or reply, whose receiver waits for it: it comes soonest from the sender's cache.
const STREAM_FROM: usize = 2 << 10;

/// Failures to move after which it is tried less and less often.
const OFTEN: u32 = 16;

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

    /// Has the kernel send what follows the first `done` bytes over a socket, without waiting. `None`: a call that comes back
    /// short is nothing new to the program.
    fn send_rest(&mut self, _socket: Fd, _done: usize) -> Option<Result<usize, Errno>> {
        None
    }
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

    fn send_rest(&mut self, socket: Fd, done: usize) -> Option<Result<usize, Errno>> {
        Some(Buffers::send_rest(self, socket, done, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))
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
fn route(file: &Counted<OpenFile>, fd: Fd, flags: i32) -> Route {
    let sock = file.sock;
    match sock.phase() {
        phase::TCP | phase::INIT => return Route::Kernel,
        _ if flags & (libc::MSG_OOB | libc::MSG_ZEROCOPY) != 0 && needs_tcp(fd, flags) => {
            if !clc::pin(file, Decline::OPTION) && !urgent::send_over_tcp_again(file) {
                return Route::Unsupported;
            }
        }
        phase::SMC => {}
        _ => clc::step(file, fd, true),
    }
    if sock.phase() == phase::SMC {
        if !sock.tx_in_ring() {
            try_to_move(file, fd);
        }
        if sock.tx_in_ring() {
            return Route::Ring;
        }
    }
    if enter_kernel(file) { Route::Counted } else { Route::Ring }
}

/// Whether only the kernel can do what these flags ask for: urgent data; and to send from the program's own pages and say when
/// it is done with them, which it does for sockets that have SO_ZEROCOPY alone. Others it sends a copy for.
#[cold]
fn needs_tcp(fd: Fd, flags: i32) -> bool {
    flags & libc::MSG_OOB != 0 || call::int_option(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY).is_ok_and(|on| on != 0)
}

/// Counts this call among the kernel's writers, unless the direction has moved.
fn enter_kernel(file: &OpenFile) -> bool {
    let sock = file.sock;
    loop {
        sock.kernel_writers.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        match sock.tx_state.load(Ordering::Acquire) {
            tx_state::RING => {
                sock.kernel_writers.fetch_sub(1, Ordering::AcqRel);
                return false;
            }
            tx_state::MOVING => {
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
    if sock.tx_state.load(Ordering::Relaxed) == tx_state::BACK || process::is_confined() || unseen::waits(fd) {
        return;
    }
    let failures = sock.move_failures.load(Ordering::Relaxed);
    if failures >= OFTEN && !failures.is_power_of_two() {
        sock.move_failures.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Some(_held) = try_lock(file) else { return };
    let state = sock.tx_state.load(Ordering::Acquire);
    if matches!(state, tx_state::RING | tx_state::BACK) || sock.has(flag::TX_SHUT) {
        return;
    }
    sock.tx_state.store(tx_state::MOVING, Ordering::Release);
    fence(Ordering::SeqCst);
    let alone = sock.kernel_writers.load(Ordering::Acquire) == 0;
    // What MSG_MORE or TCP_CORK holds back must leave: nothing will follow it on TCP.
    let flushed = || call::set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_CORK, 0).is_ok();
    match (alone && flushed()).then(|| tcp::written(fd, file.is_active())).flatten() {
        Some(count) => {
            link.own().tx.switch_at.store(count + 1, Ordering::Release);
            sock.tx_state.store(tx_state::RING, Ordering::Release);
            stats::moved(sock);
        }
        None => {
            sock.move_failures.fetch_add(1, Ordering::Relaxed);
            sock.tx_state.store(tx_state::KERNEL, Ordering::Release);
        }
    }
}

/// Takes the tx lock; what a sibling that died with it left undone is done.
pub fn lock(file: &OpenFile) -> Held<'_> {
    let held = file.sock.tx.lock();
    repair(file, &held);
    held
}

/// As [`lock`], unless somebody else has it.
pub fn try_lock(file: &OpenFile) -> Option<Held<'_>> {
    let held = file.sock.tx.try_lock()?;
    repair(file, &held);
    Some(held)
}

/// When the previous owner of the tx lock died in it: its cursor is ours to know, whether or not it was published; a move
/// it had begun is begun again.
fn repair(file: &OpenFile, held: &Held<'_>) {
    let (sock, Some(link), true) = (file.sock, file.link(), held.owner_died) else { return };
    match sock.tx_state.load(Ordering::Acquire) {
        tx_state::RING => {
            sock.sender.republish(&link.own().tx);
            // It may not have come to tell of it.
            link.notify();
        }
        tx_state::BACK => {}
        _ if link.own().tx.switch_at.load(Ordering::Acquire) != 0 => {
            sock.tx_state.store(tx_state::RING, Ordering::Release);
        }
        _ => sock.tx_state.store(tx_state::KERNEL, Ordering::Release),
    }
    back::repair_mark(file, link);
    answer::repair(file, link);
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
