//! Take over or leave alone: the only decider.

use crate::process;
use core::net::{IpAddr, SocketAddr};

/// Whether a connection can be told to be local, both ends in this network namespace, by one address alone.
pub fn address_is_local(peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    peer.is_loopback() || peer.is_unspecified()
}

/// Whether a connection can be told to be local by its two addresses: one of them is a loopback address, or both are the
/// same, for the kernel routes nothing but itself that way. Otherwise the kernel is asked for the other end.
pub fn addresses_are_local(local: SocketAddr, peer: SocketAddr) -> bool {
    let (from, to) = (local.ip().to_canonical(), peer.ip().to_canonical());
    from.is_loopback() || to.is_loopback() || from == to
}

/// A TCP socket that is connected to itself (simultaneous open of one port): it has one end, not two.
pub fn is_self_connect(local: SocketAddr, peer: SocketAddr) -> bool {
    local == peer
}

/// Whether the active side proposes now: from the second message on, so that a connection which ends after one
/// request and its answer never pays. Sends say so at once; a pure receiver only after more reads than an answer
/// and its end of file need.
pub fn should_propose(sends: u32, receives: u32) -> bool {
    handshake_is_early() || sends >= 1 || receives >= 3
}

/// Whether the user has every connection begin its handshake with its life, be it ever so short.
pub fn handshake_is_early() -> bool {
    process::settings().early_handshake
}

/// Whether the passive side looks for a proposal before this call: at its first reads after the first message, and
/// at ever rarer calls later, for a peer that only receives. Once it has looked so often that only the time is missing, one
/// more look decides, at the first call for which `is_time`.
pub fn should_look(now_sends: bool, sends: u32, receives: u32, looks: u32, is_time: impl FnOnce() -> bool) -> bool {
    let calls = sends + receives;
    (handshake_is_early() && looks < LOOKS)
        || (!now_sends && (1..=4).contains(&receives))
        || (calls >= 4 && calls.is_power_of_two())
        || (looks >= LOOKS && receives >= 4 && is_time())
}

/// Looks that the passive side takes before it believes that the peer has no SMC.
pub const LOOKS: u32 = 8;

/// Nanoseconds that each side gives the other. While bulk flows hundreds of calls go by in which the peer's thread, with
/// its second message or its next look, has not run at all: calls alone say little.
pub const PATIENCE: u64 = 50_000_000;

/// Whether the passive side has looked enough, `age` nanoseconds after the connection began. A flood of its own may use
/// up its looks before the peer has sent its second message, and with it the proposal: looks without receiving do not
/// count until very many calls went by.
pub fn looked_enough(looks: u32, sends: u32, receives: u32, age: u64) -> bool {
    looks >= LOOKS && (receives >= 4 || sends >= 1024) && age >= PATIENCE
}

/// Whether the active side looks into its mailbox at this call, `waited` calls after it proposed.
pub fn should_look_in_mailbox(waited: u32) -> bool {
    waited < 32 || waited.is_multiple_of(16)
}

/// Whether the peer had its chance: a long stream went by, or it answered two more messages. While bulk flows both ways
/// what looks like an answer may have been sent before the peer could see the proposal: a few calls do not count, nor does
/// a short time.
pub fn proposal_failed(answers: u32, waited: u32, age: u64) -> bool {
    ((answers > 2 && waited > 32) || waited > 4096) && age >= PATIENCE
}

/// Calls after which an Accept that nobody confirmed is withdrawn.
pub const ACCEPT_PATIENCE: u32 = 4096;

/// The overflow uid: what a uid from another user namespace reads as. It may be anybody.
pub const OVERFLOW_UID: u32 = 65534;
