//! CLC: the few messages that take a connection from TCP to shared memory, and where they are left.
//!
//! RFC 7609 (appendix A.2) and `net/smc/smc_clc.c` run Proposal, Accept and Confirm through the TCP connection itself, by
//! means of a TCP option that only the kernel can set. Here the *proposal* is a mailbox: the active side (who called
//! connect) listens on an abstract Unix socket whose name says which connection it means. The passive side leaves an
//! *Accept* there, with the shared memory as descriptors, or a *Decline*. *Confirm* is a compare-exchange in the shared
//! memory ([`preloop_uapi::group::confirm`]), so that both sides agree whatever happens to the mailbox.
//!
//! A message is laid out as CLC messages are, big-endian, between two eyecatchers:
//!
//! ```text
//! 0  "SMCD" in EBCDIC      4  type     5  length of all (u16)     7  version (high nibble), 8: first contact
//! Accept:   8  cookie (u64)  16  devices (u8)  17  then for each: kind (u8), length of what follows (u16), parameters
//!           loopback-ism:  group (u64)  conn (u32)  generation (u32)  ring (2 * u64)  total (u64)
//! Decline:  8  diagnosis (u32)
//! end  the eyecatcher again
//! ```
//!
//! Devices come in order of preference. A reader takes the first that it knows and skips the others by their length, so
//! that a device can be added without a new version.

use core::net::{IpAddr, SocketAddr};

use preloop_uapi::decline::Decline;
use preloop_uapi::group::{CONNS, RING_MAX, RING_MIN, total_bytes};

/// The version of these messages, of the group's memory and of what is done with it.
pub const VERSION: u8 = 3;
/// The device of SMC-D between processes of one host (`net/smc/smc_loopback.c`).
pub const DEVICE_LOOPBACK_ISM: u8 = 1;
/// Longest message; a reader with this much room gets every message whole.
pub const MESSAGE_MAX: usize = 256;
/// Longest mailbox name: an abstract `sun_path` without its leading NUL.
pub const NAME_MAX: usize = 107;

const EYECATCHER: [u8; 4] = [0xe2, 0xd4, 0xc3, 0xc4];
const TYPE_ACCEPT: u8 = 2; // SMC_CLC_ACCEPT
const TYPE_DECLINE: u8 = 4; // SMC_CLC_DECLINE
const FIRST_CONTACT: u8 = 8;
const LOOPBACK_BYTES: u16 = 40;

/// What the passive side offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// The passive side's SO_COOKIE of the connection.
    pub cookie: u64,
    /// The link group's token.
    pub group: u64,
    /// First contact: the group's memory comes with this message.
    pub new_group: bool,
    /// Index of the connection in the group.
    pub conn: u32,
    /// `ConnBlock::generation` of this use of the index.
    pub generation: u32,
    /// Ring bytes by receiving side, as in the group's header.
    pub ring: [u64; 2],
    /// Bytes of the group's memory.
    pub total: u64,
}

/// A message in the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Shared memory is offered.
    Accept(Accept),
    /// The connection stays on TCP, and why.
    Decline(Decline),
}

/// Writes the mailbox's abstract name, without its leading NUL, and returns its length. `cookie` is the active side's.
///
/// IPv4 addresses appear as IPv4-mapped ones, so that an AF_INET6 socket and an AF_INET socket agree about a connection.
pub fn mailbox_name(active: SocketAddr, passive: SocketAddr, cookie: u64, out: &mut [u8; NAME_MAX]) -> usize {
    let mut writer = Writer { out, len: 0 };
    writer.bytes(b"preloop/clc/");
    for end in [active, passive] {
        let ip = match end.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        writer.hex(&ip.octets());
        writer.bytes(b".");
        writer.hex(&end.port().to_be_bytes());
        writer.bytes(b"-");
    }
    writer.hex(&cookie.to_be_bytes());
    writer.len
}

