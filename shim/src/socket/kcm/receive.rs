//! recv(2) and its family.

use super::csock::Sock;
use super::entered::Entered;
use super::loan::{self, Came};
use libc::{MSG_DONTWAIT, MSG_PEEK, SO_RCVTIMEO};
use preloop_kcm::direct::{NoSink, Sink};
use preloop_kcm::errno::{EFAULT, Errno as CoreErrno};
use preloop_kcm::receive::Received;
use preloop_shm::copy::Buffers;
use preloop_sys::probe::Access;
use preloop_sys::{Errno, Fd, call, clock, sleep};

/// The program's buffers for one message or several. After an error there is room in none.
pub trait Slots: Sink {
    /// How many have a message.
    fn filled(&self) -> usize;
    /// The error of one that cannot be written to: its message is lost.
    fn error(&self) -> Option<CoreErrno>;
}

/// The buffers for one message, and what came into them.
#[derive(Debug)]
pub struct Slot<'a> {
    buffers: Buffers<'a>,
    /// Bytes, flags, and the SO_COOKIE of the connection where the program wants to know that.
    pub received: Result<Option<Received>, CoreErrno>,
}

impl<'a> Slot<'a> {
    /// An empty one.
    pub fn new(buffers: Buffers<'a>) -> Self {
        Self { buffers, received: Ok(None) }
    }
}

impl Sink for Slot<'_> {
    fn room(&self) -> Option<usize> {
        (self.received == Ok(None)).then(|| self.buffers.len())
    }

    fn put(&mut self, bytes: &[u8], received: Received) -> Result<(), CoreErrno> {
        if !self.buffers.allow(Access::Write, bytes.len()) {
            self.received = Err(EFAULT);
            return Err(EFAULT);
        }
        self.buffers.scatter(0, bytes);
        self.received = Ok(Some(received));
        Ok(())
    }
}

impl Slots for Slot<'_> {
    fn filled(&self) -> usize {
        usize::from(matches!(self.received, Ok(Some(_))))
    }

    fn error(&self) -> Option<CoreErrno> {
        self.received.err()
    }
}

/// Receives at least one message, and as many as there are and slots for them. Answers how many.
///
/// # Errors
/// EAGAIN when there is none and the call may not wait, or has waited as long as SO_RCVTIMEO says; EINTR; EFAULT for
/// buffers outside of memory, and the message is lost.
pub fn receive(mut sock: Sock, slots: &mut impl Slots, flags: i32) -> Result<usize, Errno> {
    let (mut slept, mut woke) = (None, false);
    loop {
        // Who was woken tells others of what is left, for which he has taken the token.
        let came = if flags & MSG_PEEK == 0 && !woke { loan::receive(&sock, slots) } else { Came::NotAll };
        if came == Came::Enough {
            return Ok(slots.filled());
        }
        let mut entered = sock.mux.enter_beside()?;
        entered.take_back(sock.id);
        if core::mem::take(&mut woke) {
            entered.state().reader_woke(sock.id);
        }
        if flags & MSG_PEEK != 0 {
            peek(&sock, &mut entered, slots, flags);
        } else if take(&sock, &mut entered, slots, (came == Came::Asks, slept.is_none())) {
            continue;
        }
        if slept.is_some() && entered.state().messages(sock.id) > 0 {
            // The token that woke this call stood for more messages than it takes.
            entered.local.tell(sock.id, sock.mux.csock(sock.id), true);
        }
        entered.reader_leaves(sock.id);
        match (slots.filled(), slots.error()) {
            (0, Some(error)) => return Err(Errno::new(error)),
            (0, None) => {}
            (filled, _) => {
                entered.lend(sock.id);
                return Ok(filled);
            }
        }
        let is_over = |since| has_waited(sock.ends.own, SO_RCVTIMEO, since);
        if flags & MSG_DONTWAIT != 0 || sock.is_nonblocking() || slept.is_some_and(is_over) {
            return Err(Errno::EAGAIN);
        }
        slept = slept.or_else(|| Some(clock::now()));
        entered.state().reader_sleeps(sock.id);
        drop(entered);
        sock = sleep_on(sock)?;
        woke = true;
    }
}

/// Sleeps until a token comes. A thread that is cancelled meanwhile lets go of the socket, as one that comes back does.
fn sleep_on(sock: Sock) -> Result<Sock, Errno> {
    let own = sock.ends.own;
    let mut held = Some(sock);
    let woken = sleep::for_packet(own, &mut || {
        if let Some(sock) = held.take() {
            sleeps_no_more(&sock);
        }
    });
    let sock = held.ok_or(Errno::EINTR)?;
    if let Err(error) = woken {
        sleeps_no_more(&sock);
        return Err(error);
    }
    Ok(sock)
}

/// A call that slept comes to nothing. If it took a token nevertheless, others are to have one.
fn sleeps_no_more(sock: &Sock) {
    let Ok(mut entered) = sock.mux.enter_beside() else { return };
    entered.take_back(sock.id);
    entered.state().reader_woke(sock.id);
    if entered.state().messages(sock.id) > 0 {
        entered.local.tell(sock.id, sock.mux.csock(sock.id), true);
    }
}

/// Whether a call that first slept at `since`, and was woken in vain, has waited as long as a time-out says. Each sleep
/// begins it anew: so the call may take up to twice as long.
pub fn has_waited(own: Fd, timeout: i32, since: u64) -> bool {
    let limit = call::timeout_option(own, timeout);
    limit > 0 && clock::now().saturating_sub(since) >= limit
}

/// Looks at the next message.
fn peek(sock: &Sock, entered: &mut Entered<'_>, slots: &mut impl Slots, flags: i32) {
    if entered.state().messages(sock.id) == 0 {
        entered.serve(Some(sock.id), &mut NoSink);
    }
    receive_queued(sock, entered, slots, flags);
}

/// Takes what there is, from the queue, and then from TCP itself. A call `asks` the mux's set for the sake of others, or if need
/// be. True if it is to go on without the lock; `told` is for [`Entered::lend_now`].
fn take(sock: &Sock, entered: &mut Entered<'_>, slots: &mut impl Slots, (asks, told): (bool, bool)) -> bool {
    let id = sock.id;
    if entered.state().has_much(id) && entered.lend_now(id, slots, told) {
        return true;
    }
    receive_queued(sock, entered, slots, 0);
    if entered.lend_now(id, slots, told) {
        return true;
    }
    if slots.room().is_some() || entered.state().messages(id) == 0 || entered.state().somebody_waits() {
        entered.read_on(id, slots);
    }
    if slots.room().is_some() || asks || sock.mux.readers.should_ask(slots.filled(), clock::now) {
        entered.serve(Some(id), slots);
        // What came while no message could go straight to the caller.
        receive_queued(sock, entered, slots, 0);
    }
    false
}

fn receive_queued(sock: &Sock, entered: &mut Entered<'_>, slots: &mut impl Slots, flags: i32) {
    entered.with(|state, outside| state.receive_into(sock.id, flags, outside.memory, slots));
}
