//! The memory of a KCM multiplexor: one mapping, which forked siblings share. Layout in `preloop_uapi::mux`.
//!
//! Everything behind the header is reached by who holds the mux's lock, or was lent a part of it by one who does, and by
//! nobody else; siblings are one program, and trust each other with it.

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
use preloop_uapi::sync::{AtomicU64, Ordering};
use std::os::fd::{AsRawFd, IntoRawFd};

const _: () = {
    assert!(size_of::<MuxState>() <= REGIONS_OFFSET - STATE_OFFSET);
    assert!(size_of::<RobustLock>() <= size_of::<[u64; 8]>() && align_of::<RobustLock>() <= 8);
};

/// A mapped mux.
#[derive(Debug)]
pub struct MuxMemory {
    base: *mut u8,
    /// Regions of psocks and csocks, by bits, that this process has lent: `Locked` reaches them no more. Changed by who has
    /// the lock.
    lent: [[AtomicU64; PLACES / 64]; 2],
}

// SAFETY: the header is atomics and a lock; the rest is reached through `Locked` and what it lends alone.
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
        Ok(Self { base: base.cast(), lent: Default::default() })
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

    /// The bytes of a region.
    ///
    /// # Safety
    /// There is no other reference into it as long as the answer lives.
    #[allow(clippy::mut_from_ref, reason = "the caller sees to it that there is one at a time")]
    #[inline]
    unsafe fn slice(&self, which: Region) -> &mut [u8] {
        let range = range(which);
        // SAFETY: inside the mapping, and the caller's word.
        unsafe { core::slice::from_raw_parts_mut(self.base.add(range.start), range.len()) }
    }

    /// Copies between two regions.
    ///
    /// # Safety
    /// There is no reference into either.
    #[inline]
    unsafe fn copy(&self, source: Region, from: Range<usize>, target: Region, at: usize) {
        assert!(source != target);
        let (source, target) = (range(source), range(target));
        assert!(from.start <= from.end && from.end <= source.len() && at <= target.len() - from.len());
        // SAFETY: both are inside their regions, which are not the same and do not overlap; and the caller's word.
        unsafe {
            let from_address = self.base.add(source.start + from.start);
            core::ptr::copy_nonoverlapping(from_address, self.base.add(target.start + at), from.len());
        }
    }

    /// The word and the bit of a region that can be lent.
    fn lent_bit(&self, which: Region) -> Option<(&AtomicU64, u64)> {
        let (of, n) = match which {
            Region::Psock(PsockId(n)) => (0, n),
            Region::Received(CsockId(n)) => (1, n),
            Region::ToSend(_) | Region::Held => return None,
        };
        Some((&self.lent[of][usize::from(n / 64)], 1 << (n % 64)))
    }

    fn is_lent(&self, which: Region) -> bool {
        self.lent_bit(which).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
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
    /// Hands out the region of a csock's messages, and that of a psock, until [`Locked::take_back`]. Whoever has the lock
    /// meanwhile finds them empty. None if either is lent already.
    pub fn lend(&mut self, psock: Option<PsockId>, csock: CsockId) -> Option<Lent> {
        let lent = Lent { base: self.memory.base, psock, csock };
        if lent.regions().any(|which| self.memory.is_lent(which)) {
            return None;
        }
        for (word, bit) in lent.regions().filter_map(|which| self.memory.lent_bit(which)) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Some(lent)
    }

    /// Takes them back.
    pub fn take_back(&mut self, lent: Lent) {
        assert!(lent.base == self.memory.base);
        for (word, bit) in lent.regions().filter_map(|which| self.memory.lent_bit(which)) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

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

#[inline]
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
        if self.memory.is_lent(which) {
            return;
        }
        let range = range(which);
        // SAFETY: inside the mapping; nobody has a reference into it, `self` being borrowed alone, and it is not lent.
        unsafe { libc::madvise(self.memory.base.add(range.start).cast(), range.len(), libc::MADV_REMOVE) };
    }
}

impl Regions for MuxRegions<'_> {
    fn region(&mut self, which: Region) -> &mut [u8] {
        if self.memory.is_lent(which) {
            return &mut [];
        }
        // SAFETY: the lock is held, and `self` is borrowed alone, so there is no other reference: it is not lent.
        unsafe { self.memory.slice(which) }
    }

    fn copy(&mut self, source: Region, from: Range<usize>, target: Region, at: usize) {
        if !self.memory.is_lent(source) && !self.memory.is_lent(target) {
            // SAFETY: the lock is held, `self` is borrowed alone, and neither is lent.
            unsafe { self.memory.copy(source, from, target, at) };
        }
    }
}

/// Regions that are lent to whoever has this, and to nobody else.
#[derive(Debug)]
pub struct Lent {
    /// Of which mux.
    base: *mut u8,
    psock: Option<PsockId>,
    csock: CsockId,
}

impl Lent {
    fn regions(&self) -> impl Iterator<Item = Region> + use<> {
        [Some(Region::Received(self.csock)), self.psock.map(Region::Psock)].into_iter().flatten()
    }

    #[inline]
    fn has(&self, which: Region) -> bool {
        match which {
            Region::Psock(psock) => self.psock == Some(psock),
            Region::Received(csock) => self.csock == csock,
            Region::ToSend(_) | Region::Held => false,
        }
    }
}

// SAFETY: it is a name of memory that belongs to no thread, and is reached through a `MuxMemory`.
unsafe impl Send for Lent {}

impl MuxMemory {
    /// The regions that are lent.
    pub fn of<'a>(&'a self, lent: &'a mut Lent) -> LentRegions<'a> {
        assert!(lent.base == self.base);
        LentRegions { memory: self, lent }
    }
}

/// The regions that are lent, at hand.
#[derive(Debug)]
pub struct LentRegions<'a> {
    memory: &'a MuxMemory,
    lent: &'a mut Lent,
}

impl Regions for LentRegions<'_> {
    #[inline]
    fn region(&mut self, which: Region) -> &mut [u8] {
        if !self.lent.has(which) {
            return &mut [];
        }
        // SAFETY: its bit is set, so that nobody makes a reference to it but who has the one `Lent` of it, which `self` has
        // alone; and that was made with `Locked` borrowed alone, when there was none.
        unsafe { self.memory.slice(which) }
    }

    #[inline]
    fn copy(&mut self, source: Region, from: Range<usize>, target: Region, at: usize) {
        if self.lent.has(source) && self.lent.has(target) {
            // SAFETY: as above.
            unsafe { self.memory.copy(source, from, target, at) };
        }
    }
}
