//! Calls that receive without pause.
//!
//! They do themselves what there is to do in their mux, and to wake the pump for each segment would take more time than they
//! do. So they are left on their own: the pump does not hear of the mux's set, and only looks now and then whether they still
//! ask it. They do so now and then even when they have enough: others may wait for what has come. A call that leaves nothing in
//! its socket may be the last one: it has the pump hear of the set again.
//!
//! All of it changes without the mux's lock: to look is not to hold up.

use preloop_kcm::id::PsockId;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// The calls of one process that receive from a mux.
#[derive(Debug, Default)]
pub struct Readers {
    /// The last one left messages in its socket: another one comes for them, and then asks the set itself.
    busy: AtomicBool,
    /// The pump does not hear of the set.
    on_their_own: AtomicBool,
    /// How often they have asked the set.
    asked: AtomicU32,
    /// When they last did, in nanoseconds of CLOCK_MONOTONIC.
    asked_at: AtomicU64,
    /// Messages that they had enough of without.
    unasked: AtomicU32,
    /// The psock that one read on last, of those that more was left in.
    last_read: AtomicU8,
}

/// Of calls that have enough, one looks how long ago the set was asked whenever so many messages were received: the clock
/// costs as much as a message of a few bytes.
const UNASKED: u32 = 16;
/// After so long, in nanoseconds, it asks. What is for others waits no longer than it would for the pump to wake; and the
/// kernel's answer, some hundred nanoseconds, is little beside it.
const UNASKED_FOR: u64 = 25_000;
/// Whoever did not ask for so long, in nanoseconds, does not come often enough to serve others.
const SELDOM: u64 = 100_000;

impl Readers {
    /// One asks the mux's set, at that time.
    pub fn asked(&self, now: u64) {
        self.asked.fetch_add(1, SeqCst);
        self.asked_at.store(now, Relaxed);
    }

    /// One has enough, so many messages. Whether it asks the set nevertheless, for the sake of others.
    pub fn should_ask(&self, messages: usize, now: impl FnOnce() -> u64) -> bool {
        let before = self.unasked.fetch_add(messages as u32, Relaxed);
        before % UNASKED + messages as u32 >= UNASKED && self.since_asked(now()) >= UNASKED_FOR
    }

    /// One has enough, without the mux's lock: another one comes.
    pub fn go_on_without_asking(&self) {
        if !self.busy.load(Relaxed) {
            self.busy.store(true, SeqCst);
        }
    }

    /// As [`Readers::should_ask`], of calls that count by themselves.
    pub fn is_to_ask(&self, unasked: &mut usize, now: impl FnOnce() -> u64) -> bool {
        let looks = *unasked >= UNASKED as usize;
        if looks {
            *unasked = 0;
        }
        looks && self.since_asked(now()) >= UNASKED_FOR
    }

    fn since_asked(&self, now: u64) -> u64 {
        now.saturating_sub(self.asked_at.load(Relaxed))
    }

    /// One reads on what was left in a psock.
    pub fn reads(&self, psock: PsockId) {
        self.last_read.store(psock.0, Relaxed);
    }

    /// Which one that was the last time.
    pub fn last_read(&self) -> PsockId {
        PsockId(self.last_read.load(Relaxed))
    }

    /// One is about to leave the mux. True when the pump is to hear of the set again.
    pub fn leave(&self, comes_again: bool) -> bool {
        self.busy.store(comes_again, SeqCst);
        !comes_again && self.take_back()
    }

    /// Whether they need nobody else, as it seems.
    pub fn are_busy(&self, now: u64) -> bool {
        self.busy.load(SeqCst) && self.since_asked(now) < SELDOM
    }

    /// The pump does not hear of the set any more. The answer is how often they had asked it, or none when one has left in
    /// the meantime, which may be the last: then the pump is to hear of it again.
    pub fn left_on_their_own(&self) -> Option<u32> {
        self.on_their_own.store(true, SeqCst);
        if !self.busy.load(SeqCst) && self.take_back() { None } else { Some(self.asked.load(SeqCst)) }
    }

    /// Whether they are on their own, and have asked the set since `asked`, which is brought up to date.
    pub fn go_on(&self, asked: &mut u32) -> bool {
        let now = self.asked.load(SeqCst);
        self.on_their_own.load(SeqCst) && self.busy.load(SeqCst) && core::mem::replace(asked, now) != now
    }

    /// Whether the pump does not hear of the set, and looks after a while whether they still ask.
    pub fn are_on_their_own(&self) -> bool {
        self.on_their_own.load(SeqCst)
    }

    /// They do not ask any more. True when the pump is to hear of the set again.
    pub fn have_stopped(&self) -> bool {
        self.busy.store(false, SeqCst);
        self.take_back()
    }

    /// In a forked child, where there are none.
    pub fn forget(&self) {
        self.busy.store(false, SeqCst);
        self.on_their_own.store(false, SeqCst);
    }

    fn take_back(&self) -> bool {
        self.on_their_own.swap(false, SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::{Readers, SELDOM, UNASKED, UNASKED_FOR};

    #[test]
    fn calls_that_have_enough_ask_after_a_while() {
        let readers = Readers::default();
        let asks = |at, messages| (0..UNASKED).filter(|_| readers.should_ask(messages, || at)).count();
        readers.asked(1000);
        assert_eq!(asks(999 + UNASKED_FOR, 1), 0);
        assert_eq!(asks(1000 + UNASKED_FOR, 1), 1);
        assert_eq!(asks(1000 + UNASKED_FOR, UNASKED as usize), UNASKED as usize);
    }

    #[test]
    fn the_pump_leaves_a_mux_to_those_who_come_often() {
        let readers = Readers::default();
        readers.asked(1000);
        assert!(!readers.are_busy(1001));
        assert!(!readers.leave(true));
        assert!(readers.are_busy(999 + SELDOM) && !readers.are_busy(1000 + SELDOM));
        let mut asked = readers.left_on_their_own().expect("one comes again");
        assert!(!readers.go_on(&mut asked));
        readers.asked(2000);
        assert!(readers.go_on(&mut asked) && !readers.go_on(&mut asked));
        assert!(readers.leave(false) && !readers.leave(false));
        assert_eq!(readers.left_on_their_own(), None);
    }
}
