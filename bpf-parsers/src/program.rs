//! Loading and running programs.

use std::sync::Arc;

use crate::check::{self, Rejected};
use crate::decode::{self, MapNumbers, Step};
use crate::errno::{E2BIG, EBADF, EINVAL, ENOTSUPP};
use crate::eval::{self, Fault, MAX_FRAMES};
use crate::flow;
use crate::insn::{Insn, pseudo};
use crate::maps::{Map, MapKind};
use crate::memory::Memory;
use crate::packet::Packet;
use crate::skb::Fields;
use crate::spec::Spec;

/// The most maps of one program (`MAX_USED_MAPS`).
const MAX_MAPS: usize = 64;

/// How an instruction names a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapRef {
    /// By a map's file descriptor.
    Fd(i32),
    /// By an index into the loader's table of maps.
    Index(i32),
}

/// A program that was checked and can run.
#[derive(Debug)]
pub struct Program {
    steps: Box<[Step]>,
    maps: Box<[Arc<Map>]>,
    frames: Frames,
    reads_fields: bool,
    /// The spec whose program it is.
    spec: Option<Spec>,
}

/// What a run needs of stack.
#[derive(Debug)]
enum Frames {
    None,
    One,
    Nested,
}

impl Program {
    /// Checks and translates a program; `map` says what its map references mean.
    ///
    /// # Errors
    /// The number and the words that `bpf(BPF_PROG_LOAD)` has for a socket filter that its verifier rejects: `EINVAL`
    /// for malformed ones, `EACCES` for accesses that are never allowed, `E2BIG` for too long ones, `EBADF` for maps
    /// that are none, `ENOTSUPP` for addresses in arrays of several elements.
    pub fn load(insns: &[Insn], mut map: impl FnMut(MapRef) -> Option<Arc<Map>>) -> Result<Self, Rejected> {
        let functions = check::shape(insns)?;
        let mut maps: Vec<Arc<Map>> = Vec::new();
        let mut numbers = MapNumbers::new();
        for (at, pair) in insns.windows(2).enumerate() {
            if let [insn, second] = pair
                && insn.is_wide()
                && insn.src != 0
            {
                let found = resolve(at, *insn, *second, &mut map)?;
                let known = maps.iter().position(|other| Arc::ptr_eq(other, &found));
                let number = known.unwrap_or(maps.len());
                if known.is_none() {
                    maps.push(found);
                }
                if maps.len() > MAX_MAPS {
                    return Err(Rejected::at(at, E2BIG, format_args!("a program uses at most {MAX_MAPS} maps")));
                }
                numbers.insert(at, number as u32);
            }
        }
        let reads_fields = flow::check(insns, &functions, &maps, &numbers)?;
        let steps = decode::decode(insns, &functions, &numbers)
            .ok_or_else(|| Rejected::new(EINVAL, "the program cannot be decoded"))?;
        let frames = match functions.len() {
            1 if !flow::uses_stack(insns) => Frames::None,
            1 => Frames::One,
            _ => Frames::Nested,
        };
        Ok(Self { steps, maps: maps.into(), frames, reads_fields, spec: Spec::of(insns) })
    }

    /// Runs the program over `packet`; R0, cut to 32 bits as the kernel does.
    ///
    /// # Errors
    /// [`Fault`], where the program did what the kernel's verifier would not have let it do.
    #[inline]
    pub fn run<P: Packet + ?Sized>(&self, packet: &P, fields: &Fields) -> Result<u32, Fault> {
        if let Some(spec) = &self.spec {
            return Ok(spec.run(packet));
        }
        self.interpret(packet, fields)
    }

    /// The spec that this is the program of: it answers the same, and sooner.
    pub fn spec(&self) -> Option<Spec> {
        self.spec
    }

    /// As [`Program::run`], whatever the program is.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn interpret<P: Packet + ?Sized>(&self, packet: &P, fields: &Fields) -> Result<u32, Fault> {
        let r0 = match self.frames {
            Frames::None => eval::run(&self.steps, Memory::<P, 0>::new(packet, fields, &self.maps)),
            Frames::One => eval::run(&self.steps, Memory::<P, 1>::new(packet, fields, &self.maps)),
            Frames::Nested => eval::run(&self.steps, Memory::<P, MAX_FRAMES>::new(packet, fields, &self.maps)),
        };
        Ok(r0? as u32)
    }

    /// Whether a run may look at its [`Fields`]. Where not, their values make no difference.
    pub fn reads_fields(&self) -> bool {
        self.reads_fields
    }

    /// The maps that the program refers to, in the order of its references.
    pub fn maps(&self) -> &[Arc<Map>] {
        &self.maps
    }
}

fn resolve(
    at: usize,
    insn: Insn,
    second: Insn,
    map: &mut impl FnMut(MapRef) -> Option<Arc<Map>>,
) -> Result<Arc<Map>, Rejected> {
    let reference = match insn.src {
        pseudo::MAP_FD | pseudo::MAP_VALUE => MapRef::Fd(insn.imm),
        pseudo::MAP_IDX | pseudo::MAP_IDX_VALUE => MapRef::Index(insn.imm),
        _ => return Err(Rejected::at(at, EINVAL, "unrecognized bpf_ld_imm64 insn")),
    };
    let value = matches!(insn.src, pseudo::MAP_VALUE | pseudo::MAP_IDX_VALUE);
    if !value && second.imm != 0 {
        return Err(Rejected::at(at, EINVAL, "unrecognized bpf_ld_imm64 insn"));
    }
    let log = format_args!("fd {} is not pointing to valid bpf_map", insn.imm).to_string();
    let map = map(reference).ok_or_else(|| Rejected::at(at, EBADF, log))?;
    let def = map.def();
    if value && def.kind != MapKind::Array {
        return Err(Rejected::at(at, EINVAL, "no direct value access support for this map type"));
    }
    if value && (def.max_entries != 1 || !(0..i64::from(def.value_size)).contains(&i64::from(second.imm))) {
        let errno = if def.max_entries == 1 { EINVAL } else { ENOTSUPP };
        let log = format_args!(
            "invalid access to map value pointer, value_size={} off={}",
            def.value_size, second.imm as u32
        )
        .to_string();
        return Err(Rejected::at(at, errno, log));
    }
    Ok(map)
}
