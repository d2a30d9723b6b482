//! `BPF_PROG_LOAD`. Order and error numbers of what is done without the kernel follow `bpf_prog_load` and `bpf_check` of
//! Linux 6.1, the log's those of 6.4.

use super::attr::{self, Call};
use super::log::Log;
use super::table::{Key, Known};
use super::{Answer, Loaded, kernel, standin};
use core::mem::offset_of;
use preloop_parsers::insn::{INSN_BYTES, Insn, pseudo};
use preloop_parsers::maps::{MAX_MAP_BYTES, Map};
use preloop_parsers::{MAX_INSNS, MapRef, Parser, ParserMap, Program, Rejected};
use preloop_sys::{Errno, process};
use preloop_uapi::bpf::{NAME_LEN, PROG_FLAGS, ProgLoad, SOCKET_FILTER, StandIn};
use std::sync::Arc;

/// The kernel's `EPROTO`: an index of a descriptor, and no array of them.
const NO_ARRAY: Errno = Errno::EPROTO;
/// Licences that count as GPL (`license_is_gpl_compatible`).
const GPL: [&[u8]; 6] =
    [b"GPL", b"GPL v2", b"GPL and additional rights", b"Dual BSD/GPL", b"Dual MIT/GPL", b"Dual MPL/GPL"];

/// Loads a program: the kernel, or this process for what the kernel refuses for want of privileges, of `bpf(2)`, or
/// because a map is a stand-in.
pub(super) fn load(call: &Call<'_>) -> Answer {
    let refused = match (call.kernel)() {
        Ok(fd) => {
            kernel::loaded(fd as i32, call);
            return Ok(fd);
        }
        Err(refused) => refused,
    };
    let request = match refused {
        Errno::EPERM | Errno::ENOSYS => Request::read(call)?,
        Errno::EINVAL => Request::read(call).ok().filter(Request::names_a_stand_in).ok_or(refused)?,
        _ => return Err(refused),
    };
    if request.attr.prog_type != SOCKET_FILTER {
        return Err(refused);
    }
    let header = request.check()?;
    let insns = request.insns()?;
    let name = attr::name(request.attr.prog_name)?;
    let log = Log::new(&request.attr)?;
    let (text, checked) = match check(&insns, &request) {
        Ok((keys, parser)) => (format!("processed {} insns\n", insns.len()), Ok((keys, parser))),
        Err(rejected) => (rejected.log, Err(Errno::new(rejected.errno))),
    };
    let (true_size, stored) = log.store(&text, call.memory);
    if call.size as usize >= ProgLoad::SIZE {
        let at = call.at.wrapping_add(offset_of!(ProgLoad, log_true_size) as u64);
        call.memory.write(at, &true_size.to_ne_bytes())?;
    }
    stored?;
    let (keys, parser) = checked?;
    let parser = Parser { name: text_of(name), ..parser };
    standin::make_program(StandIn { name, ..header }, &keys, &parser).map(|fd| fd as usize)
}

pub(super) fn text_of(name: [u8; NAME_LEN]) -> String {
    name.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

/// What a program asks to be loaded.
pub(super) struct Request<'a> {
    call: &'a Call<'a>,
    pub(super) attr: ProgLoad,
}

impl<'a> Request<'a> {
    pub(super) fn read(call: &'a Call<'a>) -> Result<Self, Errno> {
        Ok(Self { call, attr: ProgLoad::from_bytes(&call.attributes()?) })
    }

    /// What does not depend on the instructions.
    fn check(&self) -> Result<StandIn, Errno> {
        /// Bytes of a licence that the kernel looks at.
        const LICENCE: usize = 127;
        let attr = &self.attr;
        if attr.prog_flags & !PROG_FLAGS != 0 {
            return Err(Errno::EINVAL);
        }
        let licence = self.call.memory.read_string(attr.license, LICENCE)?;
        if attr.insn_cnt == 0 || attr.insn_cnt as usize > MAX_INSNS {
            return Err(Errno::E2BIG);
        }
        // Of other types of programs; or information about types, which goes with BTF, for which one needs privileges.
        let foreign = attr.prog_ifindex | attr.attach_btf_id | attr.attach_prog_fd;
        if foreign | attr.func_info_cnt | attr.line_info_cnt | attr.core_relo_cnt != 0 {
            return Err(Errno::EINVAL);
        }
        let gpl_compatible = u32::from(GPL.contains(&&licence[..]));
        Ok(StandIn { uid: process::euid(), gpl_compatible, ..StandIn::default() })
    }

