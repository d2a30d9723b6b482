//! Who uses which index of a link group.

use preloop_uapi::group::{CONNS, WAITERS};
use preloop_uapi::listing::Listing;
use preloop_uapi::sync::{AtomicU32, AtomicU64, Ordering};

preloop_shm::slot! {
    /// What forked siblings share of a group, and no peer sees.
    pub struct GroupIndex {
        pub(super) listing: Listing,
        pub(super) waiters: [AtomicU64; WAITERS / 64],
        pub(super) conns: [AtomicU64; CONNS / 64],
        pub(super) generation: AtomicU32,
        pub(super) holders: AtomicU32,
    }
}

impl GroupIndex {
    /// One more process, or one fewer, holds the group.
    pub fn count(&self, more: bool) {
        if more {
            self.holders.fetch_add(1, Ordering::AcqRel);
        } else {
            self.holders.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Takes a free bit of a bitmap.
pub(super) fn take_bit(words: &[AtomicU64]) -> Option<usize> {
    words.iter().enumerate().find_map(|(index, word)| {
        let free = |seen: u64| (seen != u64::MAX).then(|| seen | (seen + 1));
        let seen = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, free).ok()?;
        Some(index * 64 + seen.trailing_ones() as usize)
    })
}
