//! send(2) and its family.

use super::csock::Sock;
use libc::MSG_DONTWAIT;
use preloop_kcm::Kind;
use preloop_kcm::errno::{EAGAIN, EFAULT, Errno as CoreErrno};
use preloop_kcm::receive::MSG_EOR;
use preloop_kcm::send::MSG_MORE;
use preloop_shm::copy::Buffers;
use preloop_sys::probe::Access;
use preloop_sys::{Errno, sleep};
use preloop_uapi::sync::Ordering;

/// Sends the program's bytes: a message, or a part of one, all or nothing. Answers how many bytes.
///
/// # Errors
/// EAGAIN when SO_SNDBUF bytes are queued and the call may not wait, or has waited as long as SO_SNDTIMEO says; EINTR;
/// EMSGSIZE; EFAULT for buffers outside of memory.
pub fn send(sock: &Sock, data: &Buffers<'_>, flags: i32) -> Result<usize, Errno> {
    send_from(sock, data.len(), flags, &mut |into| {
        if !data.allow(Access::Read, into.len()) {
            return Err(EFAULT);
        }
        data.gather(0, into);
        Ok(())
    })
}

/// As [`send`]; `copy` fills the bytes in.
///
/// # Errors
/// As [`send`], and those of `copy`.
pub fn send_from(
    sock: &Sock,
    len: usize,
    flags: i32,
    copy: &mut dyn FnMut(&mut [u8]) -> Result<(), CoreErrno>,
) -> Result<usize, Errno> {
    loop {
        let mut entered = sock.mux.enter()?;
        let sent = entered.with(|state, outside| state.send(sock.id, (len, flags), outside, &mut *copy));
        match sent {
            Ok(sent) => return Ok(sent),
            Err(EAGAIN) if flags & MSG_DONTWAIT == 0 && !sock.is_nonblocking() => {}
            Err(error) => return Err(Errno::new(error)),
        }
        let senders = &sock.mux.csock(sock.id).senders;
        senders.fetch_add(1, Ordering::AcqRel);
        drop(entered);
        let mut wakes = || {
            senders.fetch_sub(1, Ordering::AcqRel);
        };
        let woken = sleep::for_packet(sock.ends.far, &mut wakes);
        wakes();
        woken?;
    }
}

/// The flags of a call that sends a message, or with `open` a part of one that others follow, whatever the type.
pub fn part(kind: Kind, open: bool) -> i32 {
    match (kind, open) {
        (Kind::Dgram, true) => MSG_MORE,
        (Kind::SeqPacket, false) => MSG_EOR,
        _ => 0,
    }
}
