//! What lies beside the TCP socket in a parcel.

use crate::socket::handover::letter::Letter;
use crate::socket::users::Place;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use preloop_sys::unix::FDS_MAX;
use serde::{Deserialize, Serialize};
use std::fs;

/// Where the note, the TCP socket, and the other end of the parcel stand among the parcel's descriptors. Behind them comes
/// what the note names, if it has one the message's stake first.
pub const NOTE: usize = 0;
/// See [`NOTE`].
pub const TCP: usize = 1;
/// See [`NOTE`].
pub const PUT: usize = 2;
/// See [`NOTE`].
pub const OTHERS: usize = 3;

/// What parcels are bound to starts so.
pub const NAME: &[u8] = b"preloop-parcel.";

/// Descriptors in a parcel at most.
const _: () = assert!(OTHERS + 4 <= FDS_MAX);

/// The file that a process has mapped as its library, by device and inode: memory is shared with who has the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    device: u64,
    inode: u64,
}

impl Library {
    /// This process's; `None` without /proc.
    pub fn own() -> Option<Self> {
        static KNOWN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
        let known = Self { device: KNOWN[0].load(Relaxed), inode: KNOWN[1].load(Relaxed) };
        if known.inode != 0 {
            return Some(known);
        }
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let here = Self::own as *const () as usize;
        let own = maps.lines().find_map(|line| {
            let (range, _) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap_or(0));
            (start..end).contains(&here).then(|| Self::in_line(line)).flatten()
        })?;
        KNOWN[0].store(own.device, Relaxed);
        KNOWN[1].store(own.inode, Relaxed);
        Some(own)
    }

    /// As two numbers.
    pub fn words(self) -> [u64; 2] {
        [self.device, self.inode]
    }

    /// The file of a line of `/proc/PID/maps` (proc(5)).
    fn in_line(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(3);
        let (major, minor) = words.next()?.split_once(':')?;
        let [major, minor] = [major, minor].map(|text| u64::from_str_radix(text, 16));
        let inode = words.next()?.parse().ok().filter(|inode| *inode != 0)?;
        Some(Self { device: major.ok()? << 32 | minor.ok()?, inode })
    }

    /// Whether a process with this text of `/proc/PID/maps` has it.
    pub fn is_in(self, maps: &str) -> bool {
        maps.lines().any(|line| Self::in_line(line) == Some(self))
    }
}

/// See the module's text.
#[derive(Debug, Serialize, Deserialize)]
pub struct Note {
    /// The sender's.
    pub library: Library,
    /// The sender, as it knows itself.
    pub pid: u32,
    /// Place of the message among the socket's users.
    pub place: Option<Place>,
    /// One socket. Its descriptors are places in the parcel.
    pub letter: Letter,
}

#[cfg(test)]
mod tests {
    use super::Library;

    #[test]
    fn the_library_is_where_this_code_is() {
        let own = Library::own().unwrap();
        assert_eq!(Library::own(), Some(own));
        assert!(own.is_in(&std::fs::read_to_string("/proc/self/maps").unwrap()));
    }

    #[test]
    fn lines_without_a_file_have_none() {
        assert_eq!(Library::in_line("7f0000000000-7f0000001000 rw-p 00000000 00:00 0 "), None);
        let line = "7f0000000000-7f0000001000 r-xp 00000000 fe:0a 77    /a b/libpreloop.so";
        assert_eq!(Library::in_line(line), Some(Library { device: 0xfe << 32 | 0xa, inode: 77 }));
    }
}
