//! Programs and maps that the kernel has.
//!
//! The kernel does not give a program's instructions back, so they are kept here, by the program's number, from when it
//! was loaded. Its maps are the kernel's. Each gets a *twin* here when a program that uses it is first wanted as a parser:
//! until then the kernel's programs may use it, and nothing is copied. From then on element commands are answered from
//! the twin, which is what the parser sees, and changes go to both.

use super::Loaded;
use super::attr::Call;
use super::load::{self, Request};
use super::standin::{self, Found};
use super::table::{self, Key, Known};
use crate::process;
use preloop_parsers::insn::Insn;
use preloop_parsers::maps::{BPF_ANY, Map, MapDef, MapKind};
use preloop_parsers::{MapRef, Parser, ParserMap};
use preloop_sys::bpf::{self, KernelMap, Kind};
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call};
use preloop_uapi::bpf::{MapInfo, SOCKET_FILTER, map_flag};
use std::sync::Arc;

/// A program that the kernel loaded for this process.
#[derive(Debug)]
pub(super) struct KernelProgram {
    /// References to maps have the map's position in `maps`.
    insns: Vec<Insn>,
    maps: Vec<Held>,
}

/// A descriptor of the library's own.
#[derive(Debug)]
struct Held(Fd);

impl Held {
    fn duplicate(fd: Fd) -> Result<Self, Errno> {
        call::duplicate_high(fd).map(|fd| Self(process::adopt(Inner::from_raw(fd))))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        process::disown(self.0);
    }
}

/// Takes note of a program that the kernel has just loaded.
pub(super) fn loaded(fd: Fd, call: &Call<'_>) {
    let Ok(request) = Request::read(call) else { return };
    if request.attr.prog_type != SOCKET_FILTER {
        return;
    }
    // What cannot be kept can be used all the same, but not as a parser: `program` says so.
    if let (Ok(info), Ok(program)) = (bpf::program_info(fd), keep(&request)) {
        table::remember(info.id, program);
    }
}

fn keep(request: &Request<'_>) -> Result<KernelProgram, Errno> {
    let mut insns = request.insns()?;
    let mut known: Vec<MapRef> = Vec::new();
    let mut maps = Vec::new();
    for (insn, reference) in load::references(&mut insns) {
        let position = known.iter().position(|other| *other == reference);
        insn.imm = position.unwrap_or(known.len()) as i32;
        if position.is_none() {
            maps.push(Held::duplicate(request.map_fd(reference)?)?);
            known.push(reference);
        }
    }
    Ok(KernelProgram { insns, maps })
}

/// The socket filter of the kernel's that `fd` stands for.
///
/// # Errors
/// EINVAL when it is none, or none that this process can evaluate.
pub(super) fn program(fd: Fd) -> Result<Loaded, Errno> {
    let info = bpf::program_info(fd)?;
    if info.prog_type != SOCKET_FILTER {
        return Err(Errno::EINVAL);
    }
    let Some(program) = table::remembered(info.id) else {
        crate::log::debug_kcm(format_args!(
            "bpf program {}: loaded elsewhere, its instructions are not known",
            info.id
        ));
        return Err(Errno::EINVAL);
    };
    let maps = program.maps.iter().map(|held| Ok(twin(held.0)?.1)).collect::<Result<Vec<_>, Errno>>()?;
    let defs = maps.iter().map(|known| ParserMap { def: known.map.def(), data: Vec::new() }).collect();
    let parser = Parser { name: load::text_of(info.name), insns: program.insns.clone(), maps: defs };
    load::evaluable(parser, &maps)
}

/// The map that a descriptor stands for: of a stand-in, or a twin of the kernel's.
///
/// # Errors
/// EBADF when it is not open, EINVAL when it is no map that can be evaluated.
pub(super) fn map(fd: Fd) -> Result<(Key, Arc<Known>), Errno> {
    match standin::find(fd)? {
        Some(Found::Map(header)) => Ok((Key::StandIn(header.id), standin::map(&header)?)),
        Some(Found::Program(_)) => Err(Errno::EINVAL),
        None => twin(fd),
    }
}

fn twin(fd: Fd) -> Result<(Key, Arc<Known>), Errno> {
    if bpf::kind(fd) != Kind::Map {
        return Err(Errno::EINVAL);
    }
    let theirs = KernelMap::new(fd)?;
    let key = Key::Kernel(theirs.info().id);
    let known = table::find_or_make(key, || {
        let twin = def(theirs.info()).and_then(|def| Map::new(def).ok()).ok_or(Errno::EINVAL)?;
        copy(&theirs, &twin)?;
        Ok((twin, theirs.info().map_flags))
    })?;
    Ok((key, known))
}

fn def(info: &MapInfo) -> Option<MapDef> {
    Some(MapDef {
        kind: MapKind::from_number(info.map_type)?,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        read_only: info.map_flags & map_flag::RDONLY_PROG != 0,
    })
}

/// Copies what the kernel's map holds.
fn copy(from: &KernelMap, to: &Map) -> Result<(), Errno> {
    let mut last: Option<Vec<u8>> = None;
    loop {
        let key = match from.next_key(last.as_deref()) {
            Ok(key) => key,
            Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error),
        };
        match from.lookup(&key) {
            Ok(value) => to.update(&key, &value, BPF_ANY).map_err(Errno::new)?,
            // Somebody took it out meanwhile.
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        last = Some(key);
    }
}
