//! Stand-ins: what an unprivileged process gets for a descriptor of a program or map. A memfd that is close-on-exec, as
//! the kernel's, and sealed: what is in it stays. So dup, fork, exec and SCM_RIGHTS keep it what it is without a table.
//!
//! Anybody can make such a memfd; a program in it is checked whenever it is loaded.

use super::table::{self, Key};
use super::{Loaded, load};
use preloop_parsers::Parser;
use preloop_parsers::maps::{MAX_MAP_BYTES, Map, MapDef, MapKind};
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, process};
use preloop_uapi::bpf::{EYECATCHER, KIND_MAP, KIND_PROGRAM, StandIn, map_flag};
use std::sync::Arc;

/// Sealed in every way that says something of contents.
const SEALS: i32 = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
/// The number of a map, in a program's stand-in: tag and number.
const KEY_BYTES: usize = 16;
const TAG_STAND_IN: u64 = 0;
const TAG_KERNEL: u64 = 1;
/// A program's stand-in may be so long: values of its maps, and what they and instructions take beside.
const MOST_BYTES: u64 = 2 * MAX_MAP_BYTES;

/// What a stand-in stands for.
#[derive(Debug)]
pub(super) enum Found {
    Program(Program),
    Map(StandIn),
}

/// A program, as it stands in its stand-in.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) header: StandIn,
    fd: Fd,
}

/// What `fd` stands for; `None` when it is no stand-in.
///
/// # Errors
/// EBADF when it is not open.
pub(super) fn find(fd: Fd) -> Result<Option<Found>, Errno> {
    match call::seals(fd) {
        Ok(seals) if seals & SEALS == SEALS => {}
        Err(Errno::EBADF) => return Err(Errno::EBADF),
        _ => return Ok(None),
    }
    let mut bytes = [0; StandIn::SIZE];
    if call::pread(fd, &mut bytes, 0) != Ok(bytes.len()) {
        return Ok(None);
    }
    let header = StandIn::from_bytes(&bytes);
    Ok(match header.kind {
        _ if header.eyecatcher != EYECATCHER => None,
        KIND_PROGRAM => Some(Found::Program(Program { header, fd })),
        KIND_MAP => Some(Found::Map(header)),
        _ => None,
    })
}

/// A new stand-in for a map; its header is complete but for its number.
///
/// # Errors
/// Those of `memfd_create(2)`: EMFILE, ENFILE, ENOMEM.
pub(super) fn make_map(header: StandIn, map: Map) -> Result<Fd, Errno> {
    let header = StandIn { eyecatcher: EYECATCHER, id: process::random(), kind: KIND_MAP, ..header };
    let fd = make(c"bpf-map", &[&header.to_bytes()])?;
    table::enter(Key::StandIn(header.id), map, header.map_flags);
    Ok(fd)
}

/// A new stand-in for a program whose maps have the numbers `keys`.
///
/// # Errors
/// As [`make_map`].
pub(super) fn make_program(header: StandIn, keys: &[Key], parser: &Parser) -> Result<Fd, Errno> {
    let detail = keys.len() as u32;
    let header = StandIn { eyecatcher: EYECATCHER, id: process::random(), kind: KIND_PROGRAM, detail, ..header };
    let keys: Vec<u8> = keys.iter().flat_map(|key| key_bytes(*key)).collect();
    make(c"bpf-prog", &[&header.to_bytes(), &keys, &parser.to_bytes()])
}

fn make(name: &core::ffi::CStr, parts: &[&[u8]]) -> Result<Fd, Errno> {
    let memfd = Inner::from_raw(call::memfd(name)?);
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let written = call::write(memfd.fd(), rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
    call::seal(memfd.fd(), SEALS)?;
    Ok(memfd.into_raw())
}

fn key_bytes(key: Key) -> [u8; KEY_BYTES] {
    let (tag, number) = match key {
        Key::StandIn(id) => (TAG_STAND_IN, id),
        Key::Kernel(id) => (TAG_KERNEL, u64::from(id)),
    };
    let mut bytes = [0; KEY_BYTES];
    bytes[..8].copy_from_slice(&tag.to_ne_bytes());
    bytes[8..].copy_from_slice(&number.to_ne_bytes());
    bytes
}

fn key(bytes: &[u8; KEY_BYTES]) -> Option<Key> {
    let (tag, number) = bytes.split_first_chunk::<8>()?;
    let number = u64::from_ne_bytes(number.try_into().ok()?);
    match u64::from_ne_bytes(*tag) {
        TAG_STAND_IN => Some(Key::StandIn(number)),
        TAG_KERNEL => Some(Key::Kernel(u32::try_from(number).ok()?)),
        _ => None,
    }
}

/// Kind and sizes of a map; `None` when they are none that maps have.
pub(super) fn def(header: &StandIn) -> Option<MapDef> {
    Some(MapDef {
        kind: MapKind::from_number(header.detail)?,
        key_size: header.key_size,
        value_size: header.value_size,
        max_entries: header.max_entries,
        read_only: header.map_flags & map_flag::RDONLY_PROG != 0,
    })
}

/// The map of a stand-in: this process's, or a new one where it has none yet.
///
/// # Errors
/// EINVAL when there can be no such map.
pub(super) fn map(header: &StandIn) -> Result<Arc<table::Known>, Errno> {
    let key = Key::StandIn(header.id);
    table::find_or_make(key, || {
        let map = def(header).and_then(|def| Map::new(def).ok()).ok_or(Errno::EINVAL)?;
        Ok((map, header.map_flags))
    })
}

impl Program {
    /// The numbers of its maps.
    pub(super) fn keys(&self) -> Result<Vec<Key>, Errno> {
        /// `MAX_USED_MAPS`.
        const MOST: u32 = 64;
        if self.header.detail > MOST {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; self.header.detail as usize * KEY_BYTES];
        if call::pread(self.fd, &mut bytes, StandIn::SIZE as u64) != Ok(bytes.len()) {
            return Err(Errno::EINVAL);
        }
        bytes.as_chunks().0.iter().map(|bytes| key(bytes).ok_or(Errno::EINVAL)).collect()
    }

    fn parser(&self) -> Result<Parser, Errno> {
        let start = StandIn::SIZE as u64 + u64::from(self.header.detail) * KEY_BYTES as u64;
        let mut bytes = Vec::new();
        loop {
            let have = bytes.len();
            bytes.resize(have + (64 << 10), 0);
            let read = call::pread(self.fd, &mut bytes[have..], start + have as u64)?;
            bytes.truncate(have + read);
            if read == 0 {
                return Parser::from_bytes(&bytes).map_err(|_| Errno::EINVAL);
            }
            if bytes.len() as u64 > MOST_BYTES {
                return Err(Errno::EINVAL);
            }
        }
    }

    /// Loads it, with this process's maps where it has them; others begin with what they held when it was loaded first.
    ///
    /// # Errors
    /// EINVAL when it is none after all.
    pub(super) fn load(&self) -> Result<Loaded, Errno> {
        let (keys, parser) = (self.keys()?, self.parser()?);
        if keys.len() != parser.maps.len() {
            return Err(Errno::EINVAL);
        }
        let maps = keys.iter().zip(&parser.maps).map(|(key, map)| {
            let flags = if map.def.read_only { map_flag::RDONLY_PROG } else { 0 };
            table::find_or_make(*key, || {
                let made = Map::new(map.def).and_then(|made| made.fill(&map.data).map(|()| made));
                Ok((made.map_err(Errno::new)?, flags))
            })
        });
        let maps = maps.collect::<Result<Vec<_>, _>>()?;
        load::evaluable(parser, &maps)
    }
}
