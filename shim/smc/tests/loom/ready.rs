//! Ready bits tell an epoll set which connections have news, and no news goes without.

use crate::bell::Side;
use crate::{Reached, model};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::thread;
use preloop_smc::bell::*;
use preloop_uapi::group::waiter::WANTS_READY;

/// Two tellers, one taker who takes, sleeps, and is asked at the end whether it can have missed anything.
fn ready(conns: [usize; 2], told_before: bool) {
    let slept = Reached::default();
    let reached = slept.clone();
    model(4, move || {
        let side = Arc::new(Side::default());
        let news = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        add_waiter(&side.line, 1 | WANTS_READY);
        if told_before {
            conns.iter().for_each(|conn| mark_ready(&side.bits, *conn));
        }
        let tellers = [0, 1].map(|i| {
            let (side, news) = (side.clone(), news.clone());
            thread::spawn(move || {
                news[i].store(1, Relaxed);
                side.tell(conns[i]);
            })
        });
        let take = |seen: &mut [bool; 2]| {
            take_ready(&side.bits, |conn| {
                for i in [0, 1] {
                    seen[i] |= conns[i] == conn && news[i].load(Relaxed) == 1;
                }
            });
        };
        let mut seen = [false; 2];
        take(&mut seen);
        declare_sleep(&side.slot, 1);
        let asleep = !any_ready(&side.bits);
        for teller in tellers {
            teller.join().unwrap();
        }
        let missed = seen != [true; 2];
        take(&mut seen);
        assert_eq!(seen, [true; 2], "news that no bit tells of");
        if asleep && missed {
            reached.note();
            assert_eq!(side.rings(), 1, "asleep beside ready bits");
        }
    });
    assert!(slept.times() > 0);
}

#[test]
fn ready_bits_of_one_word() {
    ready([3, 5], false);
}

#[test]
fn ready_bits_of_one_word_marked_before() {
    ready([3, 5], true);
}

#[test]
fn ready_bits_of_one_connection() {
    ready([3, 3], true);
}

#[test]
fn ready_bits_of_two_words() {
    ready([3, 70], true);
}
