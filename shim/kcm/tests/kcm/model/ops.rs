//! What may happen to a mux.

use preloop_kcm::Kind;
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Debug, Clone)]
pub enum Op {
    OnCsock(Index, OnCsock),
    OnPsock(Index, OnPsock),
    Clone(Kind),
    Attach,
}

#[derive(Debug, Clone)]
pub enum OnCsock {
    /// Receive, or peek.
    Receive(usize, bool),
    Drain,
    Disable,
    Enable,
    Sleep,
    Wake,
    ReceiveBuffer(u32),
    LowWater(u32),
    Close,
    /// Send a part of a message, which has a length if it is new, with or without MSG_BATCH.
    Send(usize, usize, bool),
    /// Send from a bad address.
    SendBad,
    Flush,
}

#[derive(Debug, Clone)]
pub enum OnPsock {
    /// The other end makes a message, and so many bytes of what it made come.
    Arrive(usize, usize),
    /// The same, while a call with buffers of its own waits on a csock.
    ArriveFor(Index, usize, usize),
    /// Something comes that is no message.
    Spoil,
    Unattach,
    /// Time goes by until messages that are assembled have taken too long.
    Expire,
    /// The other end reads, and makes room.
    PeerReads(usize),
    /// Writing fails from now on.
    Fail,
    /// TCP tells of a change, and perhaps the program reads SO_ERROR.
    Change(bool),
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 12..40usize, 1 => 12..5000usize]
}

fn on_csock() -> impl Strategy<Value = OnCsock> {
    prop_oneof![
        6 => (prop_oneof![0..30usize, Just(usize::MAX)], any::<bool>()).prop_map(|(a, b)| OnCsock::Receive(a, b)),
        3 => Just(OnCsock::Drain),
        1 => Just(OnCsock::Disable),
        2 => Just(OnCsock::Enable),
        1 => Just(OnCsock::Sleep),
        1 => Just(OnCsock::Wake),
        1 => (1..6000u32).prop_map(OnCsock::ReceiveBuffer),
        1 => (0..4000u32).prop_map(OnCsock::LowWater),
        1 => Just(OnCsock::Close),
        8 => (length(), 1..60usize, any::<bool>()).prop_map(|(a, b, c)| OnCsock::Send(a, b, c)),
        1 => Just(OnCsock::SendBad),
        2 => Just(OnCsock::Flush),
    ]
}

fn on_psock() -> impl Strategy<Value = OnPsock> {
    prop_oneof![
        10 => (length(), 1..200usize).prop_map(|(a, b)| OnPsock::Arrive(a, b)),
        3 => (any::<Index>(), length(), 1..200usize).prop_map(|(a, b, c)| OnPsock::ArriveFor(a, b, c)),
        1 => Just(OnPsock::Spoil),
        1 => Just(OnPsock::Unattach),
        1 => Just(OnPsock::Expire),
        4 => (0..300usize).prop_map(OnPsock::PeerReads),
        1 => Just(OnPsock::Fail),
        1 => any::<bool>().prop_map(OnPsock::Change),
    ]
}

pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (any::<Index>(), on_csock()).prop_map(|(a, b)| Op::OnCsock(a, b)),
        10 => (any::<Index>(), on_psock()).prop_map(|(a, b)| Op::OnPsock(a, b)),
        1 => prop_oneof![Just(Kind::Dgram), Just(Kind::SeqPacket)].prop_map(Op::Clone),
        1 => Just(Op::Attach),
    ]
}
