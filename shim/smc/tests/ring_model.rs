//! Random operations on both ends of a ring, beside a queue that does the same without cursors.
#![cfg(not(loom))]

use std::collections::VecDeque;

use preloop_smc::ring::{Receiver, Sender, Span};
use preloop_uapi::ring::{RxLine, TxLine};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    /// Send up to so many bytes; ask for space when there is none for all.
    Send(usize),
    /// Look for space, send nothing.
    Poll,
    /// Receive up to so many bytes.
    Recv(usize),
    /// MSG_PEEK.
    Peek,
}

fn op(size: usize) -> impl Strategy<Value = Op> {
    // Small messages leave the ring empty often, large ones fill it.
    let bytes = prop_oneof![1..=size / 8, 1..=size + 1];
    prop_oneof![
        4 => bytes.clone().prop_map(Op::Send),
        1 => Just(Op::Poll),
        4 => bytes.prop_map(Op::Recv),
        1 => Just(Op::Peek),
    ]
}

struct Pair {
    size: u64,
    memory: Vec<u8>,
    queue: VecDeque<u8>,
    tx: Sender,
    rx: Receiver,
    tx_line: TxLine,
    rx_line: RxLine,
    /// Bytes ever sent, which also numbers them.
    sent: u64,
    /// A sender that was refused and not woken since.
    refused: bool,
}

impl Pair {
    fn new(size: u64) -> Self {
        Self {
            size,
            memory: vec![0; size as usize],
            queue: VecDeque::new(),
            tx: Sender::default(),
            rx: Receiver::default(),
            tx_line: TxLine::default(),
            rx_line: RxLine::default(),
            sent: 0,
            refused: false,
        }
    }

    fn space(&self) -> Span {
        let space = self.tx.space(&self.rx_line, self.size).unwrap();
        assert_eq!(space.len(), self.memory.len() - self.queue.len());
        if self.queue.is_empty() {
            assert_eq!(space.first, (0, self.memory.len()), "an empty ring begins again at its start");
        }
        space
    }

    fn send(&mut self, n: usize) {
        let span = self.space().take(n);
        for (offset, len) in span.pieces() {
            for byte in &mut self.memory[offset..offset + len] {
                *byte = (self.sent % 251) as u8;
                self.queue.push_back(*byte);
                self.sent += 1;
            }
        }
        self.tx.publish(&self.tx_line, span.len());
        if span.len() < n {
            let enough = self.tx.request_space(&self.tx_line, &self.rx_line, self.size).unwrap();
            assert_eq!(enough, self.tx.writable(&self.rx_line, self.size).unwrap());
            self.refused = !enough;
        }
    }

    fn peek(&self) -> Span {
        let data = self.rx.data(&self.tx_line, self.size).unwrap();
        let bytes = data.pieces().into_iter().flat_map(|(offset, len)| &self.memory[offset..offset + len]);
        assert!(bytes.eq(&self.queue));
        data
    }

    fn recv(&mut self, n: usize) {
        let n = self.peek().take(n).len();
        self.queue.drain(..n);
        self.rx.consume(&self.rx_line, n);
        let woken = self.rx.space_wanted(&self.tx_line, self.size);
        let writable = self.tx.writable(&self.rx_line, self.size).unwrap();
        assert!(writable || !woken, "woken for nothing");
        if self.refused {
            assert_eq!(woken, writable, "a sender that was refused is woken exactly when there is space");
            self.refused = !woken;
        }
    }

    fn check(&self) {
        let unread = self.queue.len() as u64;
        assert_eq!(self.tx.unread(&self.rx_line).unwrap(), unread);
        assert_eq!(self.tx.sent(), self.sent);
        assert_eq!(self.rx.taken(), self.sent - unread);
        let free = self.size - unread;
        assert_eq!(self.tx.writable(&self.rx_line, self.size).unwrap(), free >= self.size / 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_is_received(
        (size, ops) in (4..=12u32).prop_flat_map(|log| {
            (Just(1u64 << log), prop::collection::vec(op(1 << log), 1..400))
        }),
    ) {
        let mut pair = Pair::new(size);
        for op in ops {
            match op {
                Op::Send(n) => pair.send(n),
                Op::Poll => drop(pair.space()),
                Op::Recv(n) => pair.recv(n),
                Op::Peek => drop(pair.peek()),
            }
            pair.check();
        }
        pair.recv(usize::MAX);
        pair.check();
        prop_assert!(pair.queue.is_empty());
    }
}
