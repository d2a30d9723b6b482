//! A direction that changes back to TCP: every number comes once, in order.

use crate::ring::Ring;
use crate::{Reached, model};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;
use preloop_smc::back;

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
