//! The memory of a link group: a sealed memfd mapped by both processes. Layout in `preloop_uapi::group`.

use crate::copy::Ring;
use memfd::{FileSeal, MemfdOptions};
use preloop_smc::clc;
use preloop_sys::unix::Inner;
use preloop_sys::{Fd, process};
use preloop_uapi::decline::Decline;
use preloop_uapi::group::{self, ConnBlock, EYECATCHER, GroupHeader, RING_MAX, RING_MIN, SideControl};
use preloop_uapi::sync::Ordering;
use std::fs::File;
use std::os::fd::AsRawFd;

/// A mapped group. The layout is computed once, from values that were checked; the header is not read again.
#[derive(Debug)]
pub struct GroupMemory {
    base: *mut u8,
    bytes: usize,
    ring: [u64; 2],
}

// SAFETY: all access goes through atomics or `Ring`.
unsafe impl Send for GroupMemory {}
// SAFETY: as above.
unsafe impl Sync for GroupMemory {}

/// Bytes of a group with rings of these sizes, which somebody else chose.
fn group_bytes(ring: [u64; 2]) -> Result<usize, Decline> {
    let possible = ring.iter().all(|size| size.is_power_of_two() && (RING_MIN..=RING_MAX).contains(size));
    if possible { Ok(group::total_bytes(ring)) } else { Err(Decline::BAD_RMBE) }
}

fn map(memfd: Fd, bytes: usize, ring: [u64; 2]) -> Result<GroupMemory, Decline> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(core::ptr::null_mut(), bytes, access, flags, memfd, 0) };
    if base == libc::MAP_FAILED {
        return Err(Decline::MEMORY);
    }
    // A core dump of the program need not hold the rings of all its connections.
    // SAFETY: the range was just mapped.
    unsafe { libc::madvise(base, bytes, libc::MADV_DONTDUMP) };
    Ok(GroupMemory { base: base.cast(), bytes, ring })
}

impl GroupMemory {
    /// Makes a group whose rings towards side 0 and side 1 have these sizes (powers of two); answers the memfd too,
    /// which is to be passed.
    ///
    /// # Errors
    /// [`Decline::MEMORY`].
    pub fn create(ring: [u64; 2]) -> Result<(Self, File), Decline> {
        let bytes = group::total_bytes(ring);
        // Beyond RLIMIT_FSIZE ftruncate does not fail but kills the program with SIGXFSZ.
        if process::limit(libc::RLIMIT_FSIZE) < bytes as u64 {
            return Err(Decline::MEMORY);
        }
        let options = MemfdOptions::default().allow_sealing(true).close_on_exec(true);
        let memfd = options.create("preloop-group").map_err(|_| Decline::MEMORY)?;
        memfd.as_file().set_len(bytes as u64).map_err(|_| Decline::MEMORY)?;
        for seal in [FileSeal::SealShrink, FileSeal::SealGrow, FileSeal::SealSeal] {
            memfd.add_seal(seal).map_err(|_| Decline::MEMORY)?;
        }
        let file = memfd.into_file();
        let memory = map(file.as_raw_fd(), bytes, ring)?;
        let header = memory.header();
        header.eyecatcher.store(EYECATCHER, Ordering::Relaxed);
        header.total.store(bytes as u64, Ordering::Relaxed);
        header.ring[0].store(ring[0], Ordering::Relaxed);
        header.ring[1].store(ring[1], Ordering::Relaxed);
        Ok((memory, file))
    }

    /// Maps the memfd that came with an Accept.
    ///
    /// # Errors
    /// [`Decline::BAD_RMBE`] when it is not sealed against shrinking (the peer could kill this process with SIGBUS) or
    /// its size or header are not what the Accept says; [`Decline::MEMORY`].
    pub fn open(memfd: &Inner, accept: &clc::Accept) -> Result<Self, Decline> {
        if accept.total != group_bytes(accept.ring)? as u64 {
            return Err(Decline::BAD_RMBE);
        }
        Self::open_sized(memfd.fd(), accept.ring)
    }

    /// Maps a group's memfd whose rings have these sizes: it is mapped already, or was in an earlier program of this
    /// process.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_sized(memfd: Fd, ring: [u64; 2]) -> Result<Self, Decline> {
        let bytes = group_bytes(ring)?;
        // SAFETY: plain numbers, and a structure that fstat fills or leaves as it is.
        let (seals, size) = unsafe {
            let mut stat: libc::stat = core::mem::zeroed();
            libc::fstat(memfd, &raw mut stat);
            (libc::fcntl(memfd, libc::F_GET_SEALS), stat.st_size)
        };
        let sealed = seals >= 0 && seals & libc::F_SEAL_SHRINK != 0;
        if !sealed || size != bytes as i64 {
            return Err(Decline::BAD_RMBE);
        }
        let memory = map(memfd, bytes, ring)?;
        if memory.header().eyecatcher.load(Ordering::Relaxed) != EYECATCHER {
            return Err(Decline::BAD_RMBE);
        }
        Ok(memory)
    }

    /// Bytes of the whole memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Address in this process.
    pub fn address(&self) -> u64 {
        self.base as u64
    }

    /// Ring sizes as in the header.
    pub fn ring_sizes(&self) -> [u64; 2] {
        self.ring
    }

    /// # Safety
    /// `offset` must be that of a `T` in the layout.
    unsafe fn view<T>(&self, offset: usize) -> &T {
        debug_assert!(offset + size_of::<T>() <= self.bytes);
        // SAFETY: mapped for `self`'s life and aligned by the layout; T consists of atomics, for which any bytes
        // are valid and concurrent stores by the peer are no data race.
        unsafe { &*self.base.add(offset).cast::<T>() }
    }

    fn header(&self) -> &GroupHeader {
        // SAFETY: the header is at 0.
        unsafe { self.view(0) }
    }

    /// The waiters of `side` (0 or 1).
    pub fn side(&self, side: usize) -> &SideControl {
        assert!(side < 2);
        // SAFETY: by the layout.
        unsafe { self.view(group::side_offset(side)) }
    }

    /// Connection block `conn`.
    pub fn conn(&self, conn: usize) -> &ConnBlock {
        assert!(conn < group::CONNS);
        // SAFETY: by the layout.
        unsafe { self.view(group::conn_offset(conn)) }
    }

    /// The ring of `conn` whose receiver is `side`.
    pub fn ring(&self, conn: usize, side: usize) -> Ring {
        assert!(conn < group::CONNS && side < 2);
        let offset = group::ring_offset(conn, side, self.ring);
        // SAFETY: inside the mapping by the layout; callers keep the group while they use the ring.
        unsafe { Ring::new(self.base.add(offset), self.ring[side] as usize) }
    }

    /// Gives the pages of both rings of `conn` back to the system; they read as zero afterwards.
    pub fn give_back(&self, conn: usize) {
        assert!(conn < group::CONNS);
        let offset = group::ring_offset(conn, 0, self.ring);
        let bytes = (self.ring[0] + self.ring[1]) as usize;
        // SAFETY: the range lies inside the mapping, page-aligned because rings are powers of two above a page.
        unsafe { libc::madvise(self.base.add(offset).cast(), bytes, libc::MADV_REMOVE) };
    }
}

impl Drop for GroupMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no view outlives `self`.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}
