//! Slots that forked siblings share: a shared mapping of its own per process, inherited by its children.

use crate::lock::RobustLock;
use crate::mapped::{self, Tenancy};
use core::sync::atomic::AtomicPtr;
use memfd::MemfdOptions;
use preloop_smc::ring::{Receiver, Sender};
use preloop_sys::unix::Inner;
use preloop_sys::{Fd, call};
use preloop_uapi::listing::{ARENA_MAGIC, ARENA_NAME, ArenaHeader, Listing, SLOT_BYTES, SLOTS, SLOTS_OFFSET, kind};
use preloop_uapi::sync::{AtomicU32, AtomicU64, Ordering};
use std::os::fd::{AsRawFd, IntoRawFd};

/// What a slot may consist of: made for several processes, and valid whatever its bytes are once it was renewed.
///
/// # Safety
/// Zero bytes are a valid value, and every method may be called from several processes at once.
pub unsafe trait Plain {
    /// Makes it ready for a new use; nobody else looks at it yet.
    fn renew(&self);
}

// SAFETY: an atomic.
unsafe impl Plain for AtomicU32 {
    fn renew(&self) {
        self.store(0, Ordering::Relaxed);
    }
}

// SAFETY: an atomic.
unsafe impl Plain for AtomicU64 {
    fn renew(&self) {
        self.store(0, Ordering::Relaxed);
    }
}

// SAFETY: as its parts.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {
    fn renew(&self) {
        self.iter().for_each(Plain::renew);
    }
}

// SAFETY: atomics only.
unsafe impl Plain for Sender {
    fn renew(&self) {
        self.reset();
    }
}

// SAFETY: atomics only.
unsafe impl Plain for Receiver {
    fn renew(&self) {
        self.reset();
    }
}

// SAFETY: made for processes; `renew` initialises it before the first use.
unsafe impl Plain for RobustLock {
    fn renew(&self) {
        // Not passed on by the kernel: of forked siblings, which share the slot, some may be in a PID namespace of their own.
        self.init();
    }
}

// SAFETY: atomics only. The index of the slot stays.
unsafe impl Plain for Listing {
    fn renew(&self) {
        for cell in [&self.kind, &self.mode, &self.decline, &self.peer_decline, &self.pid, &self.conn, &self.side] {
            cell.store(0, Ordering::Relaxed);
        }
        for cell in [&self.cookie, &self.group, &self.token, &self.ring[0], &self.ring[1]] {
            cell.store(0, Ordering::Relaxed);
        }
    }
}

/// What may live in a slot; declared with [`slot!`](crate::slot).
///
/// # Safety
/// The type is `repr(C)`, starts with a [`Listing`], and all its parts are [`Plain`].
pub unsafe trait Slot: Sync + 'static {
    /// Makes a slot ready for a new use; nobody else looks at it yet.
    fn renew(&self);
}

