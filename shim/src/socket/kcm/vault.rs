//! Descriptors of a mux for processes that have the mux and not them: a sibling of a fork, when another one attaches or
//! clones; and whoever is passed a KCM socket, or starts with one.
//!
//! A *vault* is a pair of Unix sockets that all those processes have. Messages with descriptors are put into one end, and
//! stay there: they are peeked at from the other (SO_PEEK_OFF), which gives new descriptors each time. Only members that go
//! are taken out. All that is done under the mux's lock.

use crate::process;
use preloop_kcm::id::{CsockId, PLACES, PsockId};
use preloop_sys::unix::{self, FDS_MAX, Inner};
use preloop_sys::{Errno, Fd, call};
use rustc_hash::FxHashSet;

/// `SO_PEEK_OFF`: bytes that a peek passes over.
const SO_PEEK_OFF: i32 = 42;
/// Bytes that messages may take in the vault, as SO_SNDBUF counts: 768 messages, and more.
const ROOM: i32 = 1 << 20;

/// Whose descriptors a message carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Member {
    /// A csock's far end, by its generation. (Not its own end: whoever has that holds the socket.)
    Csock(CsockId, u32),
    /// A psock's TCP socket, or a parcel with its connection where that has moved to shared memory; and a memfd with its
    /// parser. By its generation.
    Psock(PsockId, u32),
    /// The mux's eventfd.
    Kick,
    /// Its desk: whoever has the mux serves it, so it outlives the process that opened it.
    Desk,
}

/// Members that a mux has at most, its eventfd, and its desk.
const MEMBERS: usize = 2 * PLACES + 2;
/// Bytes of a message.
const MESSAGE: usize = 8;
/// The first byte of a psock's.
const PSOCK: u8 = 1;

impl Member {
    fn to_bytes(self) -> [u8; MESSAGE] {
        let (kind, place, generation) = match self {
            Self::Csock(CsockId(n), generation) => (0, n, generation),
            Self::Psock(PsockId(n), generation) => (PSOCK, n, generation),
            Self::Kick => (2, 0, 0),
            Self::Desk => (3, 0, 0),
        };
        let [a, b, c, d] = generation.to_ne_bytes();
        [kind, place, 0, 0, a, b, c, d]
    }

