//! The KCM muxes of preloaded processes, for `kcmss`.
//!
//! A mux is a memfd (layout: `preloop_uapi::mux`) that its processes keep open, so it is found among their descriptors, and
//! read there. It is copied without its lock: numbers that change meanwhile may not agree.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use preloop_kcm::proc::TcpQueues;
use preloop_kcm::{MuxState, PsockId};
use preloop_uapi::mux::{MUX_MAGIC, MUX_NAME, MuxHeader, PsockEntry, STATE_OFFSET};
use rustix::fs::{FsWord, Mode, OFlags, fstatfs, open};

use super::arena::Bytes;
use super::processes;
use super::tcp::{Tables, namespace};

/// What `fstatfs` says of a memfd: `TMPFS_MAGIC`.
const TMPFS: FsWord = 0x0102_1994;

/// A copy of a mux.
#[derive(Debug)]
pub struct Mux {
    /// A process that has it.
    pub pid: i32,
    /// When it was made: CLOCK_MONOTONIC nanoseconds.
    pub made_at: u64,
    /// Its state.
    pub state: Box<MuxState>,
    /// Inodes of the psocks' TCP sockets.
    inodes: Vec<u64>,
}

impl Mux {
    /// What TCP has queued for a psock. The kernel's tables know bytes: they stand for memory, and for one segment.
    pub fn queues(&self, psock: PsockId, tables: &mut Tables) -> TcpQueues {
        let inode = self.inodes[usize::from(psock.0)];
        let entry = tables.entry(namespace(self.pid), self.pid, inode);
        let (received, to_send) = entry.map_or((0, 0), |entry| (entry.rx_queue, entry.tx_queue));
        TcpQueues { recv_q: received.min(1), rmem: received, send_q: to_send.min(1), smem: to_send.saturating_add(1) }
    }
}

/// All muxes with a socket that this process may look at, each once, the newest first.
///
/// # Errors
/// `/proc` cannot be read at all.
pub fn read() -> io::Result<Vec<Mux>> {
    let (mut muxes, mut known) = (Vec::new(), HashSet::new());
    for pid in processes::pids()? {
        // A process that is gone, or none of our business, is as good as one that has no mux.
        for memory in descriptors(pid).filter_map(|descriptor| memory(&descriptor)) {
            let Ok(file) = memory.metadata() else { continue };
            if known.insert((file.dev(), file.ino())) {
                muxes.extend(copy(&memory, pid));
            }
        }
    }
    muxes.retain(|mux| !mux.state.csocks().is_empty());
    muxes.sort_by_key(|mux| std::cmp::Reverse(mux.made_at));
    Ok(muxes)
}

/// The descriptors of `pid` that have a mux's name.
fn descriptors(pid: i32) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|descriptor| is_named(descriptor))
}

fn is_named(descriptor: &Path) -> bool {
    let name = fs::read_link(descriptor).unwrap_or_default();
    let name = name.as_os_str().as_bytes().strip_prefix(b"/memfd:");
    name.and_then(|name| name.strip_suffix(b" (deleted)")) == Some(MUX_NAME.as_bytes())
}

/// Opens what is there without acting on it, and only then, if it is memory of that name, to read: the number may stand for
/// something else by now, at which opening or reading would wait.
fn memory(descriptor: &Path) -> Option<File> {
    let held = open(descriptor, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let this = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    if !is_named(&this) || fstatfs(&held).ok()?.f_type != TMPFS {
        return None;
    }
    File::open(this).ok()
}

/// The mux in this memory; `None` when it has none.
fn copy(memory: &File, pid: i32) -> Option<Mux> {
    let mut bytes = vec![0; size_of::<MuxHeader>()];
    memory.read_exact_at(&mut bytes, 0).ok()?;
    let header = Bytes(&bytes);
    if header.u64(offset_of!(MuxHeader, magic)) != MUX_MAGIC {
        return None;
    }
    let made_at = header.u64(offset_of!(MuxHeader, made_at));
    let inode = |place| offset_of!(MuxHeader, psocks) + place * size_of::<PsockEntry>() + offset_of!(PsockEntry, inode);
    let inodes = (0..preloop_uapi::mux::PLACES).map(|place| header.u64(inode(place))).collect();
    let mut bytes = vec![0; size_of::<MuxState>()];
    memory.read_exact_at(&mut bytes, STATE_OFFSET as u64).ok()?;
    let state = Box::new(MuxState::from_bytes(&bytes)?);
    Some(Mux { pid, made_at, state, inodes })
}
