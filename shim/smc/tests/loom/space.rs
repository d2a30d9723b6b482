//! A sender that sleeps beside a full ring is told of space.

use crate::bell::Side;
use crate::ring::Ring;
use crate::{Reached, model};
use loom::sync::Arc;
use loom::thread;
use preloop_smc::bell::*;

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
