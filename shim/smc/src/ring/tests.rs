//! Transitions of the cursors, one row each, with the private state set directly.

use super::*;

const SIZE: u64 = 16;

fn sender(prod: u64, start: u64, cons: u64) -> Sender {
    Sender { prod: prod.into(), start: start.into(), cons: cons.into(), skips: Skips::default() }
}

fn receiver(cons: u64) -> Receiver {
    Receiver { cons: cons.into(), skips: Skips::default() }
}

fn rx_line(cons: u64) -> RxLine {
    RxLine { cons: cons.into(), ..RxLine::default() }
}

fn tx_line(prod: u64, start: u64) -> TxLine {
    TxLine { prod: prod.into(), start: start.into(), ..TxLine::default() }
}

fn span(first: (usize, usize), second: (usize, usize)) -> Span {
    Span { first, second }
}

#[test]
fn space() {
    // prod, start, cons last seen, cons now: space
    for (prod, start, seen, cons, expected) in [
        (0, 0, 0, 0, Ok(span((0, 16), (0, 0)))),
        (5, 0, 0, 0, Ok(span((5, 11), (0, 0)))),
        (16, 0, 0, 0, Ok(span((0, 0), (0, 0)))),     // full
        (16, 0, 0, 5, Ok(span((0, 5), (0, 0)))),     // wrapped
        (13, 0, 0, 5, Ok(span((13, 3), (0, 5)))),    // two pieces
        (13, 0, 5, 13, Ok(span((0, 16), (0, 0)))),   // empty: a new run
        (32, 0, 16, 32, Ok(span((0, 16), (0, 0)))),  // empty, and at the physical start already
        (36, 32, 29, 29, Ok(span((4, 12), (0, 0)))), // the peer has not jumped yet
        (48, 32, 29, 29, Ok(span((0, 0), (0, 0)))),  // the same, full
        (36, 32, 29, 32, Ok(span((4, 12), (0, 0)))), // jumped, nothing taken
        (36, 32, 29, 36, Ok(span((0, 16), (0, 0)))), // jumped, all taken
        (36, 32, 29, 30, Err(Broken)),               // between two runs
        (36, 32, 29, 28, Err(Broken)),               // back
        (36, 32, 29, 37, Err(Broken)),               // ahead of the sender
        (5, 0, 3, 2, Err(Broken)),                   // back
        (5, 0, 0, u64::MAX, Err(Broken)),            // ahead of the sender
        (LAST_RUN + 5, 0, LAST_RUN, LAST_RUN + 5, Ok(span((5, 11), (0, 5)))), // no more runs
    ] {
        let tx = sender(prod, start, seen);
        assert_eq!(tx.space(&rx_line(cons), SIZE), expected, "prod {prod} start {start} seen {seen} cons {cons}");
    }
}

#[test]
fn data() {
    // cons, prod, start: data
    for (cons, prod, start, expected) in [
        (0, 0, 0, Ok(span((0, 0), (0, 0)))),
        (0, 5, 0, Ok(span((0, 5), (0, 0)))),
        (5, 21, 0, Ok(span((5, 11), (0, 5)))),  // full, two pieces
        (5, 22, 0, Err(Broken)),                // more than full
        (5, 4, 0, Err(Broken)),                 // back
        (5, 20, 16, Ok(span((0, 4), (0, 0)))),  // a new run
        (5, 32, 16, Ok(span((0, 16), (0, 0)))), // a new run, full
        (5, 33, 16, Err(Broken)),               // a new run, more than full
        (5, 16, 16, Ok(span((0, 0), (0, 0)))),  // a run without bytes
        (5, 20, 17, Err(Broken)),               // a run that begins in the middle
        (5, 36, 32, Err(Broken)),               // a run that begins too far ahead
        (0, 20, 16, Err(Broken)),               // the same: the sender was at the physical start
        (5, 5, 16, Ok(span((0, 0), (0, 0)))),   // a run whose bytes are not visible yet
        (4, 5, 16, Err(Broken)),                // the same before the run before it was taken
        (18, 20, 16, Ok(span((2, 2), (0, 0)))), // inside the run
        (0, u64::MAX, 0, Err(Broken)),
        (0, u64::MAX, u64::MAX, Err(Broken)),
        (u64::MAX, 0, 0, Err(Broken)),
        (u64::MAX - 20, u64::MAX, u64::MAX - 15, Ok(span((0, 15), (0, 0)))),
        (u64::MAX - 15, u64::MAX, 0, Ok(span((0, 15), (0, 0)))),
    ] {
        let rx = receiver(cons);
        assert_eq!(rx.data(&tx_line(prod, start), SIZE), expected, "cons {cons} prod {prod} start {start}");
    }
}

#[test]
fn a_run_shows_only_with_its_bytes() {
    let (tx, rx, tx_line, rx_line) = (Sender::default(), Receiver::default(), TxLine::default(), RxLine::default());
    tx.space(&rx_line, SIZE).unwrap();
    tx.publish(&tx_line, 5);
    rx.data(&tx_line, SIZE).unwrap();
    rx.consume(&rx_line, 5);
    for _ in 0..3 {
        // Looked at, not used: the run has begun for the sender alone, and only once.
        assert_eq!(tx.space(&rx_line, SIZE), Ok(span((0, 16), (0, 0))));
        tx.publish(&tx_line, 0);
        assert_eq!((tx_line.prod.load(Relaxed), tx_line.start.load(Relaxed)), (5, 0));
        assert_eq!((tx.unread(&rx_line), tx.sent(), rx.taken()), (Ok(0), 5, 5));
    }
    tx.publish(&tx_line, 7);
    assert_eq!((tx_line.prod.load(Relaxed), tx_line.start.load(Relaxed)), (23, 16));
    assert_eq!(tx.unread(&rx_line), Ok(7));
    assert_eq!(rx.data(&tx_line, SIZE), Ok(span((0, 7), (0, 0))));
    rx.consume(&rx_line, 3);
    assert_eq!(rx.data(&tx_line, SIZE), Ok(span((3, 4), (0, 0))));
    assert_eq!((tx.unread(&rx_line), tx.sent(), rx.taken()), (Ok(4), 12, 8));
}