    fn from_bytes([kind, place, _, _, generation @ ..]: [u8; MESSAGE]) -> Self {
        let generation = u32::from_ne_bytes(generation);
        match kind {
            0 => Self::Csock(CsockId(place), generation),
            PSOCK => Self::Psock(PsockId(place), generation),
            2 => Self::Kick,
            _ => Self::Desk,
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Vault {
    put: Fd,
    look: Fd,
}

fn end_name(id: u64, end: char) -> Vec<u8> {
    format!("preloop-kcm-vault.{id:016x}.{end}").into_bytes()
}

impl Vault {
    /// A vault for the mux of this name, with nothing in it.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub fn make(id: u64) -> Result<Self, Errno> {
        let [put, look] = call::unix_pair(libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK)?.map(Inner::from_raw);
        unix::bind_to(put.fd(), &end_name(id, 'p'))?;
        unix::bind_to(look.fd(), &end_name(id, 'l'))?;
        // More than the limit for everybody may be refused: then there is room for fewer.
        let _ = call::set_int_option(put.fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, ROOM);
        let _ = call::set_int_option(put.fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, ROOM);
        Ok(Self::of(put.move_high(), look.move_high()))
    }

    /// The vault with these ends.
    pub fn of(put: Inner, look: Inner) -> Self {
        Self { put: process::adopt(put), look: process::adopt(look) }
    }

    /// The end of the vault of that mux which a descriptor is, if it is one: where messages are put, or looked at.
    pub fn end_of(id: u64, fd: Fd) -> Option<char> {
        let name = unix::name(fd, false)?;
        ['p', 'l'].into_iter().find(|end| name == end_name(id, *end))
    }

    /// Both ends: where messages are put, and looked at.
    pub fn ends(&self) -> [Fd; 2] {
        [self.put, self.look]
    }

    /// Puts a member's descriptors in.
    ///
    /// # Errors
    /// ETOOMANYREFS when the user has too many descriptors under way; EAGAIN when the vault is full.
    pub fn put(&self, member: Member, fds: &[Fd]) -> Result<(), Errno> {
        unix::send_from(self.put, &member.to_bytes(), fds)
    }

    /// The message behind so many bytes of others.
    fn at(&self, skip: i32) -> Option<Member> {
        call::set_int_option(self.look, libc::SOL_SOCKET, SO_PEEK_OFF, skip).ok()?;
        let mut bytes = [0; MESSAGE];
        // A call that has no room for descriptors makes none.
        let got = call::recv(self.look, &mut bytes, libc::MSG_PEEK | libc::MSG_DONTWAIT).ok()?;
        (got == MESSAGE).then(|| Member::from_bytes(bytes))
    }

    fn descriptors_at(&self, skip: i32) -> Option<[Option<Inner>; FDS_MAX]> {
        call::set_int_option(self.look, libc::SOL_SOCKET, SO_PEEK_OFF, skip).ok()?;
        Some(unix::receive_from(self.look, &mut [0; MESSAGE], libc::MSG_PEEK).ok()?.1)
    }

    fn positions(&self) -> impl Iterator<Item = (i32, Member)> {
        (0..).step_by(MESSAGE).map_while(|skip| Some((skip, self.at(skip)?)))
    }

    /// Whose descriptors are in it.
    pub fn members(&self) -> FxHashSet<Member> {
        self.positions().map(|(_, member)| member).collect()
    }

    /// New descriptors of all these members that are in it.
    pub fn find(&self, wanted: &FxHashSet<Member>) -> impl Iterator<Item = (Member, [Option<Inner>; FDS_MAX])> {
        let found = self.positions().filter(|(_, member)| wanted.contains(member));
        found.filter_map(|(skip, member)| Some((member, self.descriptors_at(skip)?)))
    }

    /// Takes a member's descriptors out. The others come to stand in another order, which says nothing. Each is put in again
    /// before it is taken out, so that none is lost when this process is killed, or has no descriptors left: then the
    /// member may stay. Answers new descriptors of it, if it was there.
    pub fn remove(&self, member: Member) -> Option<[Option<Inner>; FDS_MAX]> {
        let wanted = member.to_bytes();
        let _ = call::set_int_option(self.look, libc::SOL_SOCKET, SO_PEEK_OFF, -1);
        let mut first = None;
        for _ in 0..=MEMBERS {
            let mut bytes = [0; MESSAGE];
            let Ok((MESSAGE, fds)) = unix::receive_from(self.look, &mut bytes, libc::MSG_PEEK) else { return None };
            if bytes == wanted {
                let _ = unix::receive_from(self.look, &mut bytes, 0);
                return Some(fds);
            }
            let numbers: Vec<Fd> = fds.iter().flatten().map(Inner::fd).collect();
            // Once around, and it is not there.
            if first == Some(bytes) || numbers.len() < descriptors_of(bytes) {
                return None;
            }
            first.get_or_insert(bytes);
            let is_in = unix::send_from(self.put, &bytes, &numbers).is_ok();
            let _ = unix::receive_from(self.look, &mut [0; MESSAGE], 0);
            if !is_in {
                // There was no room for both.
                let _ = unix::send_from(self.put, &bytes, &numbers);
            }
        }
        None
    }
}

/// How many descriptors a message carries.
fn descriptors_of([kind, ..]: [u8; MESSAGE]) -> usize {
    if kind == PSOCK { 2 } else { 1 }
}

impl Drop for Vault {
    fn drop(&mut self) {
        process::disown(self.put);
        process::disown(self.look);
    }
}
