//! sendfile(2) and splice(2). Bytes go through memory of the library's own: there are no pages to be passed on.

use super::csock::Sock;
use super::receive::{Slot, receive};
use super::send::{part, send_bytes, send_copied};
use libc::{MSG_DONTWAIT, POLLHUP, POLLIN, POLLOUT, SPLICE_F_MORE, SPLICE_F_NONBLOCK};
use preloop_kcm::Kind;
use preloop_kcm::errno::EIO;
use preloop_shm::copy::lend;
use preloop_sys::cancel::Uncancellable;
use preloop_sys::sleep::{self, SignalMask};
use preloop_sys::{Errno, Fd, call, event};

/// Bytes of a file that are sent at a time, as parts of one message.
const CHUNK: usize = 1 << 20;
/// Bytes that a splice moves at a time: what a pipe holds.
const PIPE: usize = 64 << 10;

/// sendfile(2): one message, which stays open if the file has fewer bytes than were asked for. `offset`, or without one the
/// file's own position, is advanced by what was sent. No cancellation point.
///
/// # Errors
/// Those of the file and of send(2), when nothing was sent.
pub fn sendfile(sock: &Sock, file: Fd, offset: &mut Option<i64>, count: usize) -> Result<usize, Errno> {
    if call::inode(file).1 == libc::S_IFSOCK {
        return Err(Errno::EINVAL);
    }
    let _not_in_the_middle = Uncancellable::begin();
    let start = offset.map_or_else(|| call::position(file), Ok)?;
    let mut chunk = vec![0; count.min(CHUNK)];
    let mut sent = 0;
    while sent < count {
        let want = (count - sent).min(CHUNK);
        let got = match call::read_file(file, &mut chunk[..want], Some(start.saturating_add(sent as i64))) {
            Ok(0) => break,
            Ok(got) => got,
            Err(_) if sent > 0 => break,
            Err(error) => return Err(error),
        };
        match send_bytes(sock, &chunk[..got], part(sock.kind, sent + got < count)) {
            Ok(_) => {}
            Err(_) if sent > 0 => break,
            Err(error) => return Err(error),
        }
        sent += got;
    }
    let end = start.saturating_add(sent as i64);
    match offset {
        Some(offset) => *offset = end,
        None => call::set_position(file, end)?,
    }
    Ok(sent)
}

/// splice(2) from a pipe: what it has, up to `len` bytes, is one message, or with SPLICE_F_MORE an open part of one. Bytes
/// leave the pipe when there is room for them, and not before. A thread that is cancelled lets go of the socket, as in all
/// calls that sleep: so nobody but they may hold it meanwhile.
///
/// # Errors
/// EINVAL when it is no pipe; EAGAIN; those of send(2); EIO when somebody else reads the pipe at the same time.
pub fn splice_in(mut sock: Sock, pipe: Fd, len: usize, flags: u32) -> Result<usize, Errno> {
    call::pipe_room(pipe).map_err(|_| Errno::EINVAL)?;
    if len == 0 {
        return Ok(0);
    }
    let there = loop {
        sock = wait_for(sock, pipe, POLLIN, flags)?;
        match call::int_ioctl(pipe, libc::FIONREAD)?.max(0) as usize {
            0 if event::poll_now(pipe, 0) & POLLHUP != 0 => return Ok(0),
            0 => {}
            there => break there.min(len).min(PIPE),
        }
    };
    let flags = part(sock.kind, flags & SPLICE_F_MORE != 0);
    send_copied(sock, there, flags, &mut |into| {
        let mut done = 0;
        while done < into.len() {
            match call::read_now(pipe, &mut into[done..]) {
                Ok(got) if got > 0 => done += got,
                _ => return Err(EIO),
            }
        }
        Ok(())
    })
}

/// splice(2) to a pipe: up to `len` bytes of a message. The kernel waits for one whatever SPLICE_F_NONBLOCK says, and at a
/// SOCK_SEQPACKET socket whatever O_NONBLOCK says.
///
/// # Errors
/// EINVAL when it is no pipe; EAGAIN; EINTR.
pub fn splice_out(sock: Sock, pipe: Fd, len: usize, flags: u32) -> Result<usize, Errno> {
    call::pipe_room(pipe).map_err(|_| Errno::EINVAL)?;
    if len == 0 {
        return Ok(0);
    }
    let sock = wait_for(sock, pipe, POLLOUT, flags)?;
    let room = call::pipe_room(pipe)?.clamp(1, PIPE);
    let mut bytes = vec![0; len.min(room)];
    let got = receive_waiting(sock, &mut bytes)?;
    // The pipe may have filled meanwhile: then the call waits, whatever signals come, for the message is taken.
    let mut done = 0;
    while done < got {
        if event::poll_now(pipe, POLLOUT) == 0 {
            poll(pipe, POLLOUT, &mut || {}).or_else(unless_passing)?;
            continue;
        }
        done += call::write(pipe, &bytes[done..got]).or_else(|error| unless_passing(error).map(|()| 0))?;
    }
    Ok(got)
}

/// An error that is worth another try is none.
fn unless_passing(error: Errno) -> Result<(), Errno> {
    if matches!(error, Errno::EINTR | Errno::EAGAIN) { Ok(()) } else { Err(error) }
}

fn receive_waiting(mut sock: Sock, bytes: &mut [u8]) -> Result<usize, Errno> {
    while sock.kind == Kind::SeqPacket && sock.is_nonblocking() {
        match receive_one(sock.clone(), bytes, MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => {
                let own = sock.ends.own;
                sock = sleep_on(sock, own, POLLIN)?;
            }
            got => return got,
        }
    }
    receive_one(sock, bytes, 0)
}

fn receive_one(sock: Sock, bytes: &mut [u8], flags: i32) -> Result<usize, Errno> {
    lend(bytes, |buffers| {
        let mut slot = Slot::new(buffers);
        receive(sock, &mut slot, flags)?;
        Ok(slot.received.ok().flatten().map_or(0, |received| received.len))
    })
}

/// Waits until a pipe can be read or written.
fn wait_for(sock: Sock, pipe: Fd, events: i16, flags: u32) -> Result<Sock, Errno> {
    if event::poll_now(pipe, events) != 0 {
        return Ok(sock);
    }
    let nonblocking = call::status_flags(pipe).is_ok_and(|flags| flags & libc::O_NONBLOCK != 0);
    if flags & SPLICE_F_NONBLOCK != 0 || nonblocking {
        return Err(Errno::EAGAIN);
    }
    sleep_on(sock, pipe, events)
}

/// Sleeps until a descriptor can be read or written. A thread that is cancelled meanwhile lets go of the socket.
fn sleep_on(sock: Sock, fd: Fd, events: i16) -> Result<Sock, Errno> {
    let mut held = Some(sock);
    poll(fd, events, &mut || drop(held.take()))?;
    held.ok_or(Errno::EINTR)
}

fn poll(fd: Fd, events: i16, cancelled: &mut dyn FnMut()) -> Result<(), Errno> {
    let mut entry = [libc::pollfd { fd, events, revents: 0 }];
    sleep::poll(&mut entry, None, SignalMask::NONE, cancelled).map(drop)
}