#[test]
fn space_is_asked_for_once_and_answered_at_the_threshold() {
    let (tx, rx, tx_line, rx_line) = (Sender::default(), Receiver::default(), TxLine::default(), RxLine::default());
    tx.space(&rx_line, SIZE).unwrap();
    tx.publish(&tx_line, 16);
    rx.data(&tx_line, SIZE).unwrap();
    assert!(!rx.space_wanted(&tx_line, SIZE));
    assert_eq!(tx.request_space(&tx_line, &rx_line, SIZE), Ok(false));
    rx.consume(&rx_line, 3);
    assert!(!rx.space_wanted(&tx_line, SIZE), "three free bytes are no space");
    rx.consume(&rx_line, 1);
    assert_eq!(tx.writable(&rx_line, SIZE), Ok(true));
    assert!(rx.space_wanted(&tx_line, SIZE));
    assert!(!rx.space_wanted(&tx_line, SIZE), "one wake-up for one request");
    assert_eq!(tx.request_space(&tx_line, &rx_line, SIZE), Ok(true));
    assert!(rx.space_wanted(&tx_line, SIZE), "a flag left raised costs a wake-up");
}

#[test]
fn a_run_that_was_only_begun_is_begun_by_the_successor() {
    let (tx, rx, tx_line, rx_line) = (Sender::default(), Receiver::default(), TxLine::default(), RxLine::default());
    tx.space(&rx_line, SIZE).unwrap();
    tx.publish(&tx_line, 5);
    rx.data(&tx_line, SIZE).unwrap();
    rx.consume(&rx_line, 5);
    // The sender saw the ring empty, and died between the two stores that begin a run.
    assert_eq!(tx.unread(&rx_line), Ok(0));
    tx.start.store(SIZE, Relaxed);
    tx.republish(&tx_line);
    assert!(rx.data(&tx_line, SIZE).unwrap().is_empty());
    assert_eq!(tx.unread(&rx_line), Ok(0));
    tx.space(&rx_line, SIZE).unwrap();
    tx.publish(&tx_line, 3);
    assert!(rx.pending(&tx_line));
    assert_eq!(rx.data(&tx_line, SIZE).map(|data| data.len()), Ok(3));
    rx.consume(&rx_line, 3);
    assert!(!rx.pending(&tx_line));
    assert_eq!(tx.writable(&rx_line, SIZE), Ok(true));
}

#[test]
fn reset_is_the_initial_state() {
    let (tx, rx) = (sender(36, 32, 29), receiver(7));
    tx.skips.note(29, 32);
    rx.skips.note(4, 7);
    tx.reset();
    rx.reset();
    assert_eq!(format!("{tx:?}{rx:?}"), format!("{:?}{:?}", Sender::default(), Receiver::default()));
}

#[test]
fn skips_are_counted_once_however_far_their_maker_came() {
    let skips = Skips::default();
    assert_eq!(skips.before(5), 0);
    for _ in 0..3 {
        // He died before the cursor skipped; the next one begins anew.
        skips.note(5, 16);
        assert_eq!((skips.before(5), skips.before(16)), (0, 11));
    }
    // The stream went on meanwhile, and the next run begins elsewhere.
    skips.note(20, 32);
    skips.note(33, 48);
    assert_eq!((skips.before(33), skips.before(48)), (23, 38));
    // He died between the two stores of a note.
    skips.0[1 - skips.holding(50)].skipped.store(999, Relaxed);
    assert_eq!(skips.before(50), 38);
    skips.note(50, 64);
    assert_eq!((skips.before(63), skips.before(64)), (38, 52));
}

#[test]
fn spans() {
    let all = Span::new(13, 10, SIZE);
    assert_eq!((all, all.len(), all.is_empty()), (span((13, 3), (0, 7)), 10, false));
    assert_eq!(all.pieces(), [(13, 3), (0, 7)]);
    assert_eq!(all.take(2), span((13, 2), (0, 0)));
    assert_eq!(all.take(3), span((13, 3), (0, 0)));
    assert_eq!(all.take(5), span((13, 3), (0, 2)));
    assert_eq!(all.take(usize::MAX), all);
    assert!(all.take(0).is_empty() && Span::default().is_empty() && Span::new(13, 0, SIZE).is_empty());
}

#[test]
fn a_span_is_cut_at_either_end() {
    let whole = Span::new(6, 5, 8);
    assert_eq!(whole.pieces(), [(6, 2), (0, 3)]);
    for n in 0..=6 {
        let (front, rest) = (whole.take(n), whole.skip(n));
        let bytes =
            |span: Span| -> Vec<usize> { span.pieces().into_iter().flat_map(|(at, len)| at..at + len).collect() };
        assert_eq!([bytes(front), bytes(rest)].concat(), bytes(whole), "{n}");
        assert_eq!(front.len(), n.min(5));
    }
}
