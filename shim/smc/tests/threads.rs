//! Real threads on real processors: a stream through a small ring, both ends asleep whenever they can be. A lost
//! wake-up, which would hang, ends the test after a while.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use preloop_smc::bell::*;
use preloop_smc::ring::{Receiver, Sender};
use preloop_uapi::group::waiter::WANTS_READY;
use preloop_uapi::group::{EndLines, ReadyBits, WaiterSlot};

const SIZE: u64 = 64;
const CONN: usize = 77;
const PATIENCE: Duration = Duration::from_secs(20);

/// One end: its lines, its waiter's slot and bits, and a bell that remembers one ring, as an unpark does.
#[derive(Default)]
struct End {
    lines: EndLines,
    slot: WaiterSlot,
    bits: ReadyBits,
    sleeps: AtomicU64,
}

impl End {
    fn tell(&self, owner: &Thread) {
        for entry in waiters(&self.lines.wait) {
            let ring = if entry & WANTS_READY != 0 {
                mark_ready(&self.bits, CONN);
                must_ring(&self.slot, &self.bits)
            } else {
                must_ring_unmarked(&self.slot, &self.bits)
            };
            if ring {
                owner.unpark();
            }
        }
    }

    /// Sleeps until rung, unless `look` finds something.
    fn sleep(&self, mut look: impl FnMut() -> bool) {
        let seq = self.slot.sleep_seq.load(Relaxed) + 1;
        declare_sleep(&self.slot, seq);
        if !look() {
            self.sleeps.fetch_add(1, Relaxed);
            let since = Instant::now();
            thread::park_timeout(PATIENCE);
            assert!(since.elapsed() < PATIENCE, "never woken");
        }
        declare_awake(&self.slot, seq + 1);
    }
}

/// `entry` is how the receiver is listed; pieces of `chunk` bytes at most.
fn stream(entry: u16, chunk: usize) {
    const TOTAL: u64 = 300_000;
    let memory: Arc<Vec<AtomicU8>> = Arc::new((0..SIZE).map(|_| AtomicU8::new(0)).collect());
    let ends = Arc::new([End::default(), End::default()]);
    add_waiter(&ends[0].lines.wait, 1);
    add_waiter(&ends[1].lines.wait, entry);
    let main = thread::current();
    let sender = thread::spawn({
        let (memory, ends) = (memory.clone(), ends.clone());
        move || {
            let ([me, peer], tx) = (&*ends, Sender::default());
            while tx.sent() < TOTAL {
                let left = (TOTAL - tx.sent()) as usize;
                let span = tx.space(&peer.lines.rx, SIZE).unwrap().take(chunk.min(left));
                if span.is_empty() {
                    if !tx.request_space(&me.lines.tx, &peer.lines.rx, SIZE).unwrap() {
                        me.sleep(|| tx.writable(&peer.lines.rx, SIZE).unwrap());
                    }
                    continue;
                }
                let mut next = tx.sent();
                for (offset, len) in span.pieces() {
                    for cell in &memory[offset..offset + len] {
                        cell.store(next as u8, Relaxed);
                        next += 1;
                    }
                }
                tx.publish(&me.lines.tx, span.len());
                peer.tell(&main);
            }
        }
    });
    let ([peer, me], rx) = (&*ends, Receiver::default());
    while rx.taken() < TOTAL {
        let span = rx.data(&peer.lines.tx, SIZE).unwrap();
        if span.is_empty() {
            if entry & WANTS_READY != 0 {
                // As an epoll set: only what is marked is looked at.
                while !any_ready(&me.bits) {
                    me.sleep(|| any_ready(&me.bits));
                }
                take_ready(&me.bits, |conn| assert_eq!(conn, CONN));
            } else {
                me.sleep(|| !rx.data(&peer.lines.tx, SIZE).unwrap().is_empty());
            }
            continue;
        }
        let mut next = rx.taken();
        for (offset, len) in span.pieces() {
            for cell in &memory[offset..offset + len] {
                assert_eq!(cell.load(Relaxed), next as u8);
                next += 1;
            }
        }
        rx.consume(&me.lines.rx, span.len());
        if rx.space_wanted(&peer.lines.tx, SIZE) {
            peer.tell(sender.thread());
        }
    }
    sender.join().unwrap();
    assert_eq!(rx.taken(), TOTAL);
    assert!(ends.iter().any(|end| end.sleeps.load(Relaxed) > 0));
}

#[test]
fn a_stream_to_a_thread() {
    stream(1, 7);
    stream(1, 64);
}

#[test]
fn a_stream_to_an_epoll_set() {
    stream(1 | WANTS_READY, 7);
    stream(1 | WANTS_READY, 64);
}
