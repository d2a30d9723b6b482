//! This side's waiters in a group: sleeping threads, and epoll sets.

use super::{Group, index};
use crate::socket::bell::Bell;
use crate::socket::users;
use preloop_smc::bell as waiting;
use preloop_uapi::group::waiter::WANTS_READY;
use preloop_uapi::group::{CONNS, SideControl};
use preloop_uapi::sync::Ordering;
use rustc_hash::FxHashMap;
use std::sync::MutexGuard;

impl Group {
    pub(super) fn slots(&self) -> MutexGuard<'_, FxHashMap<u64, usize>> {
        self.slots.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn own_side(&self) -> &SideControl {
        self.memory.side(self.side)
    }

    /// The index of a bell among this side's waiters, entered if it is new; `None` when the side has no more room.
    pub fn slot_of(&self, bell: &Bell) -> Option<usize> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(&bell.name[0]) {
            return Some(*slot);
        }
        let slot = index::take_bit(&self.index.waiters).or_else(|| {
            self.forget_the_dead_beside(&slots);
            index::take_bit(&self.index.waiters)
        })?;
        let line = &self.own_side().waiters[slot];
        line.owner.store(users::own_number(), Ordering::Relaxed);
        line.sleep_seq.store(bell.seq.load(Ordering::SeqCst), Ordering::Relaxed);
        line.bell[0].store(bell.name[0], Ordering::Relaxed);
        line.bell[1].store(bell.name[1], Ordering::Release);
        self.own_side().high_water.fetch_max(slot as u32 + 1, Ordering::Release);
        slots.insert(bell.name[0], slot);
        Some(slot)
    }

    /// Removes a bell from this side's waiters.
    pub fn leave_slot(&self, bell: &Bell) {
        if let Some(slot) = self.slots().remove(&bell.name[0]) {
            self.free_slot(slot);
        }
    }

    /// There is no waiter of that index any more, and it has not parted from the connections that it waited for.
    pub fn forget_waiter(&self, slot: usize) {
        let entry = slot as u16 + 1;
        for conn in 0..CONNS {
            let line = &self.memory.conn(conn).ends[self.side].wait;
            waiting::remove_waiter(line, entry);
            waiting::remove_waiter(line, entry | WANTS_READY);
        }
        self.free_slot(slot);
    }

    fn free_slot(&self, slot: usize) {
        if let Some(line) = self.own_side().waiters.get(slot) {
            line.bell[0].store(0, Ordering::Relaxed);
            line.owner.store(0, Ordering::Relaxed);
            self.index.waiters[slot / 64].fetch_and(!(1 << (slot % 64)), Ordering::AcqRel);
        }
    }

    /// Removes waiters of siblings that have ended, or were killed, and did not do so themselves; and of the program that ran in
    /// this process before.
    pub fn forget_the_dead(&self) {
        self.forget_the_dead_beside(&self.slots());
    }

    fn forget_the_dead_beside(&self, own: &FxHashMap<u64, usize>) {
        let is_dead = |owner, slot| match users::own_number() {
            0 => false,
            number if number == owner => !own.values().any(|mine| *mine == slot),
            _ => users::is_dead(owner),
        };
        let highest = self.own_side().high_water.load(Ordering::Acquire) as usize;
        for (slot, line) in self.own_side().waiters.iter().enumerate().take(highest) {
            let owner = line.owner.load(Ordering::Relaxed);
            let is_used = self.index.waiters[slot / 64].load(Ordering::Acquire) & 1 << (slot % 64) != 0;
            let is_mine = || line.owner.compare_exchange(owner, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if is_used && is_dead(owner, slot) && is_mine() {
                self.forget_waiter(slot);
            }
        }
    }

    /// Tells the peer that the waiter in `slot` sleeps (odd) or is awake (even).
    pub fn declare(&self, slot: usize, seq: u64) {
        let line = &self.own_side().waiters[slot];
        if seq & 1 == 1 {
            waiting::declare_sleep(line, seq);
        } else {
            waiting::declare_awake(line, seq);
        }
    }

    /// Whether connections were noted for the waiter in `slot`.
    pub fn any_ready(&self, slot: usize) -> bool {
        waiting::any_ready(&self.own_side().ready[slot])
    }

    /// Takes the connections noted for the waiter in `slot`.
    pub fn take_ready(&self, slot: usize, found: impl FnMut(usize)) {
        waiting::take_ready(&self.own_side().ready[slot], found);
    }
}