    /// The instructions.
    ///
    /// # Errors
    /// E2BIG for more than are ever evaluated; EFAULT.
    pub(super) fn insns(&self) -> Result<Vec<Insn>, Errno> {
        let count = self.attr.insn_cnt as usize;
        if count > MAX_INSNS {
            return Err(Errno::E2BIG);
        }
        let mut bytes = vec![0; count * INSN_BYTES];
        self.call.memory.read(self.attr.insns, &mut bytes)?;
        Insn::decode(&bytes).ok_or(Errno::EINVAL)
    }

    /// The descriptor that a reference to a map means.
    ///
    /// # Errors
    /// EPROTO and EFAULT for an index where there is no descriptor.
    pub(super) fn map_fd(&self, reference: MapRef) -> Result<i32, Errno> {
        let index = match reference {
            MapRef::Fd(fd) => return Ok(fd),
            MapRef::Index(_) if self.attr.fd_array == 0 => return Err(NO_ARRAY),
            MapRef::Index(index) => index,
        };
        let mut fd = [0; 4];
        let at = self.attr.fd_array.wrapping_add_signed(i64::from(index) * 4);
        self.call.memory.read(at, &mut fd)?;
        Ok(i32::from_ne_bytes(fd))
    }

    fn names_a_stand_in(&self) -> bool {
        let is_stand_in = |fd| matches!(standin::find(fd), Ok(Some(standin::Found::Map(_))));
        let mut insns = self.insns().unwrap_or_default();
        references(&mut insns).any(|(_, reference)| self.map_fd(reference).is_ok_and(is_stand_in))
    }
}

/// Every reference to a map, with the instruction that it is in.
pub(super) fn references(insns: &mut [Insn]) -> impl Iterator<Item = (&mut Insn, MapRef)> {
    insns.iter_mut().filter(|insn| insn.is_wide()).filter_map(|insn| {
        let reference = match insn.src {
            pseudo::MAP_FD | pseudo::MAP_VALUE => MapRef::Fd(insn.imm),
            pseudo::MAP_IDX | pseudo::MAP_IDX_VALUE => MapRef::Index(insn.imm),
            _ => return None,
        };
        Some((insn, reference))
    })
}

/// The verifier's part: what the program will be known as.
fn check(insns: &[Insn], request: &Request<'_>) -> Result<(Vec<Key>, Parser), Rejected> {
    let mut used: Vec<(MapRef, Key, Arc<Known>)> = Vec::new();
    let mut wrong = None;
    let checked = Program::load(insns, |reference| {
        if let Some((.., known)) = used.iter().find(|(other, ..)| *other == reference) {
            return Some(Arc::clone(&known.map));
        }
        match request.map_fd(reference).and_then(kernel::map) {
            Ok((key, known)) => {
                used.push((reference, key, Arc::clone(&known)));
                Some(Arc::clone(&known.map))
            }
            Err(error) => {
                wrong = Some(error.into_raw());
                None
            }
        }
    });
    // The verifier says EBADF of what is no map; the kernel, EINVAL where the descriptor is of something else.
    checked.map_err(|rejected| Rejected { errno: wrong.unwrap_or(rejected.errno), ..rejected })?;
    let mut insns = insns.to_vec();
    for (insn, reference) in references(&mut insns) {
        insn.imm = used.iter().position(|(other, ..)| *other == reference).unwrap_or_default() as i32;
    }
    let bytes = used.iter().fold(0u64, |sum, (.., known)| sum.saturating_add(known.map.def().bytes()));
    if bytes > MAX_MAP_BYTES {
        let log = format!("the maps take {bytes} bytes, more than {MAX_MAP_BYTES}\n");
        return Err(Rejected { errno: Errno::E2BIG.into_raw(), log });
    }
    let maps = used.iter().map(|(.., known)| contents(&known.map)).collect();
    let keys = used.iter().map(|(_, key, _)| *key).collect();
    Ok((keys, Parser { name: String::new(), insns, maps }))
}

fn contents(map: &Map) -> ParserMap {
    ParserMap { def: map.def(), data: map.contents() }
}

/// A parser with the maps that it is to have.
///
/// # Errors
/// EINVAL where it cannot be evaluated; a debug line says why.
pub(super) fn evaluable(parser: Parser, maps: &[Arc<Known>]) -> Result<Loaded, Errno> {
    let program = Program::load(&parser.insns, |reference| {
        let (MapRef::Fd(index) | MapRef::Index(index)) = reference;
        maps.get(usize::try_from(index).ok()?).map(|known| Arc::clone(&known.map))
    });
    let program = program.map_err(|rejected| {
        crate::log::debug_kcm(format_args!("bpf program {}: {rejected}", parser.name));
        Errno::EINVAL
    })?;
    let maps = maps.iter().map(|known| contents(&known.map)).collect();
    Ok(Loaded::new(program, &Parser { maps, ..parser }))
}
