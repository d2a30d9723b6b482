//! Waiters, ready bits and numbered sleeps, step by step and beside models.
#![cfg(not(loom))]

use std::collections::BTreeSet;

use preloop_smc::bell::*;
use preloop_uapi::group::waiter::{ALL, WANTS_READY};
use preloop_uapi::group::{CONNS, ReadyBits, WaitLine, WaiterSlot};
use preloop_uapi::sync::{AtomicU32, Ordering::Relaxed};
use proptest::prelude::*;

fn taken(bits: &ReadyBits) -> Vec<usize> {
    let mut conns = Vec::new();
    take_ready(bits, |conn| conns.push(conn));
    conns
}

fn listed(line: &WaitLine) -> Vec<u16> {
    waiters(line).collect()
}

#[test]
fn one_sleep_is_rung_once() {
    let (slot, bits) = (WaiterSlot::default(), ReadyBits::default());
    assert!(!must_ring(&slot, &bits), "nobody has ever slept");
    declare_sleep(&slot, 1);
    assert!(must_ring(&slot, &bits));
    assert!(!must_ring(&slot, &bits));
    declare_awake(&slot, 2);
    assert!(!must_ring(&slot, &bits));
    declare_sleep(&slot, 3);
    assert!(must_ring_unmarked(&slot, &bits));
    assert!(!must_ring_unmarked(&slot, &bits));
    declare_awake(&slot, 5);
    assert!(must_ring(&slot, &bits), "one of two sleepers woke: the other is rung anew");
    assert!(!must_ring(&slot, &bits));
}

#[test]
fn garbage_in_the_bits_names_only_connections() {
    let bits = ReadyBits::default();
    bits.summary.store(u64::MAX, Relaxed);
    assert!(any_ready(&bits));
    assert_eq!(taken(&bits), []);
    bits.summary.store(u64::MAX, Relaxed);
    for word in &bits.words {
        word.store(u64::MAX, Relaxed);
    }
    assert_eq!(taken(&bits), (0..CONNS).collect::<Vec<_>>());
    mark_ready(&bits, CONNS);
    mark_ready(&bits, usize::MAX);
    assert!(!any_ready(&bits));
}

#[test]
fn a_bit_without_its_summary_is_found_with_the_next_mark() {
    // What a teller leaves behind that dies between the two.
    let bits = ReadyBits::default();
    bits.words[1].store(1, Relaxed);
    assert!(!any_ready(&bits));
    mark_ready(&bits, 64);
    assert_eq!(taken(&bits), [64]);
}

#[test]
fn four_waiters_and_then_all() {
    let (line, unlisted) = (WaitLine::default(), AtomicU32::new(0));
    for entry in [1, 2, 3 | WANTS_READY, 4] {
        assert_eq!(add_waiter(&line, entry), Listed::New);
        assert_eq!(add_waiter(&line, entry), Listed::Already);
    }
    assert_eq!(add_waiter(&line, 5), Listed::Full);
    assert_eq!(listed(&line), [1, 2, 3 | WANTS_READY, 4]);
    assert_eq!(add_waiter_beyond(&line, &unlisted, 5), Listed::New);
    assert_eq!(add_waiter_beyond(&line, &unlisted, 2), Listed::Already);
    assert_eq!(listed(&line), [1, 2, 3 | WANTS_READY, ALL | WANTS_READY]);
    assert_eq!(unlisted.load(Relaxed), 2, "the fifth, and the fourth, who had to make room");
    assert!(remove_waiter(&line, 2));
    assert!(!remove_waiter(&line, 2));
    assert_eq!(add_waiter_beyond(&line, &unlisted, 6), Listed::New);
    assert_eq!(listed(&line), [1, 6, 3 | WANTS_READY, ALL | WANTS_READY]);
    remove_waiter_beyond(&line, &unlisted);
    assert_eq!(listed(&line), [1, 6, 3 | WANTS_READY, ALL | WANTS_READY]);
    remove_waiter_beyond(&line, &unlisted);
    assert_eq!(listed(&line), [1, 6, 3 | WANTS_READY]);
    remove_waiter_beyond(&line, &unlisted);
    assert_eq!(unlisted.load(Relaxed), 0);
    line.waiters.store(u64::MAX, Relaxed);
    assert!(remove_waiter(&line, u16::MAX));
    assert_eq!(listed(&line), []);
    assert_eq!(add_waiter(&line, 0), Listed::Already);
    assert_eq!(listed(&line), []);
}

proptest! {
    #[test]
    fn ready_bits_are_a_set(ops in prop::collection::vec(prop::option::weighted(0.9, 0..CONNS), 1..300)) {
        let (bits, mut model) = (ReadyBits::default(), BTreeSet::new());
        for op in ops.into_iter().chain([None]) {
            if let Some(conn) = op {
                mark_ready(&bits, conn);
                model.insert(conn);
            } else {
                prop_assert_eq!(taken(&bits), std::mem::take(&mut model).into_iter().collect::<Vec<_>>());
            }
            prop_assert_eq!(any_ready(&bits), !model.is_empty());
        }
    }

    #[test]
    fn every_waiter_is_told(ops in prop::collection::vec((any::<bool>(), 1..8u16), 1..100)) {
        let (line, unlisted, mut model) = (WaitLine::default(), AtomicU32::new(0), BTreeSet::new());
        for (add, entry) in ops {
            if add && model.insert(entry) {
                prop_assert_eq!(add_waiter_beyond(&line, &unlisted, entry), Listed::New);
            } else if !add && model.remove(&entry) && !remove_waiter(&line, entry) {
                remove_waiter_beyond(&line, &unlisted);
            }
            let entries: BTreeSet<_> = waiters(&line).collect();
            let all = entries.contains(&(ALL | WANTS_READY));
            // By name, or with all the others; nobody who left is told by name.
            prop_assert!(model.iter().all(|e| all || entries.contains(e)));
            prop_assert!(entries.iter().all(|e| *e == ALL | WANTS_READY || model.contains(e)));
            prop_assert!(all || model.len() <= 4);
        }
        for entry in model {
            if !remove_waiter(&line, entry) {
                remove_waiter_beyond(&line, &unlisted);
            }
        }
        prop_assert_eq!(listed(&line), []);
    }

    #[test]
    fn anything_in_the_list_is_tolerated(word: u64, entry: u16) {
        let line = WaitLine::default();
        line.waiters.store(word, Relaxed);
        add_waiter(&line, entry);
        let now = listed(&line);
        prop_assert!(now.len() <= 4 && !now.contains(&0));
        prop_assert!(entry == 0 || now.contains(&entry) || now.len() == 4);
        remove_waiter(&line, entry);
        prop_assert!(entry == 0 || !listed(&line).contains(&entry));
    }
}
