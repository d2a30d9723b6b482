//! What was sent is delivered, in order, wherever the sender begins again at the ring's start.

use crate::{Reached, model};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::thread;
use preloop_smc::ring::{Receiver, Sender};
use preloop_uapi::ring::{RxLine, TxLine};

/// A ring of numbers instead of bytes.
pub struct Ring {
    pub size: u64,
    pub memory: Vec<AtomicU32>,
    pub tx: Sender,
    pub rx: Receiver,
    pub tx_line: TxLine,
    pub rx_line: RxLine,
}

impl Ring {
    pub fn new(size: u64) -> Arc<Self> {
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
    pub fn send(&self, n: usize) -> (usize, usize) {
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
    pub fn recv(&self, n: usize) -> usize {
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
