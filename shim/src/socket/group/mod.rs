//! Link groups: the memory that this process shares with one other.

mod index;
mod waiters;

pub use index::GroupIndex;

use crate::process;
use crate::socket::passing::tenant::Tenant;
use preloop_shm::arena;
use preloop_shm::group::GroupMemory;
use preloop_smc::clc;
use preloop_sys::unix::Inner;
use preloop_sys::{Fd, process as system};
use preloop_uapi::decline::Decline;
use preloop_uapi::group::{CONNS, confirm};
use preloop_uapi::listing::kind;
use preloop_uapi::sync::{AtomicU32, Ordering};
use rustc_hash::FxHashMap;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::sync::{Arc, Mutex, MutexGuard};

/// A group as this process has it.
#[derive(Debug)]
pub struct Group {
    /// What it shares with the peer.
    pub(super) memory: GroupMemory,
    /// 0 made the memory and numbers the connections in it.
    pub(super) side: usize,
    /// Its random name.
    pub token: u64,
    pub(super) peer: Peer,
    /// Process that met the peer: a forked child makes groups of its own.
    met_by: u32,
    met_as: u32,
    index: &'static GroupIndex,
    /// Its memfd, for the next program of this process, or -1: see [`keeps_memfd`].
    memfd: AtomicI32,
    /// The peer is known to have the memory. Every Accept before that carries the memfd, because the peer may answer
    /// them in any order.
    met: AtomicBool,
    /// Counted in [`KEPT`].
    kept: bool,
    /// Takes no new connections: the peer has forgotten it.
    retired: AtomicBool,
    slots: Mutex<FxHashMap<u64, usize>>,
    _tenant: Option<Tenant>,
}

/// What siblings share of a group, and what keeps it mapped if it is another process's.
pub type Indexed = (&'static GroupIndex, Option<Tenant>);

/// The process at the other side of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its pid, as the kernel recorded it.
    pub pid: u32,
    /// Its uid, likewise.
    pub uid: u32,
}

/// Groups that keep their memfd.
static KEPT: AtomicU32 = AtomicU32::new(0);

/// Whether one more group may keep its memfd: descriptors are the program's in the first place.
fn keeps_memfd() -> bool {
    let few = system::limit(libc::RLIMIT_NOFILE) / 8;
    u64::from(KEPT.fetch_add(1, Ordering::Relaxed)) < few || {
        KEPT.fetch_sub(1, Ordering::Relaxed);
        false
    }
}

static KNOWN: Mutex<Vec<Arc<Group>>> = Mutex::new(Vec::new());
/// Groups without connections that are kept for the next one.
const IDLE_GROUPS: usize = 8;

fn known() -> MutexGuard<'static, Vec<Arc<Group>>> {
    KNOWN.lock().unwrap_or_else(|e| e.into_inner())
}

/// Drops groups that nobody uses and whose peer is gone, and all idle ones but the newest few.
fn tidy(groups: &mut Vec<Arc<Group>>) {
    groups.retain(|group| Arc::strong_count(group) > 1 || (!group.is_retired() && system::exists(group.peer.pid)));
    let idle = groups.iter().filter(|group| Arc::strong_count(group) == 1).count();
    let mut surplus = idle.saturating_sub(IDLE_GROUPS);
    groups.retain(|group| {
        let drop_it = surplus > 0 && Arc::strong_count(group) == 1;
        surplus -= usize::from(drop_it);
        !drop_it
    });
}

/// Runs `fork` while no group is met or forgotten, and counts the child among their holders, unless there is none.
pub fn hold(fork: impl FnOnce() -> i32) -> i32 {
    let groups = known();
    let _slots: Vec<_> = groups.iter().map(|group| group.slots()).collect();
    count(&groups, true);
    let child = fork();
    if child == -1 {
        count(&groups, false);
    }
    child
}

/// In a forked child: connections go on, their groups take no new ones, and waiters are to be entered anew.
pub fn after_fork() {
    let mut groups = known();
    groups.iter().for_each(|group| group.slots().clear());
    groups.retain(|group| Arc::strong_count(group) > 1);
}

/// Every group that this process knows.
pub fn all() -> Vec<Arc<Group>> {
    known().clone()
}

