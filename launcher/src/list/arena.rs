//! Copies of the listings in an arena.

use std::io;
use std::mem::offset_of;

use preloop_uapi::listing::{ARENA_MAGIC, ArenaHeader, Listing, SLOT_BYTES, SLOTS, SLOTS_OFFSET, kind};

use super::processes::Member;
use crate::sys::{MAX_RANGES, read_memory};

/// Plain bytes of another process, at the offsets of a layout.
#[derive(Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// The 32-bit word at `offset`.
    ///
    /// # Panics
    /// When it lies outside: offsets come from layouts, never from what was read.
    pub fn u32(self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.word(offset))
    }

    /// The 64-bit word at `offset`.
    ///
    /// # Panics
    /// When it lies outside: offsets come from layouts, never from what was read.
    pub fn u64(self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.word(offset))
    }

    fn word<const N: usize>(self, offset: usize) -> [u8; N] {
        let mut word = [0; N];
        word.copy_from_slice(&self.0[offset..offset + N]);
        word
    }
}

/// A copy of one [`Listing`]; the fields are its own.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is described at the field of the same name of Listing")]
pub struct Slot {
    pub kind: u32,
    pub mode: u32,
    pub decline: u32,
    pub peer_decline: u32,
    pub pid: u32,
    pub fd: i32,
    pub cookie: u64,
    pub group: u64,
    pub conn: u32,
    pub side: u32,
    pub ring: [u64; 2],
    pub token: u64,
}

impl Slot {
    fn new(bytes: Bytes<'_>) -> Self {
        let ring = offset_of!(Listing, ring);
        Self {
            kind: bytes.u32(offset_of!(Listing, kind)),
            mode: bytes.u32(offset_of!(Listing, mode)),
            decline: bytes.u32(offset_of!(Listing, decline)),
            peer_decline: bytes.u32(offset_of!(Listing, peer_decline)),
            pid: bytes.u32(offset_of!(Listing, pid)),
            fd: bytes.u32(offset_of!(Listing, fd)).cast_signed(),
            cookie: bytes.u64(offset_of!(Listing, cookie)),
            group: bytes.u64(offset_of!(Listing, group)),
            conn: bytes.u32(offset_of!(Listing, conn)),
            side: bytes.u32(offset_of!(Listing, side)),
            ring: [bytes.u64(ring), bytes.u64(ring + 8)],
            token: bytes.u64(offset_of!(Listing, token)),
        }
    }
}

/// Copies every slot in use.
///
/// # Errors
/// The kernel's refusal to read that memory, or `InvalidData` when it is no arena.
pub fn read(member: &Member) -> io::Result<Vec<Slot>> {
    let mut slots = Vec::new();
    let used = used(member)?;
    for indexes in used.chunks(MAX_RANGES) {
        let ranges: Vec<_> = indexes
            .iter()
            .map(|index| (member.base.wrapping_add((SLOTS_OFFSET + index * SLOT_BYTES) as u64), size_of::<Listing>()))
            .collect();
        let mut bytes = vec![0; ranges.len() * size_of::<Listing>()];
        read_memory(member.pid, &ranges, &mut bytes)?;
        let copies = bytes.chunks_exact(size_of::<Listing>()).map(|chunk| Slot::new(Bytes(chunk)));
        slots.extend(copies.filter(|slot| slot.kind != kind::FREE));
    }
    Ok(slots)
}

/// Indexes of the slots in use, by the header's bitmap.
fn used(member: &Member) -> io::Result<Vec<usize>> {
    let mut header = [0; offset_of!(ArenaHeader, used)];
    read_memory(member.pid, &[(member.base, header.len())], &mut header)?;
    let header = Bytes(&header);
    if header.u64(offset_of!(ArenaHeader, magic)) != ARENA_MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let high_water = SLOTS.min(header.u32(offset_of!(ArenaHeader, high_water)) as usize);
    let mut bitmap = vec![0; high_water.div_ceil(64) * size_of::<u64>()];
    let address = member.base.wrapping_add(offset_of!(ArenaHeader, used) as u64);
    read_memory(member.pid, &[(address, bitmap.len())], &mut bitmap)?;
    let bitmap = Bytes(&bitmap);
    let is_used = |index: &usize| bitmap.u64(index / 64 * size_of::<u64>()) >> (index % 64) & 1 == 1;
    Ok((0..high_water).filter(is_used).collect())
}
