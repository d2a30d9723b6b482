//! Changing back: how a direction that has moved to a ring becomes TCP's again. (SMC has nothing of the kind; its fallback
//! to TCP comes before the first byte.)
//!
//! An end may want what only TCP can do, or be replaced by a program that can read no ring, nor write one. Its own direction is
//! simple: it sets a *mark* behind the last byte that it publishes, and whatever follows goes over TCP. For the other one it
//! needs the peer, who alone can put bytes into TCP there. It *asks*, by a word in its own cursor line:
//!
//! ```text
//! receiver (asks)                              sender (answers)
//! ---------------                              ----------------
//! reads no more; cons stays as it is
//! NONE -> ASKED, rings
//!                                              ASKED -> TAKEN        or REFUSED
//!                                              what lies behind cons goes to TCP
//!                                              TAKEN -> DONE, rings
//! DONE: TCP goes on where the ring was left
//! too long: ASKED -> NONE                      (whoever comes later finds nothing asked)
//! ```
//! The compare-exchange that takes ASKED away decides: after TAKEN the receiver cannot withdraw, and before it the sender
//! has put nothing into TCP. So the bytes behind `cons` are either read from the ring or come over TCP, never both.
//!
//! The receiver stores `cons` before ASKED (Release), and the sender loads it after TAKEN (Acquire): it knows all that was
//! read. Of the mark it is the same the other way round: it is stored after the last `prod`, and loaded before.
//!
//! Both ends may ask each other: each answers while it waits.

use preloop_uapi::ring::back::{ASKED, DONE, NONE, REFUSED, TAKEN};
use preloop_uapi::ring::{RxLine, TxLine};
use preloop_uapi::sync::Ordering::{AcqRel, Acquire, Release};

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// There is none. A word that no sender stores counts as none, too.
    None,
    /// Nobody has answered.
    Asked,
    /// The sender is at it.
    Taken,
    /// The direction is TCP's again.
    Done,
    /// It stays where it is.
    Refused,
}

/// The receiver asks the sender to change back. It reads the ring no more, unless it has withdrawn or was refused.
pub fn ask(line: &RxLine) {
    line.back.store(ASKED, Release);
}

/// What has become of that.
pub fn request(line: &RxLine) -> Request {
    match line.back.load(Acquire) {
        ASKED => Request::Asked,
        TAKEN => Request::Taken,
        DONE => Request::Done,
        REFUSED => Request::Refused,
        _ => Request::None,
    }
}

/// The receiver asks no more; `false` when the sender was quicker.
pub fn withdraw(line: &RxLine) -> bool {
    change(line, ASKED, NONE)
}

/// A refusal was seen.
pub fn acknowledge(line: &RxLine) {
    line.back.store(NONE, Release);
}

/// Whether the receiver asks: a look at a line that the sender looks at anyway.
#[inline]
pub fn is_asked(line: &RxLine) -> bool {
    line.back.load(Acquire) == ASKED
}

/// The sender begins to do it; `false` when the receiver asks no more.
pub fn take(line: &RxLine) -> bool {
    change(line, ASKED, TAKEN)
}

/// The sender has done it.
pub fn finish(line: &RxLine) {
    line.back.store(DONE, Release);
}

/// The sender does not do it.
pub fn refuse(line: &RxLine) {
    change(line, ASKED, REFUSED);
}

fn change(line: &RxLine, from: u32, to: u32) -> bool {
    line.back.compare_exchange(from, to, AcqRel, Acquire).is_ok()
}

/// The sender publishes no more: what it sends next goes over TCP.
pub fn mark(line: &TxLine) {
    line.back.store(1, Release);
}

/// Whether what follows the bytes that are published comes over TCP: looked at before them.
#[inline]
pub fn is_marked(line: &TxLine) -> bool {
    line.back.load(Acquire) != 0
}
