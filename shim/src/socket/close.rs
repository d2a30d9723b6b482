//! Ends: shutdown, close, and the exit of the process.

use crate::fdtable;
use crate::fork;
use crate::process;
use crate::socket::clc;
use crate::socket::epoll;
use crate::socket::file::OpenFile;
use crate::socket::kcm::csock::Sock;
use crate::socket::kcm::share;
use crate::socket::sock::{flag, phase};
use crate::socket::tx;
use crate::stats;
use preloop_sys::{Errno, Fd, addr, call};
use preloop_uapi::decline::Decline;
use preloop_uapi::ring::shut;
use preloop_uapi::sync::Ordering;

/// What the hook of shutdown(2) is to do.
pub enum Shutdown {
    /// The kernel's call, as if the library were not there.
    Kernel,
    /// Nothing more.
    Done,
}

/// shutdown(2). After change-over SHUT_WR sends no FIN: the mark in shared memory ends the stream for the peer, and the
/// FIN stays back until the socket is closed. So a FIN always means that nobody at that end reads any more, and a
/// sender whose ring is full learns of the death of a peer that had shut its own direction before.
///
/// # Errors
/// ENOTCONN.
pub fn shutdown(file: &OpenFile, fd: Fd, how: i32) -> Result<Shutdown, Errno> {
    let sock = file.sock;
    stats::shuts(sock);
    if sock.phase() < phase::SMC {
        if sock.phase() == phase::INIT || clc::pin(file, Decline::OPTION) {
            return Ok(Shutdown::Kernel);
        }
    } else if sock.phase() == phase::TCP {
        return Ok(Shutdown::Kernel);
    }
    let Some(link) = file.link() else { return Ok(Shutdown::Kernel) };
    if !(libc::SHUT_RD..=libc::SHUT_RDWR).contains(&how) {
        return Ok(Shutdown::Kernel);
    }
    if addr::peer(fd).is_none() {
        return Err(Errno::ENOTCONN);
    }
    let mut answer = Shutdown::Done;
    if how != libc::SHUT_RD {
        tx::try_to_move(file, fd);
        let held = tx::lock(file);
        sock.raise(flag::TX_SHUT);
        let both = how == libc::SHUT_RDWR || sock.has(flag::RX_SHUT);
        let mark = match (both, sock.tx_in_ring()) {
            (true, _) => shut::BOTH,
            (false, false) => shut::FIN_SENT,
            (false, true) => shut::FIN_HELD,
        };
        link.own().tx.shut.store(mark, Ordering::Release);
        if mark != shut::FIN_HELD {
            answer = Shutdown::Kernel;
        }
        drop(held);
    }
    if how != libc::SHUT_WR {
        sock.raise(flag::RX_SHUT);
    }
    link.notify();
    clc::tell_watchers(file);
    Ok(answer)
}

/// What is to be let go once a descriptor is closed: a KCM socket, whose holders the kernel counts.
#[must_use]
#[derive(Debug)]
pub struct Closing {
    _sock: Option<Sock>,
}

/// A descriptor is about to be closed by the program: afterwards the table does not know it. The caller closes it, and then
/// drops the answer.
pub fn before_close(fd: Fd) -> Closing {
    // A child that shares this memory (CLONE_VM) closes its own descriptor.
    if fork::is_inside() || !fdtable::knows(fd) || process::is_uncounted() {
        return Closing { _sock: None };
    }
    if let Some(file) = fdtable::set(fd, None) {
        forget(&file, fd);
    }
    if let Some(set) = fdtable::set_epoll(fd, None) {
        set.closes(fd);
    }
    Closing { _sock: fdtable::set_kcm(fd, None) }
}

/// A descriptor, no longer in the table, is about to be closed.
fn forget(file: &OpenFile, fd: Fd) {
    if file.descriptors.fetch_sub(1, Ordering::AcqRel) > 1 {
        match file.leave_fd(fd) {
            // A KCM mux goes on with the connection, and nobody else.
            Some(other) if fdtable::is_inner(other) => epoll::forget_file(file, false),
            Some(other) => epoll::forget_number(file, fd, other),
            None => {}
        }
        // Who sleeps on the number goes on to sleep on the other one.
        if file.is_slept_on() {
            clc::tell_watchers(file);
        }
    } else if file.is_slept_on() && file.keep(fd) {
        // A call that sleeps goes on, as in the kernel, and the connection with it; what follows is done when the last
        // such call is over. Woken, it sleeps on the descriptor that was kept.
        epoll::forget_file(file, false);
        clc::tell_watchers(file);
    } else {
        file.set_fd(-1);
        end_in_process(file, Some(fd));
    }
}

/// A descriptor, no longer in the table, was closed where no hook saw it, and may be something else by now.
pub fn forget_unseen(file: &OpenFile, fd: Fd) {
    if process::is_uncounted() {
        return;
    }
    if file.descriptors.fetch_sub(1, Ordering::AcqRel) > 1 {
        file.leave_fd(fd);
    } else {
        file.set_fd(-1);
        end_in_process(file, None);
    }
}

/// This process holds the connection no more. `fd` is its last descriptor, if there still is one.
pub fn end_in_process(file: &OpenFile, fd: Option<Fd>) {
    if file.has_ended() {
        return;
    }
    clc::put_off(file);
    let Some(last) = file.end() else { return };
    if last {
        stats::ends(file.sock);
    }
    epoll::forget_file(file, last);
    if let Some(link) = file.link().filter(|_| last) {
        if let Some(fd) = fd.filter(|_| leaves_unread(file)) {
            call::linger_zero(fd);
        }
        link.own().wait.closed.store(1, Ordering::Release);
        clc::tell_watchers(file);
    }
    // A KCM mux that has it leaves the slot itself.
    if file.is_inherited() && !file.is_attached() {
        file.leave_slot();
    }
}

/// Whether the program leaves bytes in the ring unread: TCP answers that with RST.
fn leaves_unread(file: &OpenFile) -> bool {
    let (sock, Some(link)) = (file.sock, file.link()) else { return false };
    let shut_both = sock.has(flag::RX_SHUT) && sock.has(flag::TX_SHUT);
    !shut_both && sock.receiver.pending(&link.peer().tx)
}

/// The process exits: what a close would have done for every socket it holds, as far as others can see it. It may be
/// a signal handler that exits, and its thread inside the library: nothing here waits for a lock, allocates, or frees.
pub fn process_ends() {
    if process::is_uncounted() {
        return;
    }
    fdtable::for_each(|fd, file| {
        let offered = file.sock.phase() == phase::OFFERED;
        let link = if offered { file.offered().filter(|link| !link.withdraw()) } else { file.link().cloned() };
        let Some(last) = file.end() else { return };
        if last {
            stats::ends(file.sock);
        }
        if let Some(link) = link.as_ref().filter(|_| last) {
            if leaves_unread(&file) {
                call::linger_zero(fd);
            }
            link.own().wait.closed.store(1, Ordering::Release);
        }
        if !process::ARENA.holds(file.sock) {
            file.leave_slot();
        }
    });
    share::process_ends();
}
