//! What registers hold, as far as that is certain before a run.
//!
//! For every instruction the kinds of all registers are joined over all ways to it. What is wrong on every way is
//! refused here, with the words of the kernel's verifier; what may be right is left to the bounds checks of the run.
//! The kernel refuses more: it follows each way by itself, and values within bounds. It takes nothing that this
//! refuses, except with privileges.

use std::sync::Arc;

use crate::check::{FRAME_POINTER, Functions, Rejected, successors, writes_dst};
use crate::decode::MapNumbers;
use crate::errno::{EACCES, EINVAL};
use crate::helpers::Helper;
use crate::insn::{Insn, alu, atomic, class, jmp, mode, pseudo};
use crate::maps::Map;
use crate::memory::STACK_BYTES;
use crate::skb;

/// What a register holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Nothing was ever written to it.
    Nothing,
    Number,
    /// The context; like the other pointers with an offset, if known.
    Context(Option<i64>),
    /// The function's own stack, from its end.
    Stack(Option<i64>),
    /// A map, by its number.
    Handle(u32),
    /// A value of a map.
    Value(u32, Option<i64>),
    /// What a look-up at that instruction gave, before it was compared with null.
    ValueOrNull(u32, usize),
    /// It cannot be told.
    Any,
}

impl Kind {
    fn is_pointer(self) -> bool {
        !matches!(self, Self::Nothing | Self::Number | Self::Any)
    }

    fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Context(_), Self::Context(_)) => Self::Context(None),
            (Self::Stack(_), Self::Stack(_)) => Self::Stack(None),
            (Self::Value(a, _), Self::Value(b, _)) if a == b => Self::Value(a, None),
            _ => Self::Any,
        }
    }

    /// Moved by a distance, if known.
    fn moved(self, by: Option<i64>) -> Self {
        let to = |offset: Option<i64>| Some(offset?.saturating_add(by?));
        match self {
            Self::Context(offset) => Self::Context(to(offset)),
            Self::Stack(offset) => Self::Stack(to(offset)),
            Self::Value(map, offset) => Self::Value(map, to(offset)),
            other => other,
        }
    }

    /// The verifier's word for it.
    fn name(self) -> &'static str {
        match self {
            Self::Nothing | Self::Any => "?",
            Self::Number => "scalar",
            Self::Context(_) => "ctx",
            Self::Stack(_) => "fp",
            Self::Handle(_) => "map_ptr",
            Self::Value(..) => "map_value",
            Self::ValueOrNull(..) => "map_value_or_null",
        }
    }
}

type Registers = [Kind; FRAME_POINTER as usize + 1];

/// Refuses what is certainly wrong. Of others it says whether they may read [`Fields`](skb::Fields).
pub(crate) fn check(
    insns: &[Insn],
    functions: &Functions,
    maps: &[Arc<Map>],
    numbers: &MapNumbers,
) -> Result<bool, Rejected> {
    let flow = Flow { insns, main_end: functions.get(1).copied().unwrap_or(insns.len()), maps, numbers };
    let mut reads_fields = false;
    for (at, registers) in flow.solve(functions).iter().enumerate() {
        if let (Some(registers), Some(insn)) = (registers, insns.get(at)) {
            flow.check_insn(at, *insn, registers)?;
            reads_fields |= may_read_field(*insn, registers);
        }
    }
    Ok(reads_fields)
}

/// Where a load loads from.
fn source(insn: Insn, registers: &Registers) -> Kind {
    registers[usize::from(insn.src)].moved(Some(insn.off.into()))
}

fn may_read_field(insn: Insn, registers: &Registers) -> bool {
    let is_field = |offset| u32::try_from(offset).is_ok_and(skb::is_field);
    insn.class() == class::LDX
        && match source(insn, registers) {
            Kind::Context(offset) => offset.is_none_or(is_field),
            Kind::Any => true,
            _ => false,
        }
}

/// Whether the program has any use for the frame pointer.
pub(crate) fn uses_stack(insns: &[Insn]) -> bool {
    insns.iter().any(|insn| insn.src == FRAME_POINTER || insn.dst == FRAME_POINTER)
}

struct Flow<'a> {
    insns: &'a [Insn],
    main_end: usize,
    maps: &'a [Arc<Map>],
    numbers: &'a MapNumbers,
}

