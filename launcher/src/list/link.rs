//! The names that SMC-D gives to devices, buffers and links, as `smcss -D` shows them.
//!
//! A kernel has one loopback device, whose GID both ends of a connection show; here each network namespace has one.
//! A link group has a random name of 64 bits: the upper half names the link, and with the number of the ring in its
//! low bits it names a buffer. So the Token of one end is the Peer-Token of the other.

use std::fs;

use preloop_uapi::group::CONNS;

use super::socket::Socket;

/// Where the kernel keeps the random number of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The names of one end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// The loopback device, of both ends.
    pub gid: u64,
    /// The buffer that this end receives in.
    pub token: u64,
    /// The buffer that the peer receives in.
    pub peer_token: u64,
    /// The link group.
    pub id: u32,
}

impl Link {
    /// The names of `socket`, on a machine whose boot is `boot` (see [`boot`]).
    pub fn new(socket: &Socket, boot: u64) -> Self {
        let slot = &socket.slot;
        let rings = 2 * CONNS as u64;
        let ring = (2 * u64::from(slot.conn) + u64::from(slot.side)) % rings;
        let group = slot.token / rings * rings;
        Self {
            gid: boot ^ socket.namespace,
            token: group | ring,
            peer_token: group | (ring ^ 1),
            id: (slot.token >> 32) as u32,
        }
    }
}

/// A number that stays the same until the machine boots again.
pub fn boot() -> u64 {
    let text = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let digits = text.trim().replace('-', "");
    let id = u128::from_str_radix(&digits, 16).unwrap_or_default();
    (id >> 64) as u64 ^ id as u64
}