/// Declares a struct that may live in a slot: its first field is the listing, every field is [`Plain`].
#[macro_export]
macro_rules! slot {
    (
        $(#[$meta:meta])* $vis:vis struct $name:ident {
            $(#[$first_meta:meta])* $first_vis:vis listing: Listing,
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[repr(C, align(64))]
        #[derive(Debug)]
        $vis struct $name {
            $(#[$first_meta])* $first_vis listing: Listing,
            $( $(#[$field_meta])* $field_vis $field: $type, )*
        }

        // SAFETY: repr(C), the listing first, and the calls below compile only for parts that are Plain.
        unsafe impl $crate::arena::Slot for $name {
            fn renew(&self) {
                $crate::arena::Plain::renew(&self.listing);
                $( $crate::arena::Plain::renew(&self.$field); )*
            }
        }
    };
}

/// The arena that this process takes new slots from.
#[derive(Debug)]
pub struct Arena {
    base: AtomicPtr<u8>,
}

pub(crate) const BYTES: usize = SLOTS_OFFSET + SLOTS * SLOT_BYTES;

/// With fewer descriptors the program needs them all.
const FEW_DESCRIPTORS: u64 = 64;

fn map(memfd: Fd) -> Option<*mut u8> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(core::ptr::null_mut(), BYTES, access, flags, memfd, 0) };
    (base != libc::MAP_FAILED).then_some(base.cast())
}

/// Maps the arena of another program; `None` when the memfd is none, or there is no memory for it. `place`, unless it is
/// null, is where the mapping is to go, in place of one that [`vacate`] left.
pub(crate) fn map_foreign(memfd: Fd, place: *mut u8) -> Option<*mut u8> {
    if call::file_size(memfd) != Ok(BYTES as u64) {
        return None;
    }
    let base = map(memfd)?;
    // SAFETY: the mapping starts with the header, which is all atomics.
    let header = unsafe { &*base.cast::<ArenaHeader>() };
    let is_arena = header.magic.load(Ordering::Acquire) == ARENA_MAGIC;
    if is_arena && place.is_null() {
        return Some(base);
    }
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both are mappings of this size; what was at `place` is zeroes.
    let moved = is_arena && unsafe { libc::mremap(base.cast(), BYTES, BYTES, flags, place) } != libc::MAP_FAILED;
    if !moved {
        // SAFETY: just mapped, and nobody looks at it.
        unsafe { libc::munmap(base.cast(), BYTES) };
    }
    moved.then_some(place)
}

/// Lets an arena of another program go, and leaves zeroes in its place.
pub(crate) fn vacate(base: *mut u8) {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: the arena's own range, which stays mapped, with bytes that are valid for every slot.
    unsafe { libc::mmap(base.cast(), BYTES, access, flags, -1, 0) };
}

/// Where a slot is, in words that another program understands which has the arena's memfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The memfd, as this process has it.
    pub memfd: Fd,
    /// Index of the slot.
    pub slot: u32,
}

/// Where `slot` is; `None` when its arena cannot be handed over.
pub fn place_of<T: Slot>(slot: &'static T) -> Option<Place> {
    let slot_index = listing_of(slot).slot.load(Ordering::Relaxed);
    mapped::memfd_at(base_of(slot)).map(|memfd| Place { memfd, slot: slot_index })
}

/// An arena that another program handed over, mapped here.
#[derive(Debug)]
pub struct Inherited {
    base: *mut u8,
}

impl Inherited {
    /// The arena that is mapped at `base`.
    pub(crate) fn at(base: *mut u8) -> Self {
        Self { base }
    }

    /// Maps the arena behind `memfd`, for ever: from now on the descriptor belongs to the mapping.
    ///
    /// # Errors
    /// `None`, and the descriptor stays the caller's: it is no arena, or there is no memory for it.
    pub fn open(memfd: Fd) -> Option<Self> {
        Tenancy::map(memfd).map(|tenancy| tenancy.arena())
    }

    /// Its header.
    #[cfg(test)]
    pub(crate) fn header(&self) -> &'static ArenaHeader {
        // SAFETY: the mapping starts with it, and there stays memory for ever.
        unsafe { &*self.base.cast::<ArenaHeader>() }
    }

    /// The slot of that index, if it is in use for something of this kind.
    pub fn slot<T: Slot>(&self, index: u32, is_kind: impl Fn(u32) -> bool) -> Option<&'static T> {
        let index = index as usize;
        if index >= SLOTS {
            return None;
        }
        // SAFETY: inside the mapping, which stays for ever; T is valid for any bytes (see `Slot`).
        let slot: &'static T = unsafe { &*self.base.add(SLOTS_OFFSET + index * SLOT_BYTES).cast() };
        is_kind(listing_of(slot).kind.load(Ordering::Acquire)).then_some(slot)
    }
}

