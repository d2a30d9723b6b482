//! send(2) and its family.

use super::csock::Sock;
use super::entered::Entered;
use super::outside::Gathered;
use super::receive::has_waited;
use super::senders;
use libc::{MSG_DONTWAIT, SO_SNDTIMEO};
use preloop_kcm::errno::{EAGAIN, Errno as CoreErrno};
use preloop_kcm::receive::MSG_EOR;
use preloop_kcm::send::MSG_MORE;
use preloop_kcm::straight::Slices;
use preloop_kcm::{CsockId, Kind};
use preloop_shm::copy::Buffers;
use preloop_sys::{Errno, clock, sleep};

/// A message that the program sends, or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its bytes.
    pub data: Buffers<'a>,
    /// The call's flags.
    pub flags: i32,
    /// Where messages have addresses, the SO_COOKIE of its connection, or 0 for any; elsewhere nobody looks at it.
    pub to: Result<u64, Errno>,
}

impl Outgoing<'_> {
    fn attempt(&self, id: CsockId, entered: &mut Entered<'_>) -> Result<usize, CoreErrno> {
        let call = (self.data.len(), self.flags);
        entered.with(|state, outside| {
            let connection = if state.has_addresses(id) { self.to.map_err(Errno::into_raw)? } else { 0 };
            state.send_from(id, connection, call, outside, &mut Gathered(self.data))
        })
    }
}

/// Sends the program's bytes, all or nothing. Answers how many bytes.
///
/// # Errors
/// EAGAIN when SO_SNDBUF bytes are queued and the call may not wait, or has waited as long as SO_SNDTIMEO says; EINTR;
/// EMSGSIZE; EFAULT for buffers outside of memory; ENOTCONN, EPIPE, EINVAL for the connection
/// (`preloop_kcm::MuxState::send_to`), and that of `to`.
pub fn send(sock: Sock, message: Outgoing<'_>) -> Result<usize, Errno> {
    let id = sock.id;
    send_by(sock, message.flags, &mut |entered| message.attempt(id, entered))
}

/// Sends messages, up to the first that would have to wait, or fails: that one is as if it had not been tried. `next` is told
/// how many bytes of the last one were sent, and has the next one.
pub fn send_ahead<'a>(sock: &Sock, mut next: impl FnMut(Option<usize>) -> Option<Outgoing<'a>>) {
    let Ok(mut entered) = sock.mux.enter_beside() else { return };
    let mut sent = None;
    while let Some(message) = next(sent) {
        sent = message.attempt(sock.id, &mut entered).ok();
        if sent.is_none() {
            return;
        }
    }
}

/// Sends bytes of the library's own, as [`send`] does.
///
/// # Errors
/// As [`send`].
pub fn send_bytes(sock: &Sock, bytes: &[u8], flags: i32) -> Result<usize, Errno> {
    send_by(sock.clone(), flags, &mut |entered| {
        entered.with(|state, outside| state.send_from(sock.id, 0, (bytes.len(), flags), outside, &mut Slices(&[bytes])))
    })
}

/// Sends `len` bytes that `copy` fills in once there is room for them.
///
/// # Errors
/// As [`send`], and those of `copy`.
pub fn send_copied(
    sock: Sock,
    len: usize,
    flags: i32,
    copy: &mut dyn FnMut(&mut [u8]) -> Result<(), CoreErrno>,
) -> Result<usize, Errno> {
    let id = sock.id;
    send_by(sock, flags, &mut |entered| {
        entered.with(|state, outside| state.send(id, (len, flags), outside, &mut *copy))
    })
}

/// Sends by trying, and waits where that says EAGAIN and the call may wait.
fn send_by(
    mut sock: Sock,
    flags: i32,
    attempt: &mut dyn FnMut(&mut Entered<'_>) -> Result<usize, CoreErrno>,
) -> Result<usize, Errno> {
    let mut slept = None;
    loop {
        let mut entered = sock.mux.enter_beside()?;
        let sent = attempt(&mut entered);
        let is_over = |since| has_waited(sock.ends.own, SO_SNDTIMEO, since);
        match sent {
            Ok(sent) => return Ok(sent),
            Err(EAGAIN) if flags & MSG_DONTWAIT == 0 && !sock.is_nonblocking() && !slept.is_some_and(is_over) => {}
            Err(error) => return Err(Errno::new(error)),
        }
        slept = slept.or_else(|| Some(clock::now()));
        senders::falls_asleep(&sock.mux, sock.id);
        drop(entered);
        sock = sleep_on(sock)?;
    }
}

/// Sleeps until messages are flushed. A thread that is cancelled meanwhile lets go of the socket, as one that comes back
/// does.
fn sleep_on(sock: Sock) -> Result<Sock, Errno> {
    let far = sock.ends.far;
    let mut held = Some(sock);
    let woken = sleep::for_packet(far, &mut || {
        if let Some(sock) = held.take() {
            senders::woke(&sock.mux, sock.id);
        }
    });
    let sock = held.ok_or(Errno::EINTR)?;
    senders::woke(&sock.mux, sock.id);
    woken.map(|()| sock)
}

/// The flags of a call that sends a message, or with `open` a part of one that others follow, whatever the type.
pub fn part(kind: Kind, open: bool) -> i32 {
    match (kind, open) {
        (Kind::Dgram, true) => MSG_MORE,
        (Kind::SeqPacket, false) => MSG_EOR,
        _ => 0,
    }
}