impl Flow<'_> {
    /// The registers before each instruction. A register's kind changes three times at most, so this ends.
    fn solve(&self, functions: &Functions) -> Vec<Option<Registers>> {
        let mut before: Vec<Option<Registers>> = vec![None; self.insns.len()];
        let mut open = Vec::new();
        for start in functions {
            let mut registers = [Kind::Nothing; FRAME_POINTER as usize + 1];
            registers[1] = Kind::Context(Some(0));
            if *start != 0 {
                registers[1..=5].fill(Kind::Any);
            }
            registers[FRAME_POINTER as usize] = Kind::Stack(Some(0));
            before[*start] = Some(registers);
            open.push(*start);
        }
        while let Some(at) = open.pop() {
            let (Some(Some(registers)), Some(insn)) = (before.get(at).copied(), self.insns.get(at)) else { continue };
            let after = self.step(at, *insn, &registers);
            let (next, jump) = successors(at, *insn);
            let jump = jump.and_then(|to| usize::try_from(to).ok());
            for (to, taken) in [(next, false), (jump, true)] {
                let Some((to, slot)) = to.and_then(|to| Some((to, before.get_mut(to)?))) else { continue };
                let arriving = refine(*insn, taken, after);
                let joined = slot.map_or(arriving, |known| std::array::from_fn(|i| known[i].join(arriving[i])));
                if *slot != Some(joined) {
                    *slot = Some(joined);
                    open.push(to);
                }
            }
        }
        before
    }

    /// The registers after an instruction.
    fn step(&self, at: usize, insn: Insn, before: &Registers) -> Registers {
        let mut after = *before;
        let dst = usize::from(insn.dst);
        match (insn.class(), insn.op()) {
            (class::JMP, jmp::CALL) => {
                after[0] = match (insn.src, before[1]) {
                    (pseudo::CALL, _) => Kind::Any,
                    (_, Kind::Handle(map)) if Helper::from_number(insn.imm) == Some(Helper::MapLookup) => {
                        Kind::ValueOrNull(map, at)
                    }
                    _ if Helper::from_number(insn.imm) == Some(Helper::MapLookup) => Kind::Any,
                    _ => Kind::Number,
                };
                after[1..=5].fill(Kind::Nothing);
            }
            (class::JMP | class::JMP32, _) => {}
            (class::LD, _) if insn.is_wide() => after[dst] = self.wide(at, insn),
            (class::LD, _) => {
                after[0] = Kind::Number;
                after[1..=5].fill(Kind::Nothing);
            }
            // A pointer that was put by on the stack may come back, and one of the context's fields is a pointer.
            (class::LDX, _) => {
                let number = match source(insn, before) {
                    Kind::Context(Some(offset)) => {
                        !u32::try_from(offset).is_ok_and(|offset| skb::is_address(offset, insn.width()))
                    }
                    Kind::Value(..) => true,
                    _ => insn.width() < 8,
                };
                after[dst] = if number { Kind::Number } else { Kind::Any };
            }
            (class::STX, _) if insn.mode() == mode::ATOMIC && insn.imm & atomic::FETCH != 0 => {
                after[if insn.imm == atomic::CMPXCHG { 0 } else { usize::from(insn.src) }] = Kind::Any;
            }
            _ if writes_dst(insn) => after[dst] = result(insn, before),
            _ => {}
        }
        after
    }

    fn wide(&self, at: usize, insn: Insn) -> Kind {
        match (self.numbers.get(&at).copied(), insn.src) {
            (Some(map), pseudo::MAP_FD | pseudo::MAP_IDX) => Kind::Handle(map),
            (Some(map), _) => Kind::Value(map, self.insns.get(at + 1).map(|second| i64::from(second.imm))),
            _ => Kind::Number,
        }
    }

    fn check_insn(&self, at: usize, insn: Insn, registers: &Registers) -> Result<(), Rejected> {
        let denied = |log: String| Err(Rejected::at(at, EACCES, log));
        let src = registers[usize::from(insn.src).min(FRAME_POINTER.into())];
        for reg in reads(insn, at < self.main_end) {
            if registers[usize::from(reg)] == Kind::Nothing {
                return denied(format!("R{reg} !read_ok"));
            }
        }
        match insn.class() {
            class::ALU | class::ALU64 => check_arithmetic(at, insn, registers),
            class::LDX => self.check_access(at, insn, insn.src, registers, false),
            class::ST => self.check_access(at, insn, insn.dst, registers, true),
            class::STX => {
                let target = registers[usize::from(insn.dst)];
                let shared = matches!(target, Kind::Context(_) | Kind::Value(..));
                if src.is_pointer() && (shared || insn.mode() == mode::ATOMIC) {
                    return denied(format!("R{} leaks addr into {}", insn.src, target.name()));
                }
                if insn.mode() == mode::ATOMIC && matches!(target, Kind::Context(_)) {
                    return denied(format!("BPF_ATOMIC stores into R{} ctx is not allowed", insn.dst));
                }
                self.check_access(at, insn, insn.dst, registers, true)
            }
            class::LD if !insn.is_wide() => match registers[6] {
                Kind::Context(Some(0)) | Kind::Any => Ok(()),
                _ => Err(Rejected::at(at, EINVAL, "at the time of BPF_LD_ABS|IND R6 != pointer to skb")),
            },
            class::JMP if insn.op() == jmp::CALL && insn.src != pseudo::CALL => check_call(at, insn, registers),
            class::JMP if insn.op() == jmp::EXIT && at < self.main_end && registers[0].is_pointer() => {
                denied("R0 leaks addr as return value".into())
            }
            _ => Ok(()),
        }
    }

    /// An access through register `reg`.
    fn check_access(&self, at: usize, insn: Insn, reg: u8, registers: &Registers, write: bool) -> Result<(), Rejected> {
        let denied = |log: String| Err(Rejected::at(at, EACCES, log));
        let (width, kind) = (i64::from(insn.width()), registers[usize::from(reg)].moved(Some(insn.off.into())));
        match kind {
            Kind::Nothing | Kind::Any => Ok(()),
            Kind::Context(Some(off)) => match u32::try_from(off) {
                Ok(offset) if skb::may_access(offset, insn.width(), write) => Ok(()),
                _ => denied(format!("invalid bpf_context access off={off} size={width}")),
            },
            Kind::Stack(Some(off)) if off < -i64::from(STACK_BYTES) || off + width > 0 => {
                let what = if write { "write to" } else { "read from" };
                denied(format!("invalid {what} stack R{reg} off={off} size={width}"))
            }
            Kind::Value(map, off) => {
                let Some(def) = self.maps.get(map as usize).map(|map| map.def()) else { return Ok(()) };
                if write && def.read_only {
                    return denied(format!("write into map forbidden, value_size={}", def.value_size));
                }
                match off {
                    Some(off) if off < 0 || off + width > i64::from(def.value_size) => denied(format!(
                        "invalid access to map value, value_size={} off={off} size={width}",
                        def.value_size
                    )),
                    _ => Ok(()),
                }
            }
            Kind::Context(None) | Kind::Stack(_) => Ok(()),
            Kind::Number | Kind::Handle(_) | Kind::ValueOrNull(..) => {
                denied(format!("R{reg} invalid mem access '{}'", kind.name()))
            }
        }
    }
}

