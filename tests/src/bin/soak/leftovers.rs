//! What a server has of the library's, and how much memory.

use std::fmt;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use preloop_tests::smcss::{self, Mode};
use preloop_uapi::listing::{ARENA_NAME, ArenaHeader, SLOTS};

/// A look at one process.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    connections: usize,
    moved: usize,
    descriptors: usize,
    /// Link groups that it maps.
    groups: usize,
    arenas: usize,
    memfds: usize,
    /// Slots of its own arena in use.
    slots: u32,
    /// kB.
    resident: u64,
    /// kB of that shared.
    shared: u64,
}

impl Sample {
    pub(crate) fn take(smcss: &Path, pid: u32, port: u16) -> Result<Self> {
        let ends = smcss::connections(smcss, &[port])?;
        let ends: Vec<_> = ends.iter().filter(|end| end.pid == u64::from(pid) && end.local.port() == port).collect();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("the server's mappings")?;
        let mapped = |name: &str| maps.lines().filter(|line| line.contains(&format!("/memfd:{name}"))).count();
        let descriptors = descriptors(pid)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self {
            connections: ends.len(),
            moved: ends.iter().filter(|end| end.mode == Mode::Smcd).count(),
            groups: mapped("preloop-group"),
            arenas: mapped(ARENA_NAME),
            memfds: descriptors.iter().filter(|(_, name)| name.contains("/memfd:preloop-")).count(),
            descriptors: descriptors.len(),
            slots: slots(&descriptors)?,
            resident: kilobytes(&status, "VmRSS:")?,
            shared: kilobytes(&status, "RssShmem:")?,
        })
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.connections == 0
    }

    /// Nothing but memory that its own program keeps was added since `early`.
    ///
    /// # Errors
    /// Names what was.
    pub(crate) fn is_as(&self, early: &Self) -> Result<()> {
        /// Groups without a connection that a process keeps for the next one.
        const KEPT_GROUPS: usize = 8;
        /// Bells that it keeps for threads that will sleep.
        const KEPT_BELLS: usize = 64;
        /// kB for stacks, freed memory of the program, and pages of the groups that are kept.
        const SPARE: u64 = 32 << 10;
        let groups = KEPT_GROUPS + 1;
        ensure!(self.groups <= groups, "{} groups are mapped", self.groups);
        ensure!(self.arenas == early.arenas, "{} arenas, not {}", self.arenas, early.arenas);
        ensure!(self.memfds <= groups + 1, "{} memfds are open", self.memfds);
        let own = |sample: &Self| sample.descriptors - sample.memfds;
        let bells = own(early) + KEPT_BELLS;
        ensure!(own(self) <= bells, "{} descriptors beside memfds, early {}", own(self), own(early));
        let others = |sample: &Self| i64::from(sample.slots) - sample.groups as i64;
        ensure!(others(self) <= others(early), "{} slots beside groups, not {}", others(self), others(early));
        ensure!(self.resident <= early.resident + SPARE, "{} kB resident, not {}", self.resident, early.resident);
        ensure!(self.shared <= early.shared + SPARE, "{} kB shared, not {}", self.shared, early.shared);
        Ok(())
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, moved, descriptors, groups, arenas, memfds, slots, resident, shared } = self;
        write!(f, "{connections:5} connections, {moved:5} moved; {descriptors:5} descriptors, {memfds:3} memfds; ")?;
        write!(f, "mapped {groups:3} groups, {arenas} arenas; {slots:5} slots; {resident:7} kB, {shared:7} shared")
    }
}

fn descriptors(pid: u32) -> Result<Vec<(PathBuf, String)>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).context("the server's descriptors")?;
    let name = |entry: fs::DirEntry| Some((entry.path(), fs::read_link(entry.path()).ok()?.to_string_lossy().into()));
    Ok(entries.flatten().filter_map(name).collect())
}

/// Bits that are set in the map of the arena's slots.
fn slots(descriptors: &[(PathBuf, String)]) -> Result<u32> {
    let Some((path, _)) = descriptors.iter().find(|(_, name)| name.contains(ARENA_NAME)) else { return Ok(0) };
    let mut used = [0; SLOTS / 8];
    let arena = fs::File::open(path).context("the server's arena")?;
    arena.read_exact_at(&mut used, std::mem::offset_of!(ArenaHeader, used) as u64).context("the server's arena")?;
    Ok(used.iter().map(|byte| byte.count_ones()).sum())
}

fn kilobytes(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok()).context("memory in use")
}