impl Arena {
    /// An arena without memory: it gives no slots.
    pub const fn new() -> Self {
        Self { base: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Takes no more slots from the memory it has, which stays valid: a forked child takes its own elsewhere.
    pub fn leave(&self) {
        self.base.store(core::ptr::null_mut(), Ordering::Release);
    }

    /// Whether there is memory to take slots from.
    pub fn is_mapped(&self) -> bool {
        !self.base.load(Ordering::Acquire).is_null()
    }

    /// Maps memory, unless another thread was faster; answers its descriptor, which is the caller's to protect. Without
    /// memory the arena gives no slots.
    pub fn map(&self, pid: u32) -> Option<Fd> {
        let memfd = MemfdOptions::default().close_on_exec(true).create(ARENA_NAME).ok()?;
        if preloop_sys::process::limit(libc::RLIMIT_FSIZE) < BYTES as u64
            || memfd.as_file().set_len(BYTES as u64).is_err()
        {
            return None;
        }
        let base = map(memfd.as_file().as_raw_fd())?;
        // SAFETY: the mapping starts with the header, which is all atomics.
        let header = unsafe { &*base.cast::<ArenaHeader>() };
        header.pid.store(pid, Ordering::Relaxed);
        header.magic.store(ARENA_MAGIC, Ordering::Release);
        if self.base.compare_exchange(core::ptr::null_mut(), base, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: just mapped, and nobody looks at it.
            unsafe { libc::munmap(base.cast(), BYTES) };
            return None;
        }
        let few = preloop_sys::process::limit(libc::RLIMIT_NOFILE) < FEW_DESCRIPTORS;
        let memfd = Inner::from_raw(memfd.into_file().into_raw_fd()).move_high();
        (!few && mapped::note(base, memfd.fd())).then(|| memfd.into_raw())
    }

    fn header(&self) -> Option<&'static ArenaHeader> {
        let base = self.base.load(Ordering::Acquire);
        // SAFETY: mapped for ever, see `renew`.
        (!base.is_null()).then(|| unsafe { &*base.cast::<ArenaHeader>() })
    }

    /// Whether a slot is of this process's own arena, and not of one that was inherited.
    pub fn holds<T: Slot>(&self, slot: &'static T) -> bool {
        let base = self.base.load(Ordering::Acquire).addr();
        base != 0 && (base..base + BYTES).contains(&core::ptr::from_ref(slot).addr())
    }

    /// Shows every slot that is in use for something of this kind.
    pub fn each<T: Slot>(&self, is_kind: impl Fn(u32) -> bool, mut show: impl FnMut(&'static T)) {
        let base = self.base.load(Ordering::Acquire);
        let Some(header) = self.header() else { return };
        let own = Inherited { base };
        let used = |index: &u32| header.used[*index as usize / 64].load(Ordering::Acquire) >> (index % 64) & 1 == 1;
        (0..header.high_water.load(Ordering::Acquire))
            .filter(used)
            .filter_map(|index| own.slot(index, &is_kind))
            .for_each(&mut show);
    }

    /// Takes a slot, or `None` when all are in use. The caller stores the listing's kind.
    pub fn take<T: Slot>(&self) -> Option<&'static T> {
        const {
            assert!(size_of::<T>() <= SLOT_BYTES && align_of::<T>() <= 64);
        }
        let header = self.header()?;
        for (index, word) in header.used.iter().enumerate() {
            let mut seen = word.load(Ordering::Relaxed);
            while seen != u64::MAX {
                let bit = seen.trailing_ones() as usize;
                match word.compare_exchange(seen, seen | 1 << bit, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => {
                        let slot = index * 64 + bit;
                        header.high_water.fetch_max(slot as u32 + 1, Ordering::Relaxed);
                        let base = core::ptr::from_ref(header).cast::<u8>();
                        // SAFETY: inside the mapping, which stays for ever; T is valid for any bytes (see `Slot`).
                        let value: &'static T = unsafe { &*base.add(SLOTS_OFFSET + slot * SLOT_BYTES).cast() };
                        value.renew();
                        listing_of(value).slot.store(slot as u32, Ordering::Relaxed);
                        return Some(value);
                    }
                    Err(now) => seen = now,
                }
            }
        }
        None
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives a slot back to the arena it came from, whichever sibling took it.
pub fn give_back<T: Slot>(slot: &'static T) {
    let listing = listing_of(slot);
    listing.kind.store(kind::FREE, Ordering::Relaxed);
    let index = listing.slot.load(Ordering::Relaxed) as usize;
    // SAFETY: the header of the slot's own arena lies there, mapped for ever.
    let header = unsafe { &*base_of(slot).cast::<ArenaHeader>() };
    header.used[index / 64].fetch_and(!(1 << (index % 64)), Ordering::AcqRel);
}

/// Where the slot's arena starts: `take` stored the index, and siblings, who alone share the arena, never change it.
fn base_of<T: Slot>(slot: &'static T) -> *const u8 {
    let index = listing_of(slot).slot.load(Ordering::Relaxed) as usize;
    core::ptr::from_ref(slot).cast::<u8>().wrapping_sub(SLOTS_OFFSET + index * SLOT_BYTES)
}

fn listing_of<T: Slot>(slot: &'static T) -> &'static Listing {
    // SAFETY: a Slot starts with a Listing.
    unsafe { &*core::ptr::from_ref(slot).cast::<Listing>() }
}
