//! Calls that receive without pause.
//!
//! They do themselves what there is to do in their mux, and to wake the pump for each segment would take more time than they
//! do. So they are left on their own: the pump does not hear of the mux's set, and only looks now and then whether they still
//! ask it. A call that leaves nothing in its socket may be the last one: it has the pump hear of the set again.
//!
//! All of it changes without the mux's lock: to look is not to hold up.

use std::sync::atomic::{
    AtomicBool, AtomicU32,
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
    /// How often they had enough without.
    unasked: AtomicU32,
}

/// So many calls in a row may go without asking the set.
const UNASKED: u32 = 8;

impl Readers {
    /// One asks the mux's set.
    pub fn asked(&self) {
        self.asked.fetch_add(1, SeqCst);
    }

    /// One has enough. Whether it asks the set nevertheless, for the sake of others.
    pub fn should_ask(&self) -> bool {
        self.unasked.fetch_add(1, Relaxed) % UNASKED == UNASKED - 1
    }

    /// One is about to leave the mux. True when the pump is to hear of the set again.
    pub fn leave(&self, comes_again: bool) -> bool {
        self.busy.store(comes_again, SeqCst);
        !comes_again && self.take_back()
    }

    /// Whether they need nobody else, as it seems.
    pub fn are_busy(&self) -> bool {
        self.busy.load(SeqCst)
    }

    /// The pump does not hear of the set any more. The answer is how often they had asked it, or none when one has left in
    /// the meantime, which may be the last: then the pump is to hear of it again.
    pub fn left_on_their_own(&self) -> Option<u32> {
        self.on_their_own.store(true, SeqCst);
        if !self.are_busy() && self.take_back() { None } else { Some(self.asked.load(SeqCst)) }
    }

    /// Whether they are on their own, and have asked the set since `asked`, which is brought up to date.
    pub fn go_on(&self, asked: &mut u32) -> bool {
        let now = self.asked.load(SeqCst);
        self.on_their_own.load(SeqCst) && self.are_busy() && core::mem::replace(asked, now) != now
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