/// One more process, or one fewer, holds these groups.
pub fn count(groups: &[Arc<Group>], more: bool) {
    groups.iter().for_each(|group| group.index.count(more));
}

impl Group {
    /// The group with this peer that has room for one more connection, made by this process.
    pub fn find_to_offer(peer: Peer) -> Option<Arc<Self>> {
        let fits = |group: &&Arc<Group>| group.side == 0 && group.peer == peer && group.takes_new() && group.has_room();
        known().iter().find(fits).cloned()
    }

    /// The group of that name with this peer, made by the peer.
    pub fn find_offered(peer: Peer, token: u64) -> Option<Arc<Self>> {
        Self::find(&known(), 1, token, peer)
    }

    /// The peer does not know the group any more: connections in it go on, and the next ones meet in another.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Makes a group known. Two threads may meet a new one at once, by two Accepts of the peer's: both get the first,
    /// for two would give the same waiters away.
    fn enter(memory: GroupMemory, side: usize, token: u64, peer: Peer, memfd: Inner) -> Result<Arc<Self>, Decline> {
        let mut groups = known();
        if let Some(group) = Self::find(&groups, side, token, peer) {
            return Ok(group);
        }
        let index: &'static GroupIndex = process::take_slot().ok_or(Decline::MEMORY)?;
        index.listing.kind.store(kind::GROUP, Ordering::Relaxed);
        index.holders.store(1, Ordering::Relaxed);
        let group = Arc::new(Self::new(memory, side, token, peer, (index, None), memfd));
        tidy(&mut groups);
        groups.push(group.clone());
        Ok(group)
    }

    fn new(memory: GroupMemory, side: usize, token: u64, peer: Peer, index: Indexed, memfd: Inner) -> Self {
        let (index, tenant) = index;
        let (slots, retired) = (Mutex::new(FxHashMap::default()), AtomicBool::new(false));
        let (met_by, met_as) = (process::pid(), system::euid());
        let (kept, met) = (keeps_memfd(), AtomicBool::new(side == 1));
        // The side that made it has to pass it first.
        let memfd = AtomicI32::new(if kept || side == 0 { process::adopt(memfd) } else { -1 });
        Self { memory, side, token, peer, met_by, met_as, index, memfd, kept, met, retired, slots, _tenant: tenant }
    }

    fn find(groups: &[Arc<Self>], side: usize, token: u64, peer: Peer) -> Option<Arc<Self>> {
        let is_it = |group: &&Arc<Self>| group.side == side && group.token == token && group.peer == peer;
        groups.iter().find(|group| is_it(group) && group.takes_new()).cloned()
    }

    /// Makes a group to offer.
    ///
    /// # Errors
    /// [`Decline::MEMORY`].
    pub fn make(peer: Peer) -> Result<Arc<Self>, Decline> {
        let settings = process::settings();
        let (memory, file) = GroupMemory::create([settings.receive_ring, settings.send_ring])?;
        let memfd = Inner::from_raw(file.into_raw_fd()).move_high();
        Self::enter(memory, 0, system::random(), peer, memfd)
    }

    /// The memfd to pass with an Accept, unless the peer has it.
    pub fn to_pass(&self) -> Option<Fd> {
        let fd = self.memfd.load(Ordering::Relaxed);
        (fd >= 0 && !self.met.load(Ordering::Relaxed)).then_some(fd)
    }

    /// The peer confirmed a connection of the group: it has the memory.
    pub fn is_met(&self) {
        self.met.store(true, Ordering::Relaxed);
        if !self.kept {
            process::disown(self.memfd.swap(-1, Ordering::Relaxed));
        }
    }

    /// Enters a group whose memory came with an Accept.
    ///
    /// # Errors
    /// [`Decline::BAD_RMBE`], [`Decline::MEMORY`].
    pub fn meet(peer: Peer, accept: &clc::Accept, memfd: Inner) -> Result<Arc<Self>, Decline> {
        let memfd = memfd.move_high();
        Self::enter(GroupMemory::open(&memfd, accept)?, 1, accept.group, peer, memfd)
    }

