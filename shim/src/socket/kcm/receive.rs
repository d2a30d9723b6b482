//! recv(2) and its family.

use super::csock::Sock;
use super::mux::Entered;
use libc::{MSG_DONTWAIT, MSG_PEEK};
use preloop_kcm::errno::{EFAULT, Errno as CoreErrno};
use preloop_kcm::pull::Sink;
use preloop_kcm::receive::Received;
use preloop_shm::copy::Buffers;
use preloop_sys::probe::Access;
use preloop_sys::{Errno, sleep};

/// The buffers for one message, and what came into them.
#[derive(Debug)]
pub struct Slot<'a> {
    /// The program's.
    pub buffers: Buffers<'a>,
    /// Bytes and flags.
    pub received: Received,
}

impl<'a> Slot<'a> {
    /// An empty one.
    pub fn new(buffers: Buffers<'a>) -> Self {
        Self { buffers, received: Received { len: 0, flags: 0 } }
    }

    fn fill(&mut self, bytes: &[u8]) -> Result<(), CoreErrno> {
        if !self.buffers.allow(Access::Write, bytes.len()) {
            return Err(EFAULT);
        }
        self.buffers.scatter(0, bytes);
        Ok(())
    }
}

/// Slots, filled one after the other.
struct Slots<'s, 'a> {
    slots: &'s mut [Slot<'a>],
    filled: usize,
    failed: Option<CoreErrno>,
}

impl Sink for Slots<'_, '_> {
    fn room(&self) -> Option<usize> {
        let next = self.slots.get(self.filled).filter(|_| self.failed.is_none());
        next.map(|slot| slot.buffers.len())
    }

    fn put(&mut self, bytes: &[u8], received: Received) -> Result<(), CoreErrno> {
        let Some(slot) = self.slots.get_mut(self.filled) else { return Ok(()) };
        if let Err(error) = slot.fill(bytes) {
            self.failed = Some(error);
            return Err(error);
        }
        slot.received = received;
        self.filled += 1;
        Ok(())
    }
}

/// Receives at least one message, and as many as there are and slots for them. Answers how many.
///
/// # Errors
/// EAGAIN when there is none and the call may not wait, or has waited as long as SO_RCVTIMEO says; EINTR; EFAULT for
/// buffers outside of memory, and the message is lost.
pub fn receive(sock: &Sock, slots: &mut [Slot<'_>], flags: i32) -> Result<usize, Errno> {
    let mut slots = Slots { slots, filled: 0, failed: None };
    let mut woke = false;
    loop {
        let mut entered = sock.mux.enter()?;
        if woke {
            entered.state().reader_woke(sock.id);
        }
        take(sock, &mut entered, &mut slots, flags);
        if woke && entered.state().messages(sock.id) > 0 {
            // The token that woke this call stood for more messages than it takes.
            entered.local.tell(sock.id, sock.mux.csock(sock.id), true);
        }
        match (slots.filled, slots.failed) {
            (0, Some(error)) => return Err(Errno::new(error)),
            (0, None) => {}
            (filled, _) => return Ok(filled),
        }
        if flags & MSG_DONTWAIT != 0 || sock.is_nonblocking() {
            return Err(Errno::EAGAIN);
        }
        entered.state().reader_sleeps(sock.id);
        drop(entered);
        let mut wakes = || {
            if let Ok(mut entered) = sock.mux.enter() {
                entered.state().reader_woke(sock.id);
            }
        };
        if let Err(error) = sleep::for_packet(sock.ends.own, &mut wakes) {
            wakes();
            return Err(error);
        }
        woke = true;
    }
}

/// Takes what there is, from the queue, and then from TCP itself.
fn take(sock: &Sock, entered: &mut Entered<'_>, slots: &mut Slots<'_, '_>, flags: i32) {
    if flags & MSG_PEEK != 0 {
        if entered.state().messages(sock.id) == 0 {
            entered.serve(Some(sock.id), &mut preloop_kcm::pull::NoSink);
        }
        take_queued(sock, entered, slots, flags);
        return;
    }
    take_queued(sock, entered, slots, flags);
    if slots.room().is_some() {
        entered.serve(Some(sock.id), slots);
        // What came while no message could go straight to the caller.
        take_queued(sock, entered, slots, flags);
    }
}

fn take_queued(sock: &Sock, entered: &mut Entered<'_>, slots: &mut Slots<'_, '_>, flags: i32) {
    while let Some(room) = slots.room() {
        let slot = &mut slots.slots[slots.filled];
        let copied = entered
            .with(|state, outside| state.receive(sock.id, room, flags, outside.memory, |bytes| slot.fill(bytes)));
        match copied {
            Ok(received) => {
                slot.received = received;
                slots.filled += 1;
            }
            Err(preloop_kcm::errno::EAGAIN) => return,
            Err(error) => slots.failed = Some(error),
        }
        if flags & MSG_PEEK != 0 {
            return;
        }
    }
}
