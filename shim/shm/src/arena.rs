//! Slots that forked siblings share: a shared mapping of its own per process, inherited by its children.

use crate::lock::RobustLock;
use core::sync::atomic::AtomicPtr;
use memfd::MemfdOptions;
use preloop_smc::ring::{Receiver, Sender};
use preloop_uapi::listing::{ARENA_MAGIC, ARENA_NAME, ArenaHeader, Listing, SLOT_BYTES, SLOTS, SLOTS_OFFSET, kind};
use preloop_uapi::sync::{AtomicU32, AtomicU64, Ordering};
use std::os::fd::AsRawFd;

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

const BYTES: usize = SLOTS_OFFSET + SLOTS * SLOT_BYTES;

impl Arena {
    /// An arena without memory: it gives no slots.
    pub const fn new() -> Self {
        Self { base: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Maps fresh memory; called at start and in every forked child. Slots of an earlier mapping stay valid, for the
    /// mapping is never taken away. Without memory the arena gives no slots.
    pub fn renew(&self, pid: u32) {
        self.base.store(core::ptr::null_mut(), Ordering::Release);
        let Ok(memfd) = MemfdOptions::default().close_on_exec(true).create(ARENA_NAME) else { return };
        if preloop_sys::process::limit(libc::RLIMIT_FSIZE) < BYTES as u64
            || memfd.as_file().set_len(BYTES as u64).is_err()
        {
            return;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let fd = memfd.as_file().as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(core::ptr::null_mut(), BYTES, access, flags, fd, 0) };
        if base != libc::MAP_FAILED {
            let base = base.cast::<u8>();
            // SAFETY: the mapping starts with the header, which is all atomics.
            let header = unsafe { &*base.cast::<ArenaHeader>() };
            header.pid.store(pid, Ordering::Relaxed);
            header.magic.store(ARENA_MAGIC, Ordering::Release);
            self.base.store(base, Ordering::Release);
        }
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
    let base = core::ptr::from_ref(slot).cast::<u8>().wrapping_sub(SLOTS_OFFSET + index * SLOT_BYTES);
    // SAFETY: `take` stored the index, and siblings, who alone share the arena, never change it: the header of the
    // slot's own arena lies there, mapped for ever.
    let header = unsafe { &*base.cast::<ArenaHeader>() };
    header.used[index / 64].fetch_and(!(1 << (index % 64)), Ordering::AcqRel);
}

fn listing_of<T: Slot>(slot: &'static T) -> &'static Listing {
    // SAFETY: a Slot starts with a Listing.
    unsafe { &*core::ptr::from_ref(slot).cast::<Listing>() }
}
