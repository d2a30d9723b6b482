//! Every interleaving, and every stale value that the memory model allows, of small rings and bells:
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p preloop-smc --release --test loom`.
//!
//! loom 0.7 models what these protocols rest on: loads may return any store not yet known to be overwritten, and SeqCst
//! *fences* are totally ordered (SeqCst accesses are no more than AcqRel there, so the code uses fences). Bytes of the
//! rings are Relaxed atomics: one read too early shows as a wrong number, and so does one reused too early, as the
//! receiver scribbles over what it has taken.
//!
//! Threads make a bounded number of attempts; the rest is done after both have ended. Each model also asserts that it
//! reached the states it is about. Each fails when a fence or an ordering that it is about is taken out.
#![cfg(loom)]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use loom::thread;
use preloop_smc::back;
use preloop_smc::bell::*;
use preloop_smc::ring::{Receiver, Sender};
use preloop_uapi::group::waiter::WANTS_READY;
use preloop_uapi::group::{ReadyBits, WaitLine, WaiterSlot};
use preloop_uapi::ring::{RxLine, TxLine};

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// Counts executions that reached a state; the standard library's own, which loom does not turn back.
#[derive(Clone, Default)]
struct Reached(std::sync::Arc<AtomicUsize>);

impl Reached {
    fn note(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    fn times(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// A ring of numbers instead of bytes.
struct Ring {
    size: u64,
    memory: Vec<AtomicU32>,
    tx: Sender,
    rx: Receiver,
    tx_line: TxLine,
    rx_line: RxLine,
}

impl Ring {
    fn new(size: u64) -> Arc<Self> {
        Arc::new(Self {
            size,
            memory: (0..size).map(|_| AtomicU32::new(u32::MAX)).collect(),
            tx: Sender::default(),
            rx: Receiver::default(),
            tx_line: TxLine::default(),
            rx_line: RxLine::default(),
        })
    }

    /// Sends up to `n` numbers, from the next on; returns how many, and where.
    fn send(&self, n: usize) -> (usize, usize) {
        let mut next = self.tx.sent() as u32;
        let span = self.tx.space(&self.rx_line, self.size).unwrap().take(n);
        for (offset, len) in span.pieces() {
            for cell in &self.memory[offset..offset + len] {
                cell.store(next, Relaxed);
                next += 1;
            }
        }
        self.tx.publish(&self.tx_line, span.len());
        (span.len(), span.first.0)
    }

    /// Takes up to `n` numbers, which must be the next ones; returns how many.
    fn recv(&self, n: usize) -> usize {
        let mut next = self.rx.taken();
        let span = self.rx.data(&self.tx_line, self.size).unwrap().take(n);
        // `taken` counts what a jump did not skip, so a jump leaves it as it was.
        assert_eq!(self.rx.taken(), next);
        for (offset, len) in span.pieces() {
            for cell in &self.memory[offset..offset + len] {
                assert_eq!(u64::from(cell.load(Relaxed)), next);
                cell.store(u32::MAX, Relaxed);
                next += 1;
            }
        }
        self.rx.consume(&self.rx_line, span.len());
        span.len()
    }
}

/// `sends` pieces against `recvs` pieces; returns how many executions began a second run.
fn ring(size: u64, sends: &'static [usize], recvs: &'static [usize]) -> usize {
    let runs = Reached::default();
    let reached = runs.clone();
    model(3, move || {
        let (ring, runs) = (Ring::new(size), reached.clone());
        let sender = ring.clone();
        let thread = thread::spawn(move || {
            let mut total = 0;
            for &n in sends {
                let (sent, at) = sender.send(n);
                if sent > 0 && at == 0 && total > 0 && total % size as usize != 0 {
                    runs.note();
                }
                total += sent;
            }
        });
        for &n in recvs {
            ring.recv(n);
        }
        thread.join().unwrap();
        while ring.recv(usize::MAX) > 0 {}
        assert_eq!(ring.rx.taken(), ring.tx.sent());
    });
    runs.times()
}

#[test]
fn ring_delivers_what_was_sent_across_runs() {
    assert!(ring(4, &[1, 1, 1, 2], &[4, 4, 4]) > 0);
    assert!(ring(2, &[1, 1, 2, 1], &[1, 2, 2]) > 0);
    assert!(ring(4, &[3, 3, 2], &[2, 4, 4]) > 0);
}

/// A bell: rings counted, as an eventfd does.
#[derive(Default)]
struct Side {
    line: WaitLine,
    slot: WaiterSlot,
    bits: ReadyBits,
    bell: AtomicU64,
}

impl Side {
    /// Tells everybody listed of news at `conn`.
    fn tell(&self, conn: usize) {
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

    fn rings(&self) -> u64 {
        self.bell.fetch_add(0, Relaxed)
    }
}

/// How a sender comes to sleep.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Asks, declares its sleep, looks.
    AskDeclareLook,
    /// Asks, declares its sleep, asks again.
    AskDeclareAsk,
    /// Declares its sleep, asks.
    DeclareAsk,
}

/// A sender fills the ring and sleeps; a receiver takes number by number. With `asked_before` there is an earlier
/// request, whose flag the receiver may be about to take down.
fn space(way: Way, asked_before: bool) {
    let (slept, woken) = (Reached::default(), Reached::default());
    let reached = (slept.clone(), woken.clone());
    model(4, move || {
        let (ring, side) = (Ring::new(8), Arc::new(Side::default()));
        assert_eq!(ring.send(8).0, 8);
        if asked_before {
            assert_eq!(ring.tx.request_space(&ring.tx_line, &ring.rx_line, 8), Ok(false));
        }
        assert_eq!(ring.recv(1), 1);
        let sender = thread::spawn({
            let (ring, side) = (ring.clone(), side.clone());
            move || {
                let ask = || ring.tx.request_space(&ring.tx_line, &ring.rx_line, 8).unwrap();
                ring.send(8);
                add_waiter(&side.line, 1);
                if way != Way::DeclareAsk && ask() {
                    return false;
                }
                declare_sleep(&side.slot, 1);
                match way {
                    Way::AskDeclareLook => !ring.tx.writable(&ring.rx_line, 8).unwrap(),
                    Way::AskDeclareAsk | Way::DeclareAsk => !ask(),
                }
            }
        });
        let take = || {
            ring.recv(1);
            if ring.rx.space_wanted(&ring.tx_line, 8) {
                side.tell(0);
            }
        };
        take();
        take();
        if sender.join().unwrap() {
            reached.0.note();
            if side.rings() > 0 {
                reached.1.note();
                return;
            }
            assert_eq!(ring.tx.writable(&ring.rx_line, 8), Ok(false), "asleep beside free space");
            // What is not told yet is told with the space that comes next.
            take();
            take();
            assert_eq!(side.rings(), 1, "never to be woken");
        }
    });
    assert!(slept.times() > woken.times() && woken.times() > 0);
}

#[test]
fn space_asked_for_is_told_of() {
    for asked_before in [false, true] {
        space(Way::AskDeclareLook, asked_before);
        space(Way::AskDeclareAsk, asked_before);
        space(Way::DeclareAsk, asked_before);
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

/// A connection's direction that may change back: the ring, and what the kernel's socket carries after it.
struct Direction {
    ring: Arc<Ring>,
    tcp: loom::sync::Mutex<Vec<u64>>,
}

impl Direction {
    fn new(size: u64) -> Arc<Self> {
        Arc::new(Self { ring: Ring::new(size), tcp: loom::sync::Mutex::new(Vec::new()) })
    }

    /// The next number over TCP.
    fn send_on_tcp(&self, next: u64) {
        self.tcp.lock().unwrap().push(next);
    }

    /// Numbers that came over TCP go on where the ring was left.
    fn recv_from_tcp(&self, next: &mut u64) {
        for number in self.tcp.lock().unwrap().drain(..) {
            assert_eq!(number, *next);
            *next += 1;
        }
    }

    /// The sender looks whether it is asked, and moves what is unread; answers whether the direction is TCP's now.
    fn answer(&self) -> bool {
        let line = &self.ring.rx_line;
        if !back::is_asked(line) || !back::take(line) {
            return false;
        }
        let untaken = self.ring.tx.untaken(line, self.ring.size).unwrap();
        for (offset, len) in untaken.pieces() {
            for cell in &self.ring.memory[offset..offset + len] {
                self.send_on_tcp(u64::from(cell.load(Relaxed)));
            }
        }
        back::finish(line);
        true
    }
}

#[test]
fn what_is_unread_goes_over_tcp_or_stays() {
    let (changed, withdrawn) = (Reached::default(), Reached::default());
    let reached = (changed.clone(), withdrawn.clone());
    model(3, move || {
        let (direction, (changed, withdrawn)) = (Direction::new(4), reached.clone());
        let sender = direction.clone();
        let thread = thread::spawn(move || {
            let mut is_back = false;
            for next in 0..3 {
                is_back = is_back || sender.answer();
                if is_back {
                    sender.send_on_tcp(next);
                } else {
                    assert_eq!(sender.ring.send(1).0, 1);
                }
            }
            if !is_back {
                sender.answer();
            }
        });
        let mut next = direction.ring.recv(1) as u64;
        let line = &direction.ring.rx_line;
        back::ask(line);
        thread::yield_now();
        let is_decided = back::request(line) != back::Request::Asked || !back::withdraw(line);
        if is_decided && back::request(line) == back::Request::Done {
            direction.recv_from_tcp(&mut next);
        }
        thread.join().unwrap();
        if is_decided {
            assert_eq!(back::request(line), back::Request::Done);
            direction.recv_from_tcp(&mut next);
            changed.note();
        } else {
            assert!(direction.tcp.lock().unwrap().is_empty());
            while direction.ring.recv(usize::MAX) > 0 {}
            next = direction.ring.rx.taken();
            withdrawn.note();
        }
        assert_eq!(next, 3);
    });
    assert!(changed.times() > 0 && withdrawn.times() > 0);
}

#[test]
fn nothing_of_the_ring_comes_after_its_mark() {
    let left = Reached::default();
    let reached = left.clone();
    model(3, move || {
        let (direction, left) = (Direction::new(4), reached.clone());
        let sender = direction.clone();
        let thread = thread::spawn(move || {
            assert_eq!(sender.ring.send(2).0, 2);
            back::mark(&sender.ring.tx_line);
            sender.send_on_tcp(2);
        });
        let mut next = 0;
        for _ in 0..3 {
            let is_marked = back::is_marked(&direction.ring.tx_line);
            let got = direction.ring.recv(1) as u64;
            next += got;
            if got == 0 && is_marked {
                direction.recv_from_tcp(&mut next);
                left.note();
            }
        }
        thread.join().unwrap();
        while direction.ring.recv(usize::MAX) > 0 {}
        next = next.max(direction.ring.rx.taken());
        direction.recv_from_tcp(&mut next);
        assert_eq!(next, 3);
    });
    assert!(left.times() > 0);
}
