//! The preloaded processes, by what they map.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};

use preloop_uapi::listing::ARENA_NAME;
use procfs::FromBufRead;
use procfs::process::{MemoryMaps, Process};

/// A process that maps an arena.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its number for us.
    pub pid: i32,
    /// Its number in its own pid namespace, which it writes into the listings.
    pub inner_pid: u32,
    /// Where it maps the arena.
    pub base: u64,
    /// Name of its command.
    pub command: String,
}

/// An arena, the same in all processes that map it: device and inode of its memfd.
pub type ArenaId = ((i32, i32), u64);

/// All processes, in order of their numbers.
///
/// # Errors
/// `/proc` cannot be read.
pub fn pids() -> io::Result<Vec<i32>> {
    let mut pids: Vec<i32> =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// All arenas, with the processes that map them in order of their numbers.
///
/// # Errors
/// `/proc` cannot be read.
pub fn arenas() -> io::Result<BTreeMap<ArenaId, Vec<Member>>> {
    let ending = format!("/memfd:{ARENA_NAME} (deleted)");
    let mut arenas = BTreeMap::<_, Vec<_>>::new();
    let mut text = Vec::new();
    for pid in pids()? {
        // A process that is gone, or none of our business, is as good as one that is not preloaded.
        for (id, base) in mappings(pid, ending.as_bytes(), &mut text).unwrap_or_default() {
            arenas.entry(id).or_default().push(member(pid, base));
        }
    }
    Ok(arenas)
}

/// The arenas that `pid` maps. Most processes map none, so only matching lines are parsed.
fn mappings(pid: i32, ending: &[u8], text: &mut Vec<u8>) -> io::Result<Vec<(ArenaId, u64)>> {
    text.clear();
    File::open(format!("/proc/{pid}/maps"))?.read_to_end(text)?;
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').filter(|line| line.ends_with(ending)).collect();
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let maps = MemoryMaps::from_buf_read(lines.join(&b'\n').as_slice()).map_err(io::Error::other)?;
    let starts = maps.into_iter().filter(|map| map.offset == 0);
    Ok(starts.map(|map| ((map.dev, map.inode), map.address.0)).collect())
}

fn member(pid: i32, base: u64) -> Member {
    let status = Process::new(pid).and_then(|process| process.status()).ok();
    let innermost = status.as_ref().and_then(|status| status.nspid.as_ref()?.last().copied());
    let inner_pid = innermost.unwrap_or(pid).unsigned_abs();
    Member { pid, inner_pid, base, command: status.map(|status| status.name).unwrap_or_default() }
}
