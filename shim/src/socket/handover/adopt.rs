//! At the start of a program: the sockets that the one before it, in the same process, handed over.

use super::letter::{Letter, Place, SocketEntry};
use crate::fdtable;
use crate::process;
use crate::socket::file::OpenFile;
use crate::socket::group::{Group, GroupIndex, Peer};
use crate::socket::link::Link;
use crate::socket::sock::{Sock, phase};
use preloop_shm::arena::{Inherited, Slot};
use preloop_shm::counted::Counted;
use preloop_sys::unix::Inner;
use preloop_sys::{Fd, call};
use preloop_uapi::listing::kind;
use preloop_uapi::settings::PRELOOP_LETTER;
use preloop_uapi::sync::Ordering;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Descriptors below this are looked at, whatever numbers the letter names: they may have been renumbered since.
const RENUMBERED: Fd = 1024;

/// Descriptors above this are unknown to the table.
const HIGHEST: Fd = (1 << 20) - 1;

/// What came with a letter.
struct Estate {
    letter: Letter,
    arenas: Vec<Option<Inherited>>,
    groups: Vec<Option<Arc<Group>>>,
}

/// Reads the letter at `fd`, and goes on with its sockets.
fn adopt(fd: Fd) {
    let Some(letter) = Letter::open(fd) else { return };
    // It was one: the descriptor is the library's.
    drop(Inner::from_raw(fd));
    let mut estate = Estate { arenas: Vec::new(), groups: Vec::new(), letter };
    estate.arenas = estate.letter.arenas.iter().map(|memfd| open_arena(*memfd)).collect();
    estate.groups = (0..estate.letter.groups.len()).map(|index| estate.open_group(index)).collect();
    let highest =
        estate.letter.sockets.iter().map(|socket| socket.fd).max().unwrap_or(0).clamp(RENUMBERED - 1, HIGHEST);
    let sockets: FxHashMap<u64, &SocketEntry> =
        estate.letter.sockets.iter().map(|entry| (entry.cookie, entry)).collect();
    let mut adopted: FxHashMap<u64, Counted<OpenFile>> = FxHashMap::default();
    for fd in 0..=highest {
        let Ok(cookie) = call::cookie(fd) else { continue };
        let Some(entry) = sockets.get(&cookie) else { continue };
        if let Some(file) = adopted.get(&cookie) {
            file.descriptors.fetch_add(1, Ordering::AcqRel);
            fdtable::set(fd, Some(file.clone()));
        } else if let Some(file) = estate.adopt(entry, fd) {
            adopted.insert(cookie, file);
        }
    }
    // Counted, but closed on the way here.
    for entry in sockets.values().filter(|entry| !adopted.contains_key(&entry.cookie)) {
        estate.count_out(entry);
    }
}

fn open_arena(memfd: Fd) -> Option<Inherited> {
    let arena = Inherited::open(memfd)?;
    process::protect(memfd);
    Some(arena)
}

impl Estate {
    fn slot<T: Slot>(&self, place: Place, is_kind: impl Fn(u32) -> bool) -> Option<&'static T> {
        self.arenas.get(place.arena)?.as_ref()?.slot(place.slot, is_kind)
    }

    fn open_group(&self, index: usize) -> Option<Arc<Group>> {
        let entry = &self.letter.groups[index];
        let slot: &'static GroupIndex = self.slot(entry.index, |found| found == kind::GROUP)?;
        let peer = Peer { pid: entry.peer_pid, uid: entry.peer_uid };
        let group = Group::inherit(entry.memfd, entry.rings, entry.side, entry.token, peer, (slot, None))?;
        if !self.letter.to_child {
            // The bells of the program before are gone.
            entry.waiters.iter().for_each(|waiter| group.forget_waiter(*waiter));
        }
        Some(group)
    }

    fn sock(&self, entry: &SocketEntry) -> Option<&'static Sock> {
        self.slot(entry.sock, |found| matches!(found, kind::INIT | kind::LISTEN | kind::CONNECTION))
    }

    /// `Some(None)`: it has not moved. `None`: it has, and its memory is not here.
    fn link(&self, entry: &SocketEntry) -> Option<Option<Arc<Link>>> {
        let Some(place) = entry.link else { return Some(None) };
        let group = self.groups.get(place.group)?.as_ref()?;
        Link::inherit(group.clone(), place.conn, place.generation).map(Some)
    }

    fn adopt(&self, entry: &SocketEntry, fd: Fd) -> Option<Counted<OpenFile>> {
        let (sock, link) = (self.sock(entry)?, self.link(entry)?);
        if !self.letter.to_child {
            Self::forget_the_dead(entry, sock, link.as_deref());
        }
        let file = OpenFile::inherit(sock, fd, link, None);
        entry.release(sock);
        Some(file)
    }

    fn count_out(&self, entry: &SocketEntry) {
        if let Some(sock) = self.sock(entry) {
            entry.release(sock);
            drop(OpenFile::inherit(sock, -1, self.link(entry).flatten(), None));
        }
    }

    /// Threads of the program that ran in this process before are gone, and never said so.
    fn forget_the_dead(entry: &SocketEntry, sock: &Sock, link: Option<&Link>) {
        let is_alone = sock.holders.load(Ordering::Acquire) == 1 + u32::from(entry.held);
        if is_alone && sock.phase() < phase::SMC {
            sock.kernel_writers.store(0, Ordering::Release);
        }
        if let Some(link) = link.filter(|_| is_alone) {
            link.own().wait.waiters.store(0, Ordering::Release);
            sock.unlisted.store(0, Ordering::Relaxed);
        }
    }
}

impl SocketEntry {
    /// Nobody else goes on with the handshake: the one holder too many is taken off.
    fn release(&self, sock: &Sock) {
        if self.held {
            sock.holders.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// At the start of a program: looks for a letter in the environment, and takes its name out of there.
pub fn from_env() {
    let letter = preloop_sys::process::take_env(PRELOOP_LETTER);
    if let Some(fd) = letter.and_then(|text| text.to_str().ok()?.parse().ok()).filter(|fd| *fd > 2) {
        adopt(fd);
    }
}