/// After a comparison with null a look-up's result is a value, or a number.
fn refine(insn: Insn, taken: bool, mut registers: Registers) -> Registers {
    let compares = insn.class() == class::JMP && !insn.is_reg() && insn.imm == 0;
    if !compares || !matches!(insn.op(), jmp::JEQ | jmp::JNE) {
        return registers;
    }
    let compared = registers[usize::from(insn.dst)];
    if let Kind::ValueOrNull(map, _) = compared {
        let null = (insn.op() == jmp::JEQ) == taken;
        for kind in registers.iter_mut().filter(|kind| **kind == compared) {
            *kind = if null { Kind::Number } else { Kind::Value(map, Some(0)) };
        }
    }
    registers
}

/// The registers that an instruction reads.
fn reads(insn: Insn, in_main: bool) -> impl Iterator<Item = u8> {
    let src = Some(insn.src);
    let dst = Some(insn.dst);
    let operand = insn.is_reg().then_some(insn.src);
    let [a, b, c] = match (insn.class(), insn.op()) {
        (class::ALU | class::ALU64, alu::MOV) => [operand, None, None],
        (class::ALU | class::ALU64, alu::NEG | alu::END) => [dst, None, None],
        (class::ALU | class::ALU64, _) => [dst, operand, None],
        (class::LDX, _) => [src, None, None],
        (class::ST, _) => [dst, None, None],
        (class::STX, _) => {
            let compares = insn.mode() == mode::ATOMIC && insn.imm == atomic::CMPXCHG;
            [src, dst, compares.then_some(0)]
        }
        (class::LD, _) if insn.is_wide() => [None; 3],
        (class::LD, _) => [Some(6), (insn.mode() == mode::IND).then_some(insn.src), None],
        (_, jmp::JA | jmp::CALL) => [None; 3],
        (_, jmp::EXIT) => [in_main.then_some(0), None, None],
        _ => [dst, operand, None],
    };
    let helper = (insn.code == class::JMP | jmp::CALL && insn.src == 0).then(|| Helper::from_number(insn.imm));
    let arguments = helper.flatten().map_or(0, Helper::arguments);
    [a, b, c].into_iter().flatten().chain(1..=arguments)
}