/// Writes a message and returns its length.
pub fn encode(message: &Message, out: &mut [u8; MESSAGE_MAX]) -> usize {
    let (kind, flags) = match message {
        Message::Accept(accept) => (TYPE_ACCEPT, if accept.new_group { FIRST_CONTACT } else { 0 }),
        Message::Decline(_) => (TYPE_DECLINE, 0),
    };
    let mut writer = Writer { out, len: 0 };
    writer.bytes(&EYECATCHER);
    writer.bytes(&[kind, 0, 0, VERSION << 4 | flags]);
    match message {
        Message::Accept(accept) => {
            writer.bytes(&accept.cookie.to_be_bytes());
            writer.bytes(&[1, DEVICE_LOOPBACK_ISM]);
            writer.bytes(&LOOPBACK_BYTES.to_be_bytes());
            writer.bytes(&accept.group.to_be_bytes());
            writer.bytes(&accept.conn.to_be_bytes());
            writer.bytes(&accept.generation.to_be_bytes());
            for bytes in [accept.ring[0], accept.ring[1], accept.total] {
                writer.bytes(&bytes.to_be_bytes());
            }
        }
        Message::Decline(decline) => writer.bytes(&decline.0.to_be_bytes()),
    }
    writer.bytes(&EYECATCHER);
    let len = writer.len;
    out[5..7].copy_from_slice(&(len as u16).to_be_bytes());
    len
}

/// Reads one whole message.
///
/// # Errors
/// What to decline with: `VERSION`; `NO_SMCD_DEVICE` when no offered device is known; `BAD_RMBE` when the numbers
/// cannot describe a group; `SYNCHRONISATION` when it is no message at all.
pub fn decode(bytes: &[u8]) -> Result<Message, Decline> {
    parse(bytes).unwrap_or(Err(Decline::SYNCHRONISATION))
}

/// `None` is malformed.
fn parse(bytes: &[u8]) -> Option<Result<Message, Decline>> {
    let mut reader = Reader(bytes);
    reader.bytes(4).filter(|b| *b == EYECATCHER)?;
    let kind = reader.u8()?;
    let len = reader.u16()?;
    let version = reader.u8()?;
    // The version is judged before the length: what a later version's length means is not known.
    if version >> 4 != VERSION {
        return Some(Err(Decline::VERSION));
    }
    if usize::from(len) != bytes.len() {
        return None;
    }
    let message = match kind {
        TYPE_ACCEPT => {
            let cookie = reader.u64()?;
            let mut known = None;
            for _ in 0..reader.u8()? {
                let device = reader.u8()?;
                let len = reader.u16()?;
                let parameters = reader.bytes(usize::from(len))?;
                if device == DEVICE_LOOPBACK_ISM && known.is_none() {
                    known = Some(parameters);
                }
            }
            match known {
                None => Err(Decline::NO_SMCD_DEVICE),
                Some(parameters) => loopback(parameters, cookie, version & FIRST_CONTACT != 0)?.map(Message::Accept),
            }
        }
        TYPE_DECLINE => match Decline(reader.u32()?) {
            Decline::NONE => return None,
            decline => Ok(Message::Decline(decline)),
        },
        _ => return None,
    };
    (reader.0 == EYECATCHER).then_some(message)
}

/// Parameters of [`DEVICE_LOOPBACK_ISM`]; `None` is malformed.
fn loopback(parameters: &[u8], cookie: u64, new_group: bool) -> Option<Result<Accept, Decline>> {
    let mut reader = Reader(parameters);
    let accept = Accept {
        cookie,
        group: reader.u64()?,
        new_group,
        conn: reader.u32()?,
        generation: reader.u32()?,
        ring: [reader.u64()?, reader.u64()?],
        total: reader.u64()?,
    };
    let fits = |ring: u64| ring.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&ring);
    // Of a group that both know, nobody reads the sizes again.
    let layout = !new_group || (accept.ring.into_iter().all(fits) && accept.total >= total_bytes(accept.ring) as u64);
    let possible = layout && (accept.conn as usize) < CONNS;
    reader.0.is_empty().then_some(if possible { Ok(accept) } else { Err(Decline::BAD_RMBE) })
}

/// Appends to a buffer that is known to be large enough.
struct Writer<'a, const N: usize> {
    out: &'a mut [u8; N],
    len: usize,
}

impl<const N: usize> Writer<'_, N> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn hex(&mut self, bytes: &[u8]) {
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                self.bytes(&[b"0123456789abcdef"[usize::from(nibble)]]);
            }
        }
    }
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}
