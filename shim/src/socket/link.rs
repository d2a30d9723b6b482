//! Links: the connections in a link group, each as one of its ends has it.

use crate::process;
use crate::socket::bell;
use crate::socket::file::OpenFile;
use crate::socket::group::Group;
use crate::socket::rx;
use preloop_shm::copy::Ring;
use preloop_smc::bell::{self as waiting, Listed};
use preloop_smc::clc;
use preloop_uapi::decline::Decline;
use preloop_uapi::group::{CONNS, ConnBlock, EndLines, SideControl, WAITERS, confirm, waiter};
use preloop_uapi::sync::Ordering;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// One connection in a group, as one of its ends has it.
#[derive(Debug)]
pub struct Link {
    /// The group.
    pub group: Arc<Group>,
    /// Its index there.
    pub conn: usize,
    generation: u32,
    /// Ring towards the peer, ring towards us.
    rings: [Ring; 2],
    /// This end was said to touch the block no more.
    left: AtomicBool,
}

impl Link {
    fn new(group: Arc<Group>, conn: usize, generation: u32) -> Result<Arc<Self>, Decline> {
        let sizes = group.memory.ring_sizes();
        if !process::reserve_memory(sizes[0] + sizes[1]) {
            return Err(Decline::MEMORY);
        }
        Ok(Self::counted(group, conn, generation))
    }

    /// One whose rings have been counted.
    fn counted(group: Arc<Group>, conn: usize, generation: u32) -> Arc<Self> {
        let rings = [group.memory.ring(conn, 1 - group.side), group.memory.ring(conn, group.side)];
        Arc::new(Self { group, conn, generation, rings, left: AtomicBool::new(false) })
    }

    /// The passive side's: a free block of the group, marked as offered.
    ///
    /// # Errors
    /// [`Decline::TOO_MANY_DMBS`], [`Decline::MEMORY`].
    pub fn offer(group: Arc<Group>) -> Result<Arc<Self>, Decline> {
        let (conn, generation) = group.number().ok_or(Decline::TOO_MANY_DMBS)?;
        match Self::new(group.clone(), conn, generation) {
            Ok(link) => Ok(link),
            Err(why) => {
                group.give_number_back(conn);
                Err(why)
            }
        }
    }

    /// The active side's: the block that an Accept names.
    ///
    /// # Errors
    /// [`Decline::MEMORY`].
    pub fn offered(group: Arc<Group>, accept: &clc::Accept) -> Result<Arc<Self>, Decline> {
        Self::new(group, accept.conn as usize, accept.generation)
    }

    /// Goes on with a connection of the program that ran in this process before, or of another process.
    pub fn inherit(group: Arc<Group>, conn: usize, generation: u32) -> Option<Arc<Self>> {
        let sizes = group.memory.ring_sizes();
        (conn < CONNS).then(|| {
            process::take_memory(sizes[0] + sizes[1]);
            Self::counted(group, conn, generation)
        })
    }

    /// Which use of its block it is.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What to write into the Accept.
    pub fn describe(&self, cookie: u64, new_group: bool) -> clc::Accept {
        clc::Accept {
            cookie,
            group: self.group.token,
            new_group,
            conn: self.conn as u32,
            generation: self.generation,
            ring: self.group.memory.ring_sizes(),
            total: self.group.memory.bytes() as u64,
        }
    }

    fn block(&self) -> &ConnBlock {
        self.group.memory.conn(self.conn)
    }

    /// What this end stores.
    #[inline]
    pub fn own(&self) -> &EndLines {
        &self.block().ends[self.group.side]
    }

    /// What the peer stores.
    #[inline]
    pub fn peer(&self) -> &EndLines {
        &self.block().ends[1 - self.group.side]
    }

    /// The ring of what this end sends.
    #[inline]
    pub fn tx_ring(&self) -> &Ring {
        &self.rings[0]
    }

    /// The ring of what this end receives.
    #[inline]
    pub fn rx_ring(&self) -> &Ring {
        &self.rings[1]
    }

    /// Whether it is the same connection as the other end has it.
    pub fn is_other_end_of(&self, other: &Self) -> bool {
        let which = |link: &Self| (link.group.token, link.conn, link.generation);
        which(self) == which(other) && self.side() != other.side()
    }

    /// Which side of the group this end is.
    pub fn side(&self) -> usize {
        self.group.side
    }

