//! What one program writes to the next. Both are of one process and one library, so there are no versions; the next one
//! reads it as carefully as if there were, because the environment is anybody's to set.

use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes that no letter exceeds: some 100,000 sockets.
const BYTES_MAX: usize = 16 << 20;

/// What a letter is sealed with: nobody changes it any more.
const SEALS: i32 = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

/// Where a slot lies: which of [`Letter::arenas`], and its index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub arena: usize,
    pub slot: u32,
}

/// A link group. `waiters` are the slots that this program's bells have; they go with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    pub memfd: Fd,
    pub side: usize,
    pub token: u64,
    pub peer_pid: u32,
    pub peer_uid: u32,
    pub rings: [u64; 2],
    pub index: Place,
    pub waiters: Vec<usize>,
}

/// The block of a connection that has moved: which of [`Letter::groups`], and which block there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEntry {
    pub group: usize,
    pub conn: usize,
    pub generation: u32,
}

/// A socket, at `fd` when the letter was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketEntry {
    /// It counts a holder more, which whoever reads the letter takes off.
    pub held: bool,
    pub cookie: u64,
    pub fd: Fd,
    pub sock: Place,
    pub link: Option<LinkEntry>,
}

/// See the module's text. Arenas are named by the descriptors of their memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// From a parent, which goes on with its sockets and waiters; not from the program that ran in this process before.
    pub to_child: bool,
    pub arenas: Vec<Fd>,
    pub groups: Vec<GroupEntry>,
    pub sockets: Vec<SocketEntry>,
}

impl Letter {
    /// Writes it into memory of its own, to be read once.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn seal(&self) -> Result<Inner, Errno> {
        seal(self)
    }

    /// Reads it. Descriptors that share its position, in whatever process, find nothing more.
    pub fn open(memory: Fd) -> Option<Self> {
        open(memory)
    }
}

/// See [`Letter::seal`].
///
/// # Errors
/// As there.
pub fn seal(written: &impl Serialize) -> Result<Inner, Errno> {
    let bytes = serde_json::to_vec(written).map_err(|_| Errno::ENOMEM)?;
    let memory = Inner::from_raw(call::memfd(c"preloop-letter")?).move_high();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let written = call::write(memory.fd(), rest)?;
        rest = &rest[written..];
    }
    call::rewind(memory.fd())?;
    call::seal(memory.fd(), SEALS)?;
    Ok(memory)
}

/// See [`Letter::open`].
pub fn open<T: DeserializeOwned>(memory: Fd) -> Option<T> {
    // Whatever else stands there is the program's, and not to be read.
    if call::seals(memory) != Ok(SEALS) {
        return None;
    }
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        bytes.resize(start + 65536, 0);
        let read = call::read(memory, &mut bytes[start..]).ok()?;
        bytes.truncate(start + read);
        if read == 0 || bytes.len() > BYTES_MAX {
            break;
        }
    }
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        let place = Place { arena: 0, slot: 7 };
        let group = GroupEntry {
            memfd: 900,
            side: 1,
            token: u64::MAX,
            peer_pid: 3,
            peer_uid: 0,
            rings: [1 << 18, 1 << 20],
            index: place,
            waiters: vec![1, 5],
        };
        let link = Some(LinkEntry { group: 0, conn: 511, generation: 9 });
        let sockets = vec![
            SocketEntry { held: true, cookie: 1 << 60, fd: 0, sock: place, link },
            SocketEntry { held: false, cookie: 2, fd: 5, sock: place, link: None },
        ];
        Letter { to_child: false, arenas: vec![901], groups: vec![group], sockets }
    }

    #[test]
    fn is_read_once() {
        let sealed = letter().seal().unwrap();
        assert_eq!(Letter::open(sealed.fd()), Some(letter()));
        assert_eq!(Letter::open(sealed.fd()), None);
    }

    #[test]
    fn what_is_no_letter_is_none() {
        let memory = Inner::from_raw(call::memfd(c"no-letter").unwrap());
        call::write(memory.fd(), b"{\"arenas\":[1],\"groups\":3}").unwrap();
        call::rewind(memory.fd()).unwrap();
        assert_eq!(Letter::open(memory.fd()), None);
        assert_eq!(Letter::open(-1), None);
    }
}
