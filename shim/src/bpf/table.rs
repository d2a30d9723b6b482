//! The maps that this process has, by number, and the programs that the kernel loaded for it. Both survive fork, and end
//! with the process's program: see [`super::standin`] for what exec keeps.

use super::kernel::KernelProgram;
use super::standin::{self, Found};
use preloop_parsers::maps::Map;
use preloop_sys::{Errno, Fd, bpf, process};
use preloop_uapi::bpf::map_flag;
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

/// How a map is known again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    /// By the random number in its stand-in.
    StandIn(u64),
    /// By the kernel's number.
    Kernel(u32),
}

/// A map of this process's.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) map: Arc<Map>,
    /// Flags that it was made with.
    pub(super) flags: u32,
    frozen: AtomicBool,
}

impl Known {
    fn new(map: Arc<Map>, flags: u32) -> Arc<Self> {
        Arc::new(Self { map, flags, frozen: AtomicBool::new(false) })
    }

    /// Whether element commands may read it.
    pub(super) fn is_readable(&self) -> bool {
        self.flags & map_flag::WRONLY == 0
    }

    /// Whether element commands may change it.
    pub(super) fn is_writable(&self) -> bool {
        self.flags & map_flag::RDONLY == 0 && !self.frozen.load(Relaxed)
    }

    /// From now on element commands only read it.
    pub(super) fn freeze(&self) {
        self.frozen.store(true, Relaxed);
    }
}

struct Table {
    maps: FxHashMap<Key, Arc<Known>>,
    programs: FxHashMap<u32, Arc<KernelProgram>>,
    /// With so much in it, it is time to look for what nobody can ask for any more; see [`Table::weight`].
    sweep_at: u64,
}

/// Nobody looks before that.
const LITTLE: u64 = 64;

/// Held for look-ups, and for the sweep, in which files of this process are read.
static TABLE: Mutex<Table> = Mutex::new(Table {
    maps: HashMap::with_hasher(FxBuildHasher),
    programs: HashMap::with_hasher(FxBuildHasher),
    sweep_at: LITTLE,
});

/// How many maps of the kernel's have a twin here.
static TWINS: AtomicUsize = AtomicUsize::new(0);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Runs `during` while nobody looks anything up here or is inside a map (for fork).
pub fn hold<R>(during: impl FnOnce() -> R) -> R {
    let table = table();
    let maps: Vec<_> = table.maps.values().map(|known| Arc::clone(&known.map)).collect();
    let held: Vec<_> = maps.iter().map(|map| map.hold()).collect();
    let answer = during();
    drop(held);
    answer
}

/// Enters a map.
pub(super) fn enter(key: Key, map: Map, flags: u32) {
    table().enter(key, Known::new(Arc::new(map), flags));
}

/// Enters a map that no descriptor stands for, for as long as somebody has it.
pub(super) fn enter_own(map: &Arc<Map>) {
    table().enter(Key::StandIn(process::random()), Known::new(Arc::clone(map), 0));
}

/// The map of this number.
pub(super) fn find(key: Key) -> Option<Arc<Known>> {
    table().maps.get(&key).cloned()
}

/// The map of this number, or one that is made now, with its flags.
///
/// # Errors
/// Those of `make`.
pub(super) fn find_or_make(key: Key, make: impl FnOnce() -> Result<(Map, u32), Errno>) -> Result<Arc<Known>, Errno> {
    if let Some(known) = find(key) {
        return Ok(known);
    }
    let (map, flags) = make()?;
    let known = Known::new(Arc::new(map), flags);
    let mut table = table();
    // Another thread may have been faster.
    Ok(table.maps.get(&key).cloned().unwrap_or_else(|| {
        table.enter(key, Arc::clone(&known));
        known
    }))
}

/// The twin of a kernel's map.
pub(super) fn twin(fd: Fd) -> Option<Arc<Known>> {
    if TWINS.load(Relaxed) == 0 {
        return None;
    }
    find(Key::Kernel(bpf::KernelMap::new(fd).ok()?.info().id))
}

/// Remembers a program that the kernel loaded, by its number.
pub(super) fn remember(id: u32, program: KernelProgram) {
    let mut table = table();
    table.programs.insert(id, Arc::new(program));
    table.sweep();
}

/// A program that the kernel loaded for this process.
pub(super) fn remembered(id: u32) -> Option<Arc<KernelProgram>> {
    table().programs.get(&id).cloned()
}

impl Table {
    fn enter(&mut self, key: Key, known: Arc<Known>) {
        self.maps.insert(key, known);
        self.sweep();
    }

    /// One for each entry, and one for each megabyte of a map.
    fn weight(&self) -> u64 {
        let maps = self.maps.values().map(|known| 1 + (known.map.def().bytes() >> 20));
        self.programs.len() as u64 + maps.sum::<u64>()
    }

    /// When there is much in the table: forgets programs that the kernel has no more, and maps that no program and no
    /// descriptor of this process refers to. (One that is nowhere but in a message of SCM_RIGHTS begins anew when it
    /// comes back.)
    fn sweep(&mut self) {
        if self.weight() >= self.sweep_at {
            self.programs.retain(|id, _| bpf::program_exists(*id));
            let open = open();
            self.maps.retain(|key, known| {
                open.contains(key) || Arc::strong_count(&known.map) > 1 || Arc::strong_count(known) > 1
            });
            self.sweep_at = LITTLE.max(2 * self.weight());
        }
        TWINS.store(self.maps.keys().filter(|key| matches!(key, Key::Kernel(_))).count(), Relaxed);
    }
}

/// The maps of all stand-ins that are open in this process.
fn open() -> FxHashSet<Key> {
    let mut open = FxHashSet::default();
    for entry in std::fs::read_dir("/proc/thread-self/fd").into_iter().flatten().flatten() {
        let fd = entry.file_name().to_str().and_then(|name| name.parse().ok());
        match fd.map(standin::find) {
            Some(Ok(Some(Found::Map(header)))) => {
                open.insert(Key::StandIn(header.id));
            }
            Some(Ok(Some(Found::Program(program)))) => open.extend(program.keys().unwrap_or_default()),
            _ => {}
        }
    }
    open
}