    fn decide(&self, outcome: u32) -> bool {
        let before = confirm::word(self.generation, confirm::ACCEPTED);
        let after = confirm::word(self.generation, outcome);
        self.block().word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The active side takes the offer; `false` when it was withdrawn before.
    pub fn take_offer(&self) -> bool {
        self.decide(confirm::CONFIRMED)
    }

    /// The passive side's offer cannot be taken any more, unless it was before. To [`withdraw`](Self::withdraw) it remains.
    pub fn stop_offer(&self) {
        self.decide(confirm::WITHDRAWN);
    }

    /// The passive side takes its offer back; `false` when it was confirmed before.
    pub fn withdraw(&self) -> bool {
        let withdrawn = self.decide(confirm::WITHDRAWN) || self.stands_at(confirm::WITHDRAWN);
        if withdrawn {
            // The active side will not touch the block any more: nobody else would say so.
            self.peer().wait.released.store(1, Ordering::Release);
        }
        withdrawn
    }

    /// Whether the offer was taken.
    pub fn is_confirmed(&self) -> bool {
        self.stands_at(confirm::CONFIRMED)
    }

    fn stands_at(&self, outcome: u32) -> bool {
        self.block().word.load(Ordering::Acquire) == confirm::word(self.generation, outcome)
    }

    /// Whether the peer's last holder closed its socket.
    #[inline]
    pub fn peer_closed(&self) -> bool {
        self.peer().wait.closed.load(Ordering::Acquire) != 0
    }

    /// Tells everybody who waits at the peer's end that there is news.
    pub fn notify(&self) {
        self.tell_all(1 - self.group.side);
    }

    /// Tells everybody who waits at this end, in this process and its siblings, that the kernel's socket has the word again.
    pub fn notify_own(&self) {
        self.tell_all(self.group.side);
    }

    fn tell_all(&self, of: usize) {
        let side = self.group.memory.side(of);
        for entry in waiting::waiters(&self.block().ends[of].wait) {
            if entry & waiter::ALL == waiter::ALL {
                let entered = side.high_water.load(Ordering::Acquire) as usize;
                (0..entered.min(WAITERS)).for_each(|slot| self.tell(side, slot, true));
            } else {
                let slot = usize::from(entry & !waiter::WANTS_READY).wrapping_sub(1);
                self.tell(side, slot, entry & waiter::WANTS_READY != 0);
            }
        }
    }

    /// Nobody reads or writes the rings any more: their pages go back to the system.
    pub fn give_back_rings(&self) {
        self.group.memory.give_back(self.conn);
    }

    /// Enters a waiter of this process at this end: it hears of all news from now on. The caller looks again afterwards.
    /// Answers whether [`leave_waiter`](Self::leave_waiter) is to follow, for it may be there already.
    pub fn enter_waiter(&self, file: &OpenFile, entry: u16) -> bool {
        if self.has_left() {
            return false;
        }
        let line = &self.own().wait;
        let mut listed = waiting::add_waiter(line, entry);
        if listed == Listed::Full {
            let _held = rx::lock(file);
            listed = waiting::add_waiter_beyond(line, &file.sock.unlisted, entry);
        }
        listed == Listed::New
    }

    /// Takes a waiter away again.
    pub fn leave_waiter(&self, file: &OpenFile, entry: u16) {
        if self.has_left() {
            return;
        }
        if !waiting::remove_waiter(&self.own().wait, entry) {
            let _held = rx::lock(file);
            waiting::remove_waiter_beyond(&self.own().wait, &file.sock.unlisted);
        }
    }

    fn tell(&self, side: &SideControl, slot: usize, wants_ready: bool) {
        let (Some(line), Some(bits)) = (side.waiters.get(slot), side.ready.get(slot)) else { return };
        let ring = if wants_ready {
            waiting::mark_ready(bits, self.conn);
            waiting::must_ring(line, bits)
        } else {
            waiting::must_ring_unmarked(line, bits)
        };
        if ring {
            let name = [line.bell[0].load(Ordering::Acquire), line.bell[1].load(Ordering::Acquire)];
            if name[0] != 0 {
                bell::ring(name);
            }
        }
    }

    /// Whether the block may be another connection's by now.
    fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// This process holds the connection no more, or does not need its memory; `last`: nor does any sibling.
    pub fn leave(&self, last: bool) {
        if last && !self.left.swap(true, Ordering::AcqRel) {
            self.own().wait.released.store(1, Ordering::Release);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let sizes = self.group.memory.ring_sizes();
        process::release_memory(sizes[0] + sizes[1]);
    }
}