    /// Goes on with a group of the program that ran in this process before, or of another process: then `memfd` is the
    /// group's. It takes no new connections.
    pub fn inherit(
        memfd: Fd,
        rings: [u64; 2],
        side: usize,
        token: u64,
        peer: Peer,
        index: Indexed,
    ) -> Option<Arc<Self>> {
        let memory = GroupMemory::open_sized(memfd, rings).ok().filter(|_| side < 2)?;
        process::protect(memfd);
        let group = Arc::new(Self::new(memory, side, token, peer, index, process::take_back(memfd)));
        group.is_met();
        group.retire();
        let mut groups = known();
        tidy(&mut groups);
        groups.push(group.clone());
        Some(group)
    }

    /// The group with this index, if this process has it.
    pub fn known_by(index: &'static GroupIndex) -> Option<Arc<Self>> {
        known().iter().find(|group| core::ptr::eq(group.index, index)).cloned()
    }

    /// Its memfd, where this process keeps it.
    pub fn memfd(&self) -> Option<Fd> {
        let memfd = self.memfd.load(Ordering::Relaxed);
        (memfd >= 0).then_some(memfd)
    }

    /// Closes its memfd, unless the peer has yet to get it; answers whether there was one.
    pub fn does_without_memfd(&self) -> bool {
        let memfd = if self.met.load(Ordering::Relaxed) { self.memfd.swap(-1, Ordering::Relaxed) } else { -1 };
        process::disown(memfd);
        memfd >= 0
    }

    /// What forked siblings share of it.
    pub fn index(&self) -> &'static GroupIndex {
        self.index
    }

    /// The waiters that are this program's bells.
    pub fn waiters(&self) -> Vec<usize> {
        self.slots().values().copied().collect()
    }

    fn takes_new(&self) -> bool {
        !self.is_retired() && self.met_by == process::pid() && self.met_as == system::euid()
    }

    fn has_room(&self) -> bool {
        self.index.conns.iter().any(|word| word.load(Ordering::Relaxed) != u64::MAX) || self.reclaim()
    }

    /// Frees the indices that both ends have left; answers whether there was one.
    fn reclaim(&self) -> bool {
        let mut any = false;
        for conn in 0..CONNS {
            let block = self.memory.conn(conn);
            let used = self.index.conns[conn / 64].load(Ordering::Acquire) & 1 << (conn % 64) != 0;
            if used && block.ends.iter().all(|end| end.wait.released.load(Ordering::Acquire) == 1) {
                self.memory.give_back(conn);
                // Before the index is free: whoever takes it marks the block as in use again, and must not be overtaken.
                block.ends.iter().for_each(|end| end.wait.released.store(0, Ordering::Relaxed));
                self.index.conns[conn / 64].fetch_and(!(1 << (conn % 64)), Ordering::AcqRel);
                any = true;
            }
        }
        any
    }

    /// Makes a block ready to be offered; its index and generation.
    pub(super) fn number(&self) -> Option<(usize, u32)> {
        let conn = index::take_bit(&self.index.conns)?;
        let generation = self.index.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let block = self.memory.conn(conn);
        for end in &block.ends {
            for cell in [&end.tx.prod, &end.tx.start, &end.tx.switch_at, &end.rx.cons, &end.wait.waiters] {
                cell.store(0, Ordering::Relaxed);
            }
            for cell in [&end.tx.want_space, &end.tx.shut, &end.tx.cpu, &end.tx.back, &end.rx.cpu, &end.rx.back] {
                cell.store(0, Ordering::Relaxed);
            }
            end.wait.closed.store(0, Ordering::Relaxed);
            end.wait.released.store(0, Ordering::Relaxed);
        }
        block.generation.store(generation, Ordering::Relaxed);
        block.word.store(confirm::word(generation, confirm::ACCEPTED), Ordering::Release);
        Some((conn, generation))
    }

    /// Gives the index of a block that was not offered back.
    pub(super) fn give_number_back(&self, conn: usize) {
        self.index.conns[conn / 64].fetch_and(!(1 << (conn % 64)), Ordering::AcqRel);
    }

    /// The name of the group's memory in this process.
    pub fn address(&self) -> u64 {
        self.memory.address()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        process::disown(*self.memfd.get_mut());
        if self.kept {
            KEPT.fetch_sub(1, Ordering::Relaxed);
        }
        if self.index.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            arena::give_back(self.index);
        }
    }
}
