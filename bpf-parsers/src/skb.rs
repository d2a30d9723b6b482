//! What a program sees of its context, `struct __sk_buff` of `linux/bpf.h`, as a socket filter may
//! (`sk_filter_is_valid_access` in the kernel's `net/core/filter.c`).

use std::ops::Range;

/// Bytes of `cb`, the scratch area that programs may write: offsets 48 to 67.
pub(crate) const CB: Range<u32> = 48..68;
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
    /// The word at `offset`, which is a multiple of four.
    pub(crate) fn word(&self, offset: u32, len: u32) -> Option<u32> {
        Some(match offset {
            0 => len,
            4 => self.pkt_type,
            8 => self.mark,
            12 => self.queue_mapping,
            16 => self.protocol,
            20 => self.vlan_present,
            24 => self.vlan_tci,
            28 => self.vlan_proto,
            32 => self.priority,
            36 => self.ingress_ifindex,
            40 => self.ifindex,
            44 => self.tc_index,
            68 => self.hash,
            84 => self.napi_id,
            164 => self.gso_segs,
            176 => self.gso_size,
            _ => return None,
        })
    }
}

/// Whether a program may read, or write, `width` bytes at `offset` of the context.
pub(crate) fn may_access(offset: u32, width: u32, write: bool) -> bool {
    if offset >= SIZE || !matches!(width, 1 | 2 | 4 | 8) || !offset.is_multiple_of(width) {
        return false;
    }
    if CB.contains(&offset) {
        return offset + width <= CB.end;
    }
    !write && width <= 4 && Fields::default().word(offset & !3, 0).is_some()
}
