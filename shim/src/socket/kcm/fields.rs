//! What a parser reads of its context besides the bytes: what the kernel's packets of this TCP connection have there.
//!
//! A message here is of no packet, so the fields are the connection's, from when it was attached: those of one segment
//! of it. What only packets have (the hash of the flow, the sender's mark and priority, the queue) is zero.

use crate::policy;
use libc::{SO_BINDTOIFINDEX, SO_INCOMING_NAPI_ID, SOL_SOCKET};
use preloop_parsers::{Fields, Program};
use preloop_sys::{Fd, addr, call};

/// The index of `lo` (`LOOPBACK_IFINDEX`), the same in every network namespace.
const LOOPBACK: u32 = 1;

/// The fields for a TCP socket's parser; all zero for one that reads none.
pub fn of(tcp: Fd, program: &Program) -> Fields {
    if !program.reads_fields() {
        return Fields::ZERO;
    }
    let Some(local) = addr::local(tcp) else { return Fields::ZERO };
    let is_ipv4 = local.ip().to_canonical().is_ipv4();
    let protocol = if is_ipv4 { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
    // A connection that is still to come through does not tell its other end.
    let is_local = match addr::peer(tcp) {
        Some(peer) => policy::addresses_are_local(local, peer),
        None => policy::address_is_local(local.ip()),
    };
    let option = |name| call::int_option(tcp, SOL_SOCKET, name).map_or(0, i32::cast_unsigned);
    Fields {
        protocol: u32::from((protocol as u16).to_be()),
        ingress_ifindex: if is_local { LOOPBACK } else { option(SO_BINDTOIFINDEX) },
        napi_id: option(SO_INCOMING_NAPI_ID),
        // The sender's TCP counts the segments of what it sends, and `lo` leaves that as it is; a network device's
        // packets come without, unless they were put together from several.
        gso_segs: u32::from(is_local),
        ..Fields::ZERO
    }
}
