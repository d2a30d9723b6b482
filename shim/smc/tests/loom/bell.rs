//! Whoever sleeps beside news is rung, once.

use crate::{Reached, model};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use loom::thread;
use preloop_smc::bell::*;
use preloop_uapi::group::waiter::WANTS_READY;
use preloop_uapi::group::{ReadyBits, WaitLine, WaiterSlot};

/// A bell: rings counted, as an eventfd does.
#[derive(Default)]
pub struct Side {
    pub line: WaitLine,
    pub slot: WaiterSlot,
    pub bits: ReadyBits,
    pub bell: AtomicU64,
}

impl Side {
    /// Tells everybody listed of news at `conn`.
    pub fn tell(&self, conn: usize) {
        for entry in waiters(&self.line) {
            let ring = if entry & WANTS_READY != 0 {
                mark_ready(&self.bits, conn);
                must_ring(&self.slot, &self.bits)
            } else {
                must_ring_unmarked(&self.slot, &self.bits)
            };
            if ring {
                self.bell.fetch_add(1, Relaxed);
            }
        }
    }

    pub fn rings(&self) -> u64 {
        self.bell.fetch_add(0, Relaxed)
    }
}

#[test]
fn a_sleeper_is_rung_once_by_two_tellers() {
    let slept = Reached::default();
    for entry in [1, 1 | WANTS_READY] {
        let reached = slept.clone();
        model(4, move || {
            let side = Arc::new(Side::default());
            let news = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
            let tellers = [0, 1].map(|conn| {
                let (side, news) = (side.clone(), news.clone());
                thread::spawn(move || {
                    news[conn].store(1, Relaxed);
                    side.tell(conn);
                })
            });
            add_waiter(&side.line, entry);
            declare_sleep(&side.slot, 1);
            let seen = [0, 1].map(|conn| news[conn].load(Relaxed) == 1);
            for teller in tellers {
                teller.join().unwrap();
            }
            assert!(side.rings() <= 1);
            if seen != [true; 2] {
                reached.note();
                assert_eq!(side.rings(), 1, "asleep beside news, seen {seen:?}");
            }
        });
    }
    assert!(slept.times() > 0);
}

#[test]
fn the_next_sleep_is_rung_anew() {
    let slept = Reached::default();
    let reached = slept.clone();
    model(4, move || {
        let side = Arc::new(Side::default());
        let news = Arc::new(AtomicU32::new(0));
        add_waiter(&side.line, 1);
        let (side2, news2) = (side.clone(), news.clone());
        let teller = thread::spawn(move || {
            for n in 1..=2 {
                news2.store(n, Relaxed);
                side2.tell(0);
            }
        });
        declare_sleep(&side.slot, 1);
        let first = news.load(Relaxed);
        declare_awake(&side.slot, 2);
        let rung = side.bell.swap(0, Relaxed);
        declare_sleep(&side.slot, 3);
        let last = news.load(Relaxed);
        teller.join().unwrap();
        // A ring of the first sleep that comes late wakes the second, which looks again.
        if last < 2 {
            reached.note();
            assert!(side.rings() > 0, "asleep beside news: saw {first}, then {last}; rung {rung} before");
        }
    });
    assert!(slept.times() > 0);
}

#[test]
fn who_sleeps_on_is_looked_after_by_who_wakes() {
    // Two threads slept on one bell (3 is the later of their declarations); a ring woke one, which emptied the bell.
    model(4, || {
        let side = Arc::new(Side::default());
        let news = Arc::new(AtomicU32::new(0));
        add_waiter(&side.line, 1);
        declare_sleep(&side.slot, 3);
        side.tell(0);
        let (side2, news2) = (side.clone(), news.clone());
        let teller = thread::spawn(move || {
            news2.store(1, Relaxed);
            side2.tell(0);
        });
        side.bell.swap(0, Relaxed);
        declare_awake(&side.slot, 5);
        let passed_on = news.load(Relaxed) == 1;
        teller.join().unwrap();
        assert!(passed_on || side.rings() > 0, "the other one sleeps beside news");
    });
}
