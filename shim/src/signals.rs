//! Which signal handler ran: recv(2) and its like go on after one that was installed with SA_RESTART, and answer EINTR
//! after any other. The kernel decides that inside its own calls; a sleep in ppoll(2) is always cut short, so the
//! library must know. Handlers without SA_RESTART are therefore installed behind a trampoline (`hooks/signal.rs`) that
//! leaves a mark in the thread it runs in; the program sees its own handler wherever it asks.

use core::cell::Cell;
use core::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

/// Signal numbers run from 1 to this.
pub const SIGNALS: usize = 64;

/// A handler as the program gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handler {
    /// Its address.
    pub address: usize,
    /// `sa_flags`.
    pub flags: i32,
}

struct Slot {
    address: AtomicUsize,
    flags: AtomicI32,
}

static BEHIND: [Slot; SIGNALS + 1] =
    [const { Slot { address: AtomicUsize::new(0), flags: AtomicI32::new(0) } }; SIGNALS + 1];
/// Signals that siginterrupt(3) asked to interrupt calls: signal(2) heeds it later.
static INTERRUPTING: AtomicU64 = AtomicU64::new(0);

/// Address of the trampoline, once it was used.
static TRAMPOLINE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static MARK: Cell<bool> = const { Cell::new(false) };
}

fn slot(signal: i32) -> Option<&'static Slot> {
    usize::try_from(signal).ok().filter(|signal| *signal >= 1).and_then(|signal| BEHIND.get(signal))
}

/// Whether a handler goes behind the trampoline: it is one, and does not restart calls.
pub fn needs_mark(signal: i32, handler: Handler) -> bool {
    let is_one = !matches!(handler.address, libc::SIG_DFL | libc::SIG_IGN);
    slot(signal).is_some() && is_one && handler.flags & libc::SA_RESTART == 0
}

/// The handler behind the trampoline.
pub fn behind(signal: i32) -> Handler {
    slot(signal).map_or(Handler { address: libc::SIG_DFL, flags: 0 }, |slot| Handler {
        address: slot.address.load(Ordering::Acquire),
        flags: slot.flags.load(Ordering::Acquire),
    })
}

/// Puts a handler behind the trampoline; answers the one before.
pub fn put_behind(signal: i32, handler: Handler) -> Handler {
    let before = behind(signal);
    if let Some(slot) = slot(signal) {
        slot.flags.store(handler.flags, Ordering::Release);
        slot.address.store(handler.address, Ordering::Release);
    }
    before
}

/// Notes where the trampoline is: handlers of the kernel's that lead there are known.
pub fn set_trampoline(address: usize) {
    TRAMPOLINE.store(address, Ordering::Relaxed);
}

/// The address that [`set_trampoline`] noted, or 0.
pub fn trampoline() -> usize {
    TRAMPOLINE.load(Ordering::Relaxed)
}

/// Notes what siginterrupt(3) asked for.
pub fn set_interrupting(signal: i32, interrupts: bool) {
    if slot(signal).is_some() {
        let bit = 1 << (signal - 1);
        if interrupts {
            INTERRUPTING.fetch_or(bit, Ordering::Relaxed);
        } else {
            INTERRUPTING.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

/// Whether signal(2) installs handlers of this signal without SA_RESTART.
pub fn is_interrupting(signal: i32) -> bool {
    slot(signal).is_some() && INTERRUPTING.load(Ordering::Relaxed) & 1 << (signal - 1) != 0
}

/// A handler without SA_RESTART runs in this thread.
pub fn mark() {
    MARK.set(true);
}

/// Forgets what ran before: a sleep begins.
pub fn clear_mark() {
    MARK.set(false);
}

/// Whether such a handler ran since [`clear_mark`].
pub fn is_marked() -> bool {
    MARK.get()
}
