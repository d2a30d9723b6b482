//! What a program sees of its context, `struct __sk_buff` of `linux/bpf.h`, as a socket filter may
//! (`sk_filter_is_valid_access` in the kernel's `net/core/filter.c`).

use std::ops::Range;

/// Bytes of `len`.
const LEN: Range<u32> = 0..4;
/// Bytes of `cb`, the scratch area that programs may write: offsets 48 to 67.
pub(crate) const CB: Range<u32> = 48..68;
/// `sk`, a pointer to the packet's socket: eight bytes. The kernel gives a parser null, for its packets are copies.
const SK: u32 = 168;
/// `sizeof(struct __sk_buff)`.
const SIZE: u32 = 192;

/// The readable fields of the context besides `len` and `cb`, by their names in `struct __sk_buff`; all zero unless
/// the caller knows better. `cb` is zero at the start of each run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Fields {
    pub pkt_type: u32,
    pub mark: u32,
    pub queue_mapping: u32,
    /// Network byte order in the low half, as the kernel has it.
    pub protocol: u32,
    pub vlan_present: u32,
    pub vlan_tci: u32,
    pub vlan_proto: u32,
    pub priority: u32,
    pub ingress_ifindex: u32,
    pub ifindex: u32,
    pub tc_index: u32,
    pub hash: u32,
    pub napi_id: u32,
    pub gso_segs: u32,
    pub gso_size: u32,
}

impl Fields {
    /// All zero.
    pub const ZERO: Self = Self {
        pkt_type: 0,
        mark: 0,
        queue_mapping: 0,
        protocol: 0,
        vlan_present: 0,
        vlan_tci: 0,
        vlan_proto: 0,
        priority: 0,
        ingress_ifindex: 0,
        ifindex: 0,
        tc_index: 0,
        hash: 0,
        napi_id: 0,
        gso_segs: 0,
        gso_size: 0,
    };

    /// What a load of 1, 2 or 4 bytes gives. As in the kernel a load narrower than the field it takes from (which may
    /// be narrower than its place in the context) takes its part of it, and any other load gives the whole field.
    pub(crate) fn load(&self, offset: u32, width: u32, len: u32) -> Option<u32> {
        let (field, field_width) = self.field(offset & !3, len)?;
        if width >= field_width {
            return Some(field);
        }
        Some(field >> (offset % 4 * 8) & ((1 << (width * 8)) - 1))
    }

    /// The field at `offset`, a multiple of four, and its width in `struct sk_buff`.
    fn field(&self, offset: u32, len: u32) -> Option<(u32, u32)> {
        Some(match offset {
            0 => (len, 4),
            4 => (self.pkt_type, 1),
            8 => (self.mark, 4),
            12 => (self.queue_mapping, 2),
            16 => (self.protocol, 2),
            20 => (self.vlan_present, 1),
            24 => (self.vlan_tci, 2),
            28 => (self.vlan_proto, 2),
            32 => (self.priority, 4),
            36 => (self.ingress_ifindex, 4),
            40 => (self.ifindex, 4),
            44 => (self.tc_index, 2),
            68 => (self.hash, 4),
            84 => (self.napi_id, 4),
            164 => (self.gso_segs, 2),
            176 => (self.gso_size, 2),
            _ => return None,
        })
    }
}

/// Whether a load of `width` bytes at `offset` gives an address: that of `sk`, which is null.
pub(crate) fn is_address(offset: u32, width: u32) -> bool {
    offset == SK && width == 8
}

/// Whether what `offset` holds comes from [`Fields`].
pub(crate) fn is_field(offset: u32) -> bool {
    offset >= LEN.end && !CB.contains(&offset) && offset != SK
}

/// Whether a program may read, or write, `width` bytes at `offset` of the context.
pub(crate) fn may_access(offset: u32, width: u32, write: bool) -> bool {
    if offset >= SIZE || !matches!(width, 1 | 2 | 4 | 8) || !offset.is_multiple_of(width) {
        return false;
    }
    if CB.contains(&offset) {
        return offset + width <= CB.end;
    }
    !write && (is_address(offset, width) || width <= 4 && Fields::ZERO.field(offset & !3, 0).is_some())
}
