//! The element commands, on stand-ins and on maps of the kernel's that have a twin. Order and error numbers follow
//! `map_lookup_elem` and its siblings of Linux 6.1.

use super::Answer;
use super::attr::{self, Call};
use super::standin::{self, Found};
use super::table::{self, Known};
use core::mem::offset_of;
use preloop_parsers::maps::{MapDef, MapKind};
use preloop_sys::{Errno, Fd};
use preloop_uapi::bpf::{Elem, cmd};
use std::sync::Arc;

/// `BPF_F_LOCK`, for values with a spin lock in them, which no map here has.
const LOCK: u64 = 4;
/// The kernel's own `ENOTSUPP`, which has no name outside.
const ENOTSUPP: i32 = 524;

enum Target {
    StandIn(Arc<Known>),
    Twin(Arc<Known>),
    Kernel,
}

fn target(fd: Option<Fd>) -> Result<Target, Errno> {
    let Some(fd) = fd else { return Ok(Target::Kernel) };
    Ok(match standin::find(fd) {
        Ok(Some(Found::Map(header))) => Target::StandIn(standin::map(&header)?),
        Ok(Some(Found::Program(_))) | Err(_) => Target::Kernel,
        Ok(None) => table::twin(fd).map_or(Target::Kernel, Target::Twin),
    })
}

/// One of the element commands, or `BPF_MAP_FREEZE`.
pub(super) fn element(command: i32, call: &Call<'_>) -> Answer {
    let known = match target(call.first())? {
        Target::Kernel => return (call.kernel)(),
        Target::StandIn(known) => known,
        Target::Twin(known) => {
            let reads = matches!(command, cmd::MAP_LOOKUP_ELEM | cmd::MAP_GET_NEXT_KEY);
            // Whether the program may change the kernel's map, the kernel knows. What is in it, the twin does.
            if !reads && let Err(error @ (Errno::EPERM | Errno::EBUSY)) = (call.kernel)() {
                return Err(error);
            }
            known
        }
    };
    let attributes = call.attributes()?;
    attr::ends_at(&attributes, end(command))?;
    let elem = Elem::from_bytes(&attributes);
    let request = Request { call, known: &known, def: known.map.def(), elem };
    let answer = match command {
        cmd::MAP_LOOKUP_ELEM => request.lookup(),
        cmd::MAP_UPDATE_ELEM => request.update(),
        cmd::MAP_DELETE_ELEM => request.delete(),
        cmd::MAP_GET_NEXT_KEY => request.next_key(),
        cmd::MAP_LOOKUP_AND_DELETE_ELEM => request.lookup_and_delete(),
        _ => request.freeze(),
    };
    answer.map(|()| 0)
}

/// Commands for many elements at a time: maps that are this process's own do not have them.
pub(super) fn batch(call: &Call<'_>) -> Answer {
    /// Where they have the map's descriptor.
    const MAP_FD: u64 = 36;
    let mut fd = [0; 4];
    let read = call.size > MAP_FD as u32 && call.memory.read(call.at.wrapping_add(MAP_FD), &mut fd).is_ok();
    match target(read.then(|| i32::from_ne_bytes(fd)))? {
        Target::Kernel => (call.kernel)(),
        _ => Err(Errno::EINVAL),
    }
}

/// Where the command's last member ends.
fn end(command: i32) -> usize {
    match command {
        cmd::MAP_FREEZE => offset_of!(Elem, hole),
        cmd::MAP_DELETE_ELEM => offset_of!(Elem, value),
        cmd::MAP_GET_NEXT_KEY => offset_of!(Elem, flags),
        _ => Elem::SIZE,
    }
}

struct Request<'a> {
    call: &'a Call<'a>,
    known: &'a Known,
    def: MapDef,
    elem: Elem,
}

impl Request<'_> {
    fn readable(&self) -> Result<(), Errno> {
        if self.known.is_readable() { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn writable(&self) -> Result<(), Errno> {
        if self.known.is_writable() { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn unlocked(&self) -> Result<(), Errno> {
        if self.elem.flags & LOCK == 0 { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn read(&self, at: u64, len: u32) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; len as usize];
        self.call.memory.read(at, &mut bytes)?;
        Ok(bytes)
    }

    fn key(&self) -> Result<Vec<u8>, Errno> {
        self.read(self.elem.key, self.def.key_size)
    }

    fn value_of(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut value = vec![0; self.def.value_size as usize];
        self.known.map.get(key, &mut value).map_err(Errno::new)?;
        Ok(value)
    }

    fn lookup(&self) -> Result<(), Errno> {
        if self.elem.flags & !LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.readable()?;
        self.unlocked()?;
        let value = self.value_of(&self.key()?)?;
        self.call.memory.write(self.elem.value, &value)
    }

    fn update(&self) -> Result<(), Errno> {
        self.writable()?;
        self.unlocked()?;
        let key = self.key()?;
        let value = self.read(self.elem.value, self.def.value_size)?;
        self.known.map.update(&key, &value, self.elem.flags).map_err(Errno::new)
    }

    fn delete(&self) -> Result<(), Errno> {
        self.writable()?;
        self.known.map.delete(&self.key()?).map_err(Errno::new)
    }

    fn next_key(&self) -> Result<(), Errno> {
        self.readable()?;
        let key = if self.elem.key == 0 { None } else { Some(self.key()?) };
        let next = self.known.map.next_key(key.as_deref()).map_err(Errno::new)?;
        self.call.memory.write(self.elem.value, &next)
    }

    fn lookup_and_delete(&self) -> Result<(), Errno> {
        if self.elem.flags & !LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.readable()?;
        self.writable()?;
        if self.elem.flags != 0 && self.def.kind == MapKind::Array {
            return Err(Errno::EINVAL);
        }
        self.unlocked()?;
        let key = self.key()?;
        if self.def.kind == MapKind::Array {
            return Err(Errno::new(ENOTSUPP));
        }
        let value = self.value_of(&key)?;
        self.known.map.delete(&key).map_err(Errno::new)?;
        self.call.memory.write(self.elem.value, &value)
    }

    fn freeze(&self) -> Result<(), Errno> {
        self.writable()?;
        self.known.freeze();
        Ok(())
    }
}
