//! A peer that writes anything anywhere: spans stay inside the ring and nothing panics; what it cannot explain is
//! `Broken`.
#![cfg(not(loom))]

use preloop_smc::ring::{Receiver, Sender, Span};
use preloop_uapi::ring::{RxLine, TxLine};
use preloop_uapi::sync::{AtomicU64, Ordering::Relaxed};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    /// The peer stores a value: so far from what is there now, or anything.
    Near(Field, i64),
    Any(Field, u64),
    /// The peer raises or takes down the flag.
    Flag(u32),
    Send(usize),
    Recv(usize),
}

#[derive(Debug, Clone, Copy)]
enum Field {
    Prod,
    Start,
    Cons,
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![Just(Field::Prod), Just(Field::Start), Just(Field::Cons)]
}

fn op() -> impl Strategy<Value = Op> {
    let edge = prop_oneof![any::<u64>(), (0..9000u64).prop_map(|n| u64::MAX - n), 0..9000u64];
    prop_oneof![
        (field(), -9000..9000i64).prop_map(|(f, by)| Op::Near(f, by)),
        (field(), -20..20i64).prop_map(|(f, by)| Op::Near(f, by)),
        (field(), (-3..3i64).prop_map(|n| n * 16)).prop_map(|(f, by)| Op::Near(f, by)),
        (field(), edge).prop_map(|(f, to)| Op::Any(f, to)),
        any::<u32>().prop_map(Op::Flag),
        (0..5000usize).prop_map(Op::Send),
        (0..5000usize).prop_map(Op::Recv),
    ]
}

fn inside(span: Span, size: u64) {
    assert!(span.len() <= size as usize);
    for (offset, len) in span.pieces() {
        assert!(offset + len <= size as usize, "{span:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_the_ring(log in 4..=12u32, ops in prop::collection::vec(op(), 1..200)) {
        let size = 1u64 << log;
        let (tx, rx, tx_line, rx_line) = (Sender::default(), Receiver::default(), TxLine::default(), RxLine::default());
        let at = |field| -> &AtomicU64 {
            match field {
                Field::Prod => &tx_line.prod,
                Field::Start => &tx_line.start,
                Field::Cons => &rx_line.cons,
            }
        };
        let mut sent = 0;
        for op in ops {
            match op {
                Op::Near(field, by) => at(field).store(at(field).load(Relaxed).wrapping_add_signed(by), Relaxed),
                Op::Any(field, to) => at(field).store(to, Relaxed),
                Op::Flag(to) => tx_line.want_space.store(to, Relaxed),
                Op::Send(n) => {
                    if let Ok(space) = tx.space(&rx_line, size) {
                        inside(space, size);
                        tx.publish(&tx_line, space.take(n).len());
                        sent += space.take(n).len() as u64;
                    }
                    let _ = tx.request_space(&tx_line, &rx_line, size);
                }
                Op::Recv(n) => {
                    if let Ok(data) = rx.data(&tx_line, size) {
                        inside(data, size);
                        rx.consume(&rx_line, data.take(n).len());
                    }
                    let _ = rx.space_wanted(&tx_line, size);
                }
            }
            // The sender's own count is beyond the peer's reach.
            prop_assert_eq!(tx.sent(), sent);
            prop_assert!(tx.unread(&rx_line).is_ok_and(|n| n <= size) || tx.writable(&rx_line, size).is_err());
            let _ = rx.taken();
        }
    }
}
