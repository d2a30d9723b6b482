//! What is measured.

use preloop_tests::placement::Placement::{self, Apart, Free, Together};

/// One row of the table: a mode of the program with KCM, one without, and the far end of both.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) by_hand: &'static str,
    pub(crate) far: &'static str,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) tcp: &'static str,
    pub(crate) kcm: &'static str,
    /// What the figure with KCM is to be at least, as a multiple of TCP's.
    pub(crate) aim: Option<f64>,
    pub(crate) placement: Placement,
}

const READ: Row = Row {
    name: "recvmmsg of 64, 64 B",
    by_hand: "read 64 KiB and split",
    far: "flood",
    size: 64,
    tcp: "split",
    kcm: "kcm-mmsg",
    aim: None,
    placement: Apart,
};

const PING: Row =
    Row { name: "send and recv, 64 B", by_hand: "send and recv", far: "echo", tcp: "ping", kcm: "kcm-ping", ..READ };

const SEND: Row = Row {
    name: "sendmmsg of 64, 64 B",
    by_hand: "writev of 64",
    far: "sink",
    tcp: "writev",
    kcm: "kcm-sendmmsg",
    ..READ
};

/// As many bytes a call as by hand.
const READ_MOST: Row = Row { name: "recvmmsg of 1024, 64 B", kcm: "kcm-mmsg-most", ..READ };

pub(crate) const ROWS: [Row; 14] = [
    Row { aim: Some(0.8), ..READ_MOST },
    Row { aim: Some(0.8), placement: Together, ..READ_MOST },
    READ,
    Row { placement: Together, ..READ },
    Row { by_hand: "read head and body", tcp: "twice", aim: Some(5.0), ..READ },
    Row { name: "recv, 64 B", kcm: "kcm-recv", ..READ },
    PING,
    Row { placement: Together, ..PING },
    SEND,
    Row { name: "send, MSG_BATCH of 64, 64 B", kcm: "kcm-batch", ..SEND },
    Row { name: "send, 64 B", by_hand: "send", tcp: "send", kcm: "kcm-send", ..SEND },
    Row { name: "recv, 64 KiB", by_hand: "read head and body", size: 64 << 10, tcp: "twice", kcm: "kcm-recv", ..READ },
    Row { name: "send, 64 KiB", by_hand: "send", size: 64 << 10, tcp: "send", kcm: "kcm-send", ..SEND },
    Row { name: "4 threads, 4 connections, 64 B", tcp: "split-4", kcm: "kcm-mmsg-4", placement: Free, ..READ },
];
