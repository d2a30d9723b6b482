//! Ends: shutdown, close, and the exit of the process.

use crate::fdtable;
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::sock::{flag, phase};
use crate::socket::tx;
use preloop_shm::counted::Counted;
use preloop_smc::ring::Broken;
use preloop_sys::{Errno, Fd, call};
use preloop_uapi::decline::Decline;
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
    if call::peer_addr(fd).is_none() {
        return Err(Errno::ENOTCONN);
    }
    let mut answer = Shutdown::Done;
    if how != libc::SHUT_RD {
        tx::try_to_move(file, fd);
        let held = sock.tx.lock();
        sock.raise(flag::TX_SHUT);
        let both = how == libc::SHUT_RDWR || sock.has(flag::RX_SHUT);
        link.own().tx.shut.store(if both { 2 } else { 1 }, Ordering::Release);
        if both || !sock.tx_in_ring() {
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

/// A descriptor is about to be closed by the program: afterwards the table does not know it. The caller closes it.
pub fn before_close(fd: Fd) {
    if let Some(file) = fdtable::set(fd, None) {
        forget(&file, fd);
    }
    if let Some(set) = fdtable::set_epoll(fd, None) {
        set.closes(fd);
    }
}

/// A descriptor, no longer in the table, stands for the file no more.
pub fn forget(file: &OpenFile, fd: Fd) {
    if file.descriptors.fetch_sub(1, Ordering::AcqRel) == 1 {
        last_in_process(file, fd);
    } else {
        file.leave_fd(fd);
    }
}

/// The last descriptor of this process goes.
fn last_in_process(file: &OpenFile, fd: Fd) {
    let sock = file.sock;
    clc::put_off(file);
    let last = sock.holders.load(Ordering::Acquire) == 1;
    crate::socket::epoll::forget_file(file, last);
    let Some(link) = file.link().filter(|_| last) else { return };
    if unread(file) {
        call::linger_zero(fd);
    }
    link.own().wait.closed.store(1, Ordering::Release);
    clc::tell_watchers(file);
}

/// Whether the program leaves bytes in the ring unread: TCP answers that with RST.
fn unread(file: &OpenFile) -> bool {
    let (sock, Some(link)) = (file.sock, file.link()) else { return false };
    let _held = sock.rx.lock();
    let shut_both = sock.has(flag::RX_SHUT) && sock.has(flag::TX_SHUT);
    match sock.receiver.data(&link.peer().tx, link.rx_ring().size()) {
        Ok(data) => !data.is_empty() && !shut_both,
        Err(Broken) => true,
    }
}

/// A descriptor is about to be passed to another process (SCM_RIGHTS), which will not know of shared memory: that pins
/// the connection to TCP. `false` when it has moved, and passing it would cut its stream off.
pub fn may_pass(fd: Fd) -> bool {
    fdtable::get(fd).is_none_or(|file| clc::pin(&file, Decline::OPTION))
}

/// The process exits: what a close would have done for every socket it holds.
pub fn process_ends() {
    for fd in fdtable::known_between(0, Fd::MAX) {
        if let Some(file) = fdtable::set(fd, None) {
            forget(&file, fd);
        }
    }
}

/// Before another program takes the process over: it no longer counts among the holders of sockets whose descriptors
/// are close-on-exec. Answers those sockets, for [`exec_failed`].
pub fn before_exec() -> Vec<Counted<OpenFile>> {
    let mut closing: Vec<Counted<OpenFile>> = Vec::new();
    let mut staying: Vec<Counted<OpenFile>> = Vec::new();
    fdtable::for_each(|fd, file| {
        let list = if call::closes_on_exec(fd) { &mut closing } else { &mut staying };
        if !list.iter().any(|other| other.same(&file)) {
            list.push(file);
        }
    });
    closing.retain(|file| !staying.iter().any(|other| other.same(file)));
    for file in &closing {
        clc::put_off(file);
        file.sock.holders.fetch_sub(1, Ordering::AcqRel);
    }
    // What stays open is unknown to the next program: on TCP it remains.
    for file in &staying {
        clc::pin(file, Decline::OPTION);
    }
    closing
}

/// The process goes on as it was.
pub fn exec_failed(closing: Vec<Counted<OpenFile>>) {
    for file in closing {
        file.sock.holders.fetch_add(1, Ordering::AcqRel);
    }
}
