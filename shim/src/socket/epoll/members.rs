//! The link groups whose connections a set has: where its peers note news, and where it declares its sleep.

use super::State;
use crate::socket::file::OpenFile;
use crate::socket::group::Group;
use crate::socket::link::Link;
use crate::socket::sock::phase;
use preloop_uapi::group::waiter::WANTS_READY;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// A group, and the set's place among its waiters.
#[derive(Debug)]
pub struct Member {
    group: Arc<Group>,
    slot: usize,
    /// Entries by index of the connection in the group.
    conns: FxHashMap<usize, Vec<u64>>,
}

impl Member {
    fn entry(&self) -> u16 {
        (self.slot as u16 + 1) | WANTS_READY
    }
}

impl State {
    /// Enters the set among the waiters of an entry's connection, once that has memory; or takes it off where an offer
    /// was withdrawn or the connection changed back to TCP, or while a KCM mux has it, whose bytes are no news here.
    pub fn join(&mut self, id: u64) {
        let Some(bell) = self.bell.clone() else { return };
        let Some(entry) = self.entries.get(&id) else { return };
        let is_news = |file: &OpenFile| !file.is_attached() && file.sock.phase() != phase::TCP;
        let (file, link) = (entry.file.clone(), entry.file.prepared().filter(|_| is_news(&entry.file)));
        match (&entry.joined, &link) {
            (Some(joined), Some(link)) if Arc::ptr_eq(joined, link) => return,
            (Some(_), _) => self.part(id),
            (None, _) => {}
        }
        let Some(link) = link else { return };
        let Some(slot) = link.group.slot_of(&bell) else {
            self.deaf = true;
            return;
        };
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.joined = Some(link.clone());
        }
        let known = self.members.iter_mut().position(|member| Arc::ptr_eq(&member.group, &link.group));
        let index = known.unwrap_or_else(|| {
            self.members.push(Member { group: link.group.clone(), slot, conns: FxHashMap::default() });
            self.members.len() - 1
        });
        let member = &mut self.members[index];
        let ids = member.conns.entry(link.conn).or_default();
        ids.push(id);
        let first = ids.len() == 1;
        // A sleep that began before is declared in this group too, before the first news can be told.
        link.group.declare(slot, bell.seq.load(Ordering::SeqCst));
        if first {
            link.enter_waiter(&file, member.entry());
        }
        // Whoever joins looks at the connection afterwards, on behalf of those who sleep already.
        fence(Ordering::SeqCst);
    }

    /// Takes an entry off again.
    pub fn part(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (Some(link), file) = (entry.joined.take(), entry.file.clone()) else { return };
        let Some(index) = self.members.iter().position(|member| Arc::ptr_eq(&member.group, &link.group)) else {
            return;
        };
        let member = &mut self.members[index];
        let ids = member.conns.entry(link.conn).or_default();
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            member.conns.remove(&link.conn);
            link.leave_waiter(&file, member.entry());
        }
        if member.conns.is_empty() {
            if let Some(bell) = &self.bell {
                member.group.leave_slot(bell);
            }
            self.members.swap_remove(index);
        }
    }

    /// Whether a peer noted news.
    pub fn any_news(&self) -> bool {
        self.members.iter().any(|member| member.group.any_ready(member.slot))
    }

    /// Lists every entry that a peer noted news for.
    pub fn harvest(&mut self) {
        let Self { members, entries, ready, .. } = self;
        for member in members {
            member.group.take_ready(member.slot, |conn| {
                for id in member.conns.get(&conn).into_iter().flatten() {
                    if let Some(entry) = entries.get_mut(id).filter(|entry| !entry.listed) {
                        entry.listed = true;
                        ready.push_back(*id);
                    }
                }
            });
        }
    }

    /// Begins a sleep: declared in every group.
    pub fn sleep(&self) {
        if let Some(bell) = &self.bell {
            self.declare(bell.fall_asleep());
        }
    }

    /// Ends a sleep; while others sleep, a new one begins for them.
    pub fn wake(&self, others: bool) {
        if let Some(bell) = &self.bell {
            self.declare(bell.wake_up(others));
        }
    }

    fn declare(&self, seq: u64) {
        for member in &self.members {
            member.group.declare(member.slot, seq);
        }
    }

    /// Where the peer of some connection last ran, as a hint whether to spin.
    pub fn peer_cpu(&self) -> u32 {
        let last = self.members.last().and_then(|member| member.conns.values().next()?.last());
        let entry = last.and_then(|id| self.entries.get(id));
        let link: Option<&Arc<Link>> = entry.and_then(|entry| entry.file.link());
        link.map_or(0, |link| link.peer().tx.cpu.load(Ordering::Relaxed))
    }
}
