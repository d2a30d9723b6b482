//! A letter that is being written, and whose memory it names.

use super::letter::{GroupEntry, Letter, LinkEntry, Place, SocketEntry};
use crate::socket::file::OpenFile;
use crate::socket::group::Group;
use preloop_shm::arena::{self, Slot};
use preloop_shm::counted::Counted;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call};
use std::sync::Arc;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Envelope {
    letter: Letter,
    files: Vec<Counted<OpenFile>>,
    groups: Vec<Arc<Group>>,
}

impl Envelope {
    /// A letter to a child, which shares this process's waiters with nobody.
    pub fn to_child() -> Self {
        Self { letter: Letter { to_child: true, ..Letter::default() }, ..Self::default() }
    }

    /// Writes it down. What is to stay open is the caller's to see to.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn seal(&self) -> Result<Inner, Errno> {
        self.letter.seal()
    }

    /// Adds a socket, counted once more if it is `held`, if what the next program needs for it can be handed over.
    pub fn add(&mut self, fd: Fd, file: &Counted<OpenFile>, held: bool) {
        let Some(sock) = self.place(file.sock) else { return };
        let Ok(cookie) = call::cookie(fd) else { return };
        // Another thread may have closed it meanwhile, and the number stand for something else.
        if !file.is_at(fd) {
            return;
        }
        let link = match file.link() {
            None => None,
            Some(link) => {
                let Some(group) = self.group(&link.group) else { return };
                Some(LinkEntry { group, conn: link.conn, generation: link.generation() })
            }
        };
        self.letter.sockets.push(SocketEntry { cookie, fd, sock, link, held });
        self.files.push(file.clone());
    }

    fn place<T: Slot>(&mut self, slot: &'static T) -> Option<Place> {
        let place = arena::place_of(slot)?;
        let known = self.letter.arenas.iter().position(|memfd| *memfd == place.memfd);
        let arena = known.unwrap_or_else(|| {
            self.letter.arenas.push(place.memfd);
            self.letter.arenas.len() - 1
        });
        Some(Place { arena, slot: place.slot })
    }

    fn group(&mut self, group: &Arc<Group>) -> Option<usize> {
        if let Some(known) = self.groups.iter().position(|other| Arc::ptr_eq(other, group)) {
            return Some(known);
        }
        let index = self.place(group.index())?;
        self.letter.groups.push(GroupEntry {
            memfd: group.memfd()?,
            side: group.side,
            token: group.token,
            peer_pid: group.peer.pid,
            peer_uid: group.peer.uid,
            rings: group.memory.ring_sizes(),
            index,
            waiters: group.waiters(),
        });
        self.groups.push(group.clone());
        Some(self.groups.len() - 1)
    }

    /// Whether a socket is in it.
    pub fn hands_over(&self, file: &Counted<OpenFile>) -> bool {
        self.files.iter().any(|handed| handed.same(file))
    }

    /// What it holds so far.
    pub fn letter(&self) -> &Letter {
        &self.letter
    }

    /// The groups that are in it.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// Whether a group is in it.
    pub fn has(&self, group: &Arc<Group>) -> bool {
        self.groups.iter().any(|other| Arc::ptr_eq(other, group))
    }

    /// The descriptors that it names, which must stay open.
    pub fn descriptors(&self) -> Vec<Fd> {
        self.letter.groups.iter().map(|group| group.memfd).chain(self.letter.arenas.iter().copied()).collect()
    }
}
