//! Which arenas this process has mapped: its own and those of the processes that it descends from, for ever; and those of
//! other processes, whose sockets came here, for as long as somebody here is their tenant.
//!
//! Where such an arena was there stays memory, so that nothing faults whatever still points there: zeroes, until another
//! arena is mapped in its place.

use crate::arena::{self, Inherited};
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use preloop_sys::{Fd, call};

/// [`Mapped::tenants`] while the last one lets the arena go.
const VACATING: u32 = u32::MAX;

struct Mapped {
    base: AtomicPtr<u8>,
    memfd: AtomicI32,
    /// Inode of the memfd, or 0.
    inode: AtomicU64,
    /// 0: nothing is mapped here, or no more than zeroes. Whoever makes it 1 has the place.
    tenants: AtomicU32,
}

impl Mapped {
    const fn new() -> Self {
        Self {
            base: AtomicPtr::new(core::ptr::null_mut()),
            memfd: AtomicI32::new(-1),
            inode: AtomicU64::new(0),
            tenants: AtomicU32::new(0),
        }
    }

    fn claim(&self) -> bool {
        self.tenants.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn enter(&self, base: *mut u8, memfd: Fd) {
        self.base.store(base, Ordering::Release);
        self.memfd.store(memfd, Ordering::Release);
        self.inode.store(call::inode(memfd).0, Ordering::Release);
    }
}

/// An arena of this process's own beyond these can be used, but not be handed over; one of another process cannot be used.
static MAPPED: [Mapped; 128] = [const { Mapped::new() }; 128];

/// Notes an arena that stays mapped for ever, and its memfd; `false` when there is no room for more.
pub(crate) fn note(base: *mut u8, memfd: Fd) -> bool {
    let is_free = |mapped: &&Mapped| mapped.base.load(Ordering::Acquire).is_null() && mapped.claim();
    let free = MAPPED.iter().find(is_free);
    if let Some(mapped) = free {
        mapped.enter(base, memfd);
    }
    free.is_some()
}

/// The memfd of the arena that is mapped at `base`, if it can be handed over.
pub(crate) fn memfd_at(base: *const u8) -> Option<Fd> {
    let mapped = MAPPED.iter().find(|mapped| core::ptr::eq(mapped.base.load(Ordering::Acquire), base))?;
    let memfd = mapped.memfd.load(Ordering::Acquire);
    (memfd >= 0).then_some(memfd)
}

/// The memfds of all mapped arenas, which are the caller's to close: none can be handed over any more.
pub fn give_up_memfds() -> impl Iterator<Item = Fd> {
    MAPPED.iter().map(|mapped| mapped.memfd.swap(-1, Ordering::AcqRel)).filter(|memfd| *memfd >= 0)
}

/// An arena that stays mapped until [`Tenancy::end`].
#[derive(Debug)]
pub struct Tenancy(&'static Mapped);

impl core::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mapped").field("base", &self.base).field("tenants", &self.tenants).finish_non_exhaustive()
    }
}

impl Tenancy {
    /// In the arena whose memfd has this inode, if it is mapped.
    pub fn find(inode: u64) -> Option<Self> {
        let mapped = MAPPED.iter().find(|mapped| inode != 0 && mapped.inode.load(Ordering::Acquire) == inode)?;
        let one_more = |tenants: u32| (1..VACATING).contains(&tenants).then_some(tenants + 1);
        mapped.tenants.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).ok()?;
        Some(Self(mapped))
    }

    /// Maps the arena behind `memfd`, which from now on belongs to the mapping.
    ///
    /// # Errors
    /// `None`, and the descriptor stays the caller's: it is no arena, or there is no room for it.
    pub fn map(memfd: Fd) -> Option<Self> {
        let mapped = MAPPED.iter().find(|mapped| mapped.claim())?;
        match arena::map_foreign(memfd, mapped.base.load(Ordering::Acquire)) {
            Some(base) => {
                mapped.enter(base, memfd);
                Some(Self(mapped))
            }
            None => {
                mapped.tenants.store(0, Ordering::Release);
                None
            }
        }
    }

    /// The arena.
    pub fn arena(&self) -> Inherited {
        Inherited::at(self.0.base.load(Ordering::Acquire))
    }

    /// The last one to end lets the arena go, and answers the memfd, which is the caller's to close.
    pub fn end(self) -> Option<Fd> {
        let mapped = self.0;
        let one_less = |tenants: u32| Some(if tenants > 1 { tenants - 1 } else { VACATING });
        if mapped.tenants.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less) != Ok(1) {
            return None;
        }
        mapped.inode.store(0, Ordering::Release);
        let memfd = mapped.memfd.swap(-1, Ordering::AcqRel);
        arena::vacate(mapped.base.load(Ordering::Acquire));
        mapped.tenants.store(0, Ordering::Release);
        (memfd >= 0).then_some(memfd)
    }
}

#[cfg(test)]
mod tests {
    use super::Tenancy;
    use crate::arena::Arena;
    use preloop_sys::{Fd, call};
    use preloop_uapi::listing::{ARENA_MAGIC, ArenaHeader};

    fn magic(tenancy: &Tenancy) -> u64 {
        tenancy.arena().header().magic.load(super::Ordering::Relaxed)
    }

    /// The memfd of an arena of some process, again.
    fn passed(memfd: Fd) -> Fd {
        call::duplicate_high(memfd).unwrap()
    }

    #[test]
    fn an_arena_stays_for_its_last_tenant() {
        let memfd = Arena::new().map(1).unwrap();
        let inode = call::inode(memfd).0;
        // As this process's own it stays for ever.
        let own = Tenancy::find(inode).unwrap();
        assert!(own.end().is_none() && Tenancy::find(inode).is_some());
        let (one, other) = (passed(memfd), passed(memfd));
        let tenancy = Tenancy::map(one).unwrap();
        assert_eq!(magic(&tenancy), ARENA_MAGIC);
        let place: *const ArenaHeader = tenancy.arena().header();
        assert_eq!(tenancy.end(), Some(one));
        // What still points there finds zeroes; the next one comes there.
        let next = Tenancy::map(other).unwrap();
        assert!(core::ptr::eq(next.arena().header(), place) && magic(&next) == ARENA_MAGIC);
        assert_eq!(next.end(), Some(other));
        assert!(Tenancy::map(-1).is_none());
    }
}
