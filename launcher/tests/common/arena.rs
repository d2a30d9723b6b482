//! Plays the library: an arena of listings, mapped as the library maps it, and the memory of a link group.

use std::ffi::c_void;
use std::fs::File;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;

use preloop_uapi::group::{ConnBlock, EYECATCHER, EndLines, GroupHeader, conn_offset};
use preloop_uapi::listing::{ARENA_MAGIC, ARENA_NAME, ArenaHeader, Listing, SLOT_BYTES, SLOTS, SLOTS_OFFSET};
use preloop_uapi::ring::{RxLine, TxLine};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const LENGTH: usize = SLOTS_OFFSET + SLOTS * SLOT_BYTES;

/// An arena that this process maps.
pub struct Arena {
    memory: File,
    base: *mut c_void,
    used: Vec<usize>,
}

/// What a test writes into a listing.
#[derive(Clone, Copy, Default)]
pub struct Entry {
    pub kind: u32,
    pub mode: u32,
    pub decline: [u32; 2],
    pub pid: u32,
    pub fd: i32,
    pub group: u64,
    pub conn: u32,
    pub side: u32,
    pub ring: [u64; 2],
    pub token: u64,
}

impl Arena {
    pub fn new() -> Self {
        let memory = memfd::MemfdOptions::default().create(ARENA_NAME).unwrap().into_file();
        memory.set_len(LENGTH as u64).unwrap();
        // SAFETY: the kernel chooses the address, so nothing else is mapped over; no reference to it is ever made.
        let base = unsafe { mmap(std::ptr::null_mut(), LENGTH, ProtFlags::READ, MapFlags::SHARED, &memory, 0) };
        memory.write_all_at(&ARENA_MAGIC.to_ne_bytes(), offset_of!(ArenaHeader, magic) as u64).unwrap();
        Self { memory, base: base.unwrap(), used: Vec::new() }
    }

    /// Fills a slot and marks it used.
    pub fn list(&mut self, slot: usize, entry: Entry) {
        let at = SLOTS_OFFSET + slot * SLOT_BYTES;
        let put32 = |offset: usize, value: u32| self.put(at + offset, &value.to_ne_bytes());
        put32(offset_of!(Listing, kind), entry.kind);
        put32(offset_of!(Listing, mode), entry.mode);
        put32(offset_of!(Listing, decline), entry.decline[0]);
        put32(offset_of!(Listing, peer_decline), entry.decline[1]);
        put32(offset_of!(Listing, pid), entry.pid);
        put32(offset_of!(Listing, fd), entry.fd.cast_unsigned());
        put32(offset_of!(Listing, conn), entry.conn);
        put32(offset_of!(Listing, side), entry.side);
        self.put(at + offset_of!(Listing, group), &entry.group.to_ne_bytes());
        self.put(at + offset_of!(Listing, ring), &entry.ring[0].to_ne_bytes());
        self.put(at + offset_of!(Listing, ring) + 8, &entry.ring[1].to_ne_bytes());
        self.put(at + offset_of!(Listing, token), &entry.token.to_ne_bytes());
        self.used.push(slot);
        self.mark(slot / 64);
    }

    fn mark(&self, word: usize) {
        let bits = self.used.iter().filter(|slot| **slot / 64 == word).fold(0u64, |bits, slot| bits | 1 << (slot % 64));
        self.put(offset_of!(ArenaHeader, used) + word * 8, &bits.to_ne_bytes());
        let high_water = self.used.iter().max().unwrap() + 1;
        self.put(offset_of!(ArenaHeader, high_water), &(high_water as u32).to_ne_bytes());
    }

    fn put(&self, offset: usize, bytes: &[u8]) {
        self.memory.write_all_at(bytes, offset as u64).unwrap();
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is this arena's own, and no reference into it was ever made.
        unsafe { munmap(self.base, LENGTH) }.unwrap();
    }
}

/// The cursors of one end.
#[derive(Clone, Copy, Default)]
pub struct Cursors {
    pub prod: u64,
    pub cons: u64,
    pub want_space: u32,
    pub shut: u32,
}

/// Memory of a link group, as far as connection `conn`; `ends` by side.
pub fn group(conn: usize, ends: [Cursors; 2]) -> Vec<u8> {
    let mut memory = vec![0; conn_offset(conn + 1)];
    let mut put = |offset: usize, bytes: &[u8]| memory[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(offset_of!(GroupHeader, eyecatcher), &EYECATCHER.to_ne_bytes());
    for (side, end) in ends.into_iter().enumerate() {
        let at = conn_offset(conn) + offset_of!(ConnBlock, ends) + side * size_of::<EndLines>();
        let (tx, rx) = (at + offset_of!(EndLines, tx), at + offset_of!(EndLines, rx));
        put(tx + offset_of!(TxLine, prod), &end.prod.to_ne_bytes());
        put(tx + offset_of!(TxLine, switch_at), &1u64.to_ne_bytes());
        put(tx + offset_of!(TxLine, want_space), &end.want_space.to_ne_bytes());
        put(tx + offset_of!(TxLine, shut), &end.shut.to_ne_bytes());
        put(rx + offset_of!(RxLine, cons), &end.cons.to_ne_bytes());
    }
    memory
}