/// What an arithmetic instruction makes of the kinds of its operands.
fn result(insn: Insn, before: &Registers) -> Kind {
    let dst = before[usize::from(insn.dst)];
    let src = if insn.is_reg() { before[usize::from(insn.src)] } else { Kind::Number };
    let distance = (!insn.is_reg()).then_some(i64::from(insn.imm));
    match (insn.class(), insn.op()) {
        (class::ALU64, alu::MOV) if insn.off == 0 => src,
        (class::ALU64, alu::ADD) if dst.is_pointer() && src == Kind::Number => dst.moved(distance),
        (class::ALU64, alu::ADD) if dst == Kind::Number && src.is_pointer() => src.moved(None),
        (class::ALU64, alu::SUB) if dst.is_pointer() && src == Kind::Number => {
            dst.moved(distance.map(|distance| -distance))
        }
        (class::ALU64, alu::ADD | alu::SUB) if dst == Kind::Any || src == Kind::Any => Kind::Any,
        _ => Kind::Number,
    }
}

fn check_arithmetic(at: usize, insn: Insn, registers: &Registers) -> Result<(), Rejected> {
    let dst = registers[usize::from(insn.dst)];
    let src = if insn.is_reg() { registers[usize::from(insn.src)] } else { Kind::Number };
    let denied = |reg: u8, log: &str| Err(Rejected::at(at, EACCES, format_args!("R{reg} {log}")));
    let wide = insn.class() == class::ALU64;
    if insn.op() == alu::MOV {
        return if src.is_pointer() && (!wide || insn.off != 0) {
            denied(insn.src, "partial copy of pointer")
        } else {
            Ok(())
        };
    }
    let reg = if dst.is_pointer() { insn.dst } else { insn.src };
    match (dst.is_pointer(), src.is_pointer()) {
        (false, false) => Ok(()),
        _ if !wide => denied(reg, "32-bit pointer arithmetic prohibited"),
        (true, true) if insn.op() == alu::SUB => Ok(()),
        (true, true) => denied(reg, "pointer += pointer prohibited"),
        (false, true) if insn.op() == alu::SUB => denied(insn.dst, "tried to subtract pointer from scalar"),
        _ if !matches!(insn.op(), alu::ADD | alu::SUB) => denied(reg, "pointer arithmetic prohibited"),
        _ if matches!(dst, Kind::ValueOrNull(..)) || matches!(src, Kind::ValueOrNull(..)) => {
            denied(reg, "pointer arithmetic on map_value_or_null prohibited, null-check it first")
        }
        _ if matches!(dst, Kind::Handle(_)) || matches!(src, Kind::Handle(_)) => {
            denied(reg, "pointer arithmetic on map_ptr prohibited")
        }
        _ => Ok(()),
    }
}

/// A helper's first argument; where the others point is for the run to find out.
fn check_call(at: usize, insn: Insn, registers: &Registers) -> Result<(), Rejected> {
    let Some(helper) = Helper::from_number(insn.imm) else { return Ok(()) };
    let (fits, expected) = match registers[1] {
        Kind::Any => return Ok(()),
        Kind::Context(Some(0)) => (helper.takes_context(), "map_ptr"),
        Kind::Handle(_) => (!helper.takes_context(), "ctx"),
        _ => (false, if helper.takes_context() { "ctx" } else { "map_ptr" }),
    };
    if fits {
        return Ok(());
    }
    Err(Rejected::at(at, EACCES, format_args!("R1 type={} expected={expected}", registers[1].name())))
}
