//! The two ends of a connection, as its link group's memory shows them.

use std::mem::offset_of;

use preloop_uapi::group::{CONNS, ConnBlock, EYECATCHER, EndLines, GroupHeader, WaitLine, conn_offset};
use preloop_uapi::ring::{RxLine, TxLine};

use super::arena::{Bytes, Slot};
use crate::sys::read_memory;

/// What one end says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// Stream position up to which it has sent.
    pub sent: u64,
    /// Stream position up to which it has received.
    pub received: u64,
    /// It shut its sending direction down.
    pub shut: bool,
    /// It waits for space.
    pub wants_space: bool,
    /// It will not touch the connection any more.
    pub released: bool,
    /// What it sends goes through the ring, not over TCP any more.
    pub switched: bool,
}

/// Both ends, seen from one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ends {
    /// The end whose socket is listed.
    pub own: End,
    /// The other one.
    pub peer: End,
}

impl Ends {
    /// Reads the ends of the connection in `slot` from process `pid`; `None` when there is nothing to read.
    pub fn read(pid: i32, slot: &Slot) -> Option<Self> {
        let (conn, side) = (slot.conn as usize, slot.side as usize);
        if slot.group == 0 || conn >= CONNS || side > 1 {
            return None;
        }
        let mut bytes = [0; size_of::<GroupHeader>() + size_of::<ConnBlock>()];
        let block = slot.group.wrapping_add(conn_offset(conn) as u64);
        let ranges = [(slot.group, size_of::<GroupHeader>()), (block, size_of::<ConnBlock>())];
        read_memory(pid, &ranges, &mut bytes).ok()?;
        let (header, block) = bytes.split_at(size_of::<GroupHeader>());
        if Bytes(header).u64(offset_of!(GroupHeader, eyecatcher)) != EYECATCHER {
            return None;
        }
        let end = |side: usize| End::new(Bytes(&block[offset_of!(ConnBlock, ends) + side * size_of::<EndLines>()..]));
        Some(Self { own: end(side), peer: end(1 - side) })
    }

    /// Whether the peer has sent what this end has not received yet.
    pub fn unread(&self) -> bool {
        self.peer.switched && self.peer.sent != self.own.received
    }
}

impl End {
    fn new(lines: Bytes<'_>) -> Self {
        let (tx, rx, wait) = (offset_of!(EndLines, tx), offset_of!(EndLines, rx), offset_of!(EndLines, wait));
        Self {
            sent: lines.u64(tx + offset_of!(TxLine, prod)),
            received: lines.u64(rx + offset_of!(RxLine, cons)),
            shut: lines.u32(tx + offset_of!(TxLine, shut)) != 0,
            wants_space: lines.u32(tx + offset_of!(TxLine, want_space)) != 0,
            released: lines.u32(wait + offset_of!(WaitLine, released)) != 0,
            switched: lines.u64(tx + offset_of!(TxLine, switch_at)) != 0
                && lines.u32(tx + offset_of!(TxLine, back)) == 0,
        }
    }
}
