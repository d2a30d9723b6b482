//! What happens to a mux whose processes are killed.

use proptest::prelude::*;

use crate::receive::MSG_EOR;
use crate::send::{MSG_BATCH, MSG_MORE};

#[derive(Debug, Clone)]
pub enum Op {
    /// So many messages come, and a part of another.
    Arrive(u8, u32, usize),
    /// The same while a call with so many buffers waits on a csock.
    ArriveFor(u8, u8, usize),
    Receive(u8),
    Disable(u8),
    Enable(u8),
    Clone(bool),
    Close(u8),
    Attach,
    Unattach(u8),
    /// On any psock, or on that one.
    Send(u8, Option<u8>, i32),
    PeerReads(u8, usize),
    ReceiveBuffer(u8, u32),
}

pub fn op() -> impl Strategy<Value = Op> {
    let flags = prop_oneof![Just(MSG_EOR), Just(MSG_MORE), Just(MSG_BATCH | MSG_EOR)];
    prop_oneof![
        8 => (0..3u8, 0..8u32, 0..40usize).prop_map(|(a, b, c)| Op::Arrive(a, b, c)),
        3 => (0..3u8, 0..4u8, 1..6usize).prop_map(|(a, b, c)| Op::ArriveFor(a, b, c)),
        12 => (0..4u8).prop_map(Op::Receive),
        3 => (0..4u8).prop_map(Op::Disable),
        3 => (0..4u8).prop_map(Op::Enable),
        1 => any::<bool>().prop_map(Op::Clone),
        1 => (0..4u8).prop_map(Op::Close),
        1 => Just(Op::Attach),
        1 => (0..3u8).prop_map(Op::Unattach),
        10 => (0..4u8, prop::option::weighted(0.4, 0..3u8), flags).prop_map(|(a, b, c)| Op::Send(a, b, c)),
        4 => (0..3u8, 0..500usize).prop_map(|(a, b)| Op::PeerReads(a, b)),
        2 => (0..4u8, 1..9000u32).prop_map(|(a, b)| Op::ReceiveBuffer(a, b)),
    ]
}
