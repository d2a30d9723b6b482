//! How a mux hears of connections that have moved to shared memory: a bell of each process that has it, which lies in the
//! mux's epoll set beside the TCP sockets, and is among the waiters of each such connection as an epoll set of the
//! program's is. It is declared asleep all the time: whoever hears it ring begins a new sleep, and then looks.

use super::source::Source;
use crate::socket::bell::Bell;
use crate::socket::file::OpenFile;
use crate::socket::group::Group;
use crate::socket::link::Link;
use preloop_kcm::Set;
use preloop_kcm::id::PsockId;
use preloop_sys::{Errno, Fd, event};
use preloop_uapi::group::waiter::WANTS_READY;
use preloop_uapi::sync::{Ordering, fence};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A link group, and the bell's place among its waiters.
#[derive(Debug)]
struct Member {
    group: Arc<Group>,
    slot: usize,
    /// Psocks by index of the connection in the group.
    conns: FxHashMap<usize, PsockId>,
}

impl Member {
    fn entry(&self) -> u16 {
        (self.slot as u16 + 1) | WANTS_READY
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Ears {
    bell: Option<Bell>,
    members: Vec<Member>,
    /// Some connection has no way to ring: for want of a descriptor, or of a place in its group.
    pub deaf: bool,
    /// Psocks that may have had news before they were heard of.
    unheard: Set<PsockId>,
}

impl Ears {
    /// Those of a mux without such connections.
    pub const NONE: Self = Self { bell: None, members: Vec::new(), deaf: false, unheard: Set::EMPTY };

    /// Enters the waiters of a psock's connection. `set` is the mux's. The caller looks at the connection afterwards.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub fn join(&mut self, set: Fd, psock: PsockId, (file, link): (&OpenFile, &Link)) -> Result<(), Errno> {
        let bell = match &mut self.bell {
            Some(bell) => bell,
            none => {
                let bell = Bell::new()?;
                event::epoll_ctl(set, libc::EPOLL_CTL_ADD, bell.fd(), libc::EPOLLIN as u32, Source::Bell.to_bits())?;
                bell.fall_asleep();
                none.insert(bell)
            }
        };
        let known = self.members.iter().position(|member| Arc::ptr_eq(&member.group, &link.group));
        if known.is_none() {
            // Each forked child that ends leaves a waiter; news are told to all of them.
            link.group.forget_the_dead();
        }
        let Some(slot) = link.group.slot_of(bell) else {
            self.deaf = true;
            return Ok(());
        };
        let index = known.unwrap_or_else(|| {
            self.members.push(Member { group: link.group.clone(), slot, conns: FxHashMap::default() });
            self.members.len() - 1
        });
        let member = &mut self.members[index];
        member.conns.insert(link.conn, psock);
        link.group.declare(slot, bell.seq.load(std::sync::atomic::Ordering::SeqCst));
        link.enter_waiter(file, member.entry());
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// The bell's descriptor, or -1 when there is none.
    pub fn bell(&self) -> Fd {
        self.bell.as_ref().map_or(-1, Bell::fd)
    }

    /// After joining, where nobody is about to look: whoever serves the mux does, and is woken.
    pub fn prick(&mut self) {
        self.unheard = self.psocks();
        if let Some(bell) = self.bell.as_ref().filter(|_| !self.members.is_empty()) {
            bell.ring();
        }
    }

    /// The psocks whose connections are in shared memory.
    pub fn psocks(&self) -> Set<PsockId> {
        let mut psocks = Set::EMPTY;
        for psock in self.members.iter().flat_map(|member| member.conns.values()) {
            psocks.insert(*psock);
        }
        psocks
    }

    /// Takes a psock's connection off.
    pub fn part(&mut self, (file, link): (&OpenFile, &Link)) {
        let is_its = |member: &Member| Arc::ptr_eq(&member.group, &link.group);
        let Some(index) = self.members.iter().position(is_its) else { return };
        let member = &mut self.members[index];
        if member.conns.remove(&link.conn).is_some() {
            link.leave_waiter(file, member.entry());
        }
        if member.conns.is_empty() {
            let member = self.members.swap_remove(index);
            if let Some(bell) = &self.bell {
                member.group.leave_slot(bell);
            }
        }
    }

    /// The bell rings: a new sleep begins. The caller takes the news afterwards.
    pub fn rang(&self) {
        let Some(bell) = &self.bell else { return };
        bell.hush();
        let seq = bell.wake_up(true);
        self.members.iter().for_each(|member| member.group.declare(member.slot, seq));
    }

    /// Psocks that peers have noted news for, each for the first who asks.
    pub fn news(&mut self) -> Set<PsockId> {
        let mut news = core::mem::replace(&mut self.unheard, Set::EMPTY);
        for member in &self.members {
            member.group.take_ready(member.slot, |conn| {
                if let Some(psock) = member.conns.get(&conn) {
                    news.insert(*psock);
                }
            });
        }
        news
    }
}
