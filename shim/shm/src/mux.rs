//! The memory of a KCM multiplexor: one mapping, which forked siblings share. Layout in `preloop_uapi::mux`.
//!
//! Everything behind the header is reached by who holds the mux's lock, and by nobody else; siblings are one program,
//! and trust each other with it.

use crate::lock::{Held, RobustLock};
use core::ops::Range;
use memfd::MemfdOptions;
use preloop_kcm::MuxState;
use preloop_kcm::id::{CsockId, PsockId};
use preloop_kcm::outside::{Region, Regions};
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, clock, process};
use preloop_uapi::mux::{
    HELD_BYTES, HELD_OFFSET, MUX_BYTES, MUX_MAGIC, MUX_NAME, MuxHeader, PLACES, REGION_BYTES, REGIONS_OFFSET,
    STATE_OFFSET,
};
use preloop_uapi::sync::Ordering;
use std::os::fd::{AsRawFd, IntoRawFd};

const _: () = {
    assert!(size_of::<MuxState>() <= REGIONS_OFFSET - STATE_OFFSET);
    assert!(size_of::<RobustLock>() <= size_of::<[u64; 8]>() && align_of::<RobustLock>() <= 8);
};

/// A mapped mux.
#[derive(Debug)]
pub struct MuxMemory {
    base: *mut u8,
}

// SAFETY: the header is atomics and a lock; the rest is reached through `Locked` alone.
unsafe impl Send for MuxMemory {}
// SAFETY: as above.
unsafe impl Sync for MuxMemory {}

impl MuxMemory {
    /// Makes a mux without sockets; answers its memfd too.
    ///
    /// # Errors
    /// ENOMEM when there is no room for it, in memory or address space; EMFILE and its like.
    pub fn create() -> Result<(Self, Inner), Errno> {
        // Beyond RLIMIT_FSIZE ftruncate does not fail but kills the program with SIGXFSZ.
        if process::limit(libc::RLIMIT_FSIZE) < MUX_BYTES as u64 {
            return Err(Errno::ENOMEM);
        }
        let memfd = MemfdOptions::default().close_on_exec(true).create(MUX_NAME).map_err(|error| match error {
            memfd::Error::Create(error) => Errno::new(error.raw_os_error().unwrap_or(libc::ENOMEM)),
            _ => Errno::ENOMEM,
        })?;
        memfd.as_file().set_len(MUX_BYTES as u64).map_err(|_| Errno::ENOMEM)?;
        let memory = Self::map(memfd.as_file().as_raw_fd())?;
        memory.lock_word().init_passed_on();
        let header = memory.header();
        header.id.store(process::random(), Ordering::Relaxed);
        header.made_at.store(clock::now(), Ordering::Relaxed);
        header.pid.store(process::pid(), Ordering::Relaxed);
        header.magic.store(MUX_MAGIC, Ordering::Release);
        Ok((memory, Inner::from_raw(memfd.into_file().into_raw_fd()).move_high()))
    }

    /// Maps a mux that another process made, and shares with this one.
    ///
    /// # Errors
    /// EINVAL when it is none; ENOMEM.
    pub fn open(memfd: Fd) -> Result<Self, Errno> {
        if call::file_size(memfd)? != MUX_BYTES as u64 {
            return Err(Errno::EINVAL);
        }
        let memory = Self::map(memfd)?;
        if memory.header().magic.load(Ordering::Acquire) == MUX_MAGIC { Ok(memory) } else { Err(Errno::EINVAL) }
    }

    fn map(memfd: Fd) -> Result<Self, Errno> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(core::ptr::null_mut(), MUX_BYTES, access, flags, memfd, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::ENOMEM);
        }
        // A core dump of the program need not hold gigabytes of address space.
        // SAFETY: the range was just mapped.
        unsafe { libc::madvise(base, MUX_BYTES, libc::MADV_DONTDUMP) };
        Ok(Self { base: base.cast() })
    }

    /// What is known without the lock.
    pub fn header(&self) -> &MuxHeader {
        // SAFETY: mapped as long as `self` lives; atomics only, valid whatever they hold.
        unsafe { &*self.base.cast() }
    }

    fn lock_word(&self) -> &RobustLock {
        // SAFETY: inside the header, large and aligned enough (see above), initialised by `create` before anybody locks it.
        unsafe { &*self.header().lock.as_ptr().cast() }
    }

    /// Takes the lock.
    pub fn lock(&self) -> Locked<'_> {
        Locked { held: self.lock_word().lock(), memory: self }
    }
}

impl Drop for MuxMemory {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, to which nobody has a reference any more.
        unsafe { libc::munmap(self.base.cast(), MUX_BYTES) };
    }
}

/// A mux, locked.
#[derive(Debug)]
pub struct Locked<'a> {
    held: Held<'a>,
    memory: &'a MuxMemory,
}

impl Locked<'_> {
    /// The state and the regions.
    pub fn parts(&mut self) -> (&mut MuxState, MuxRegions<'_>) {
        // SAFETY: all who reach the state hold the lock, and `self` is borrowed as long as the answer lives. Zeros, which it
        // begins with, are a valid state, and nobody stores anything but states there.
        let state = unsafe { &mut *self.memory.base.add(STATE_OFFSET).cast::<MuxState>() };
        (state, MuxRegions { memory: self.memory })
    }

    /// Whether the previous holder died with the lock: the state needs repair.
    pub fn owner_died(&self) -> bool {
        self.held.owner_died
    }
}

/// The regions of a mux that is locked.
#[derive(Debug)]
pub struct MuxRegions<'a> {
    memory: &'a MuxMemory,
}

fn range(which: Region) -> Range<usize> {
    let (at, len) = match which {
        Region::Psock(PsockId(n)) => (usize::from(n) * REGION_BYTES, REGION_BYTES),
        Region::Received(CsockId(n)) => ((PLACES + usize::from(n)) * REGION_BYTES, REGION_BYTES),
        Region::ToSend(CsockId(n)) => ((2 * PLACES + usize::from(n)) * REGION_BYTES, REGION_BYTES),
        Region::Held => (HELD_OFFSET - REGIONS_OFFSET, HELD_BYTES),
    };
    REGIONS_OFFSET + at..REGIONS_OFFSET + at + len
}

impl MuxRegions<'_> {
    /// Gives the pages of a region back.
    pub fn release(&mut self, which: Region) {
        let range = range(which);
        // SAFETY: inside the mapping; nobody has a reference into it, `self` being borrowed alone.
        unsafe { libc::madvise(self.memory.base.add(range.start).cast(), range.len(), libc::MADV_REMOVE) };
    }
}

impl Regions for MuxRegions<'_> {
    fn region(&mut self, which: Region) -> &mut [u8] {
        let range = range(which);
        // SAFETY: inside the mapping; the lock is held, and `self` is borrowed alone, so there is no other reference.
        unsafe { core::slice::from_raw_parts_mut(self.memory.base.add(range.start), range.len()) }
    }

    fn copy(&mut self, source: Region, from: Range<usize>, target: Region, at: usize) {
        assert!(source != target);
        let (source, target) = (range(source), range(target));
        assert!(from.start <= from.end && from.end <= source.len() && at <= target.len() - from.len());
        // SAFETY: both are inside their regions, which are not the same and do not overlap.
        unsafe {
            let from_address = self.memory.base.add(source.start + from.start);
            core::ptr::copy_nonoverlapping(from_address, self.memory.base.add(target.start + at), from.len());
        }
    }
}
