//! send(2) and its family.

use super::csock::Sock;
use super::local::{Gathered, Local};
use libc::MSG_DONTWAIT;
use preloop_kcm::Kind;
use preloop_kcm::errno::EAGAIN;
use preloop_kcm::receive::MSG_EOR;
use preloop_kcm::send::MSG_MORE;
use preloop_kcm::straight::{Slices, Source};
use preloop_shm::copy::Buffers;
use preloop_sys::{Errno, sleep};
use preloop_uapi::sync::Ordering;

/// Sends the program's bytes: a message, or a part of one, all or nothing. Answers how many bytes.
///
/// # Errors
/// EAGAIN when SO_SNDBUF bytes are queued and the call may not wait, or has waited as long as SO_SNDTIMEO says; EINTR;
/// EMSGSIZE; EFAULT for buffers outside of memory.
pub fn send(sock: &Sock, data: &Buffers<'_>, flags: i32) -> Result<usize, Errno> {
    send_from(sock, (data.len(), flags), &mut Gathered(*data))
}

/// Sends bytes of the library's own, as [`send`] does.
///
/// # Errors
/// As [`send`].
pub fn send_bytes(sock: &Sock, bytes: &[u8], flags: i32) -> Result<usize, Errno> {
    send_from(sock, (bytes.len(), flags), &mut Slices(&[bytes]))
}

fn send_from(sock: &Sock, (len, flags): (usize, i32), source: &mut impl Source<Local>) -> Result<usize, Errno> {
    loop {
        let mut entered = sock.mux.enter()?;
        let sent = entered.with(|state, outside| state.send_from(sock.id, (len, flags), outside, source));
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
