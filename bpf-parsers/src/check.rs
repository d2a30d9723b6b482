//! The shape of a program: every instruction known and well-formed, every jump inside its function, nothing that
//! cannot be reached, no way past the end. Order, error numbers and words follow the kernel's `kernel/bpf/verifier.c`
//! of Linux 6.1. What registers hold is [`flow`](crate::flow)'s question.

use std::fmt;

use crate::errno::{E2BIG, EACCES, EINVAL};
use crate::helpers::Helper;
use crate::insn::{Insn, alu, atomic, class, jmp, mode, pseudo, size};

/// The longest program in instructions (`BPF_MAXINSNS`): what the kernel takes from those without privileges.
pub const MAX_INSNS: usize = 4096;
/// The most functions in one program (`BPF_MAX_SUBPROGS`).
const MAX_FUNCTIONS: usize = 256;
/// The last register, the frame pointer, which programs only read.
pub(crate) const FRAME_POINTER: u8 = 10;

/// Why a program was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// The error number that `bpf(BPF_PROG_LOAD)` gives.
    pub errno: i32,
    /// What goes to the caller's log buffer: one line.
    pub log: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.log.trim_end())
    }
}

impl std::error::Error for Rejected {}

impl Rejected {
    pub(crate) fn new(errno: i32, log: impl fmt::Display) -> Self {
        Self { errno, log: format!("{log}\n") }
    }

    /// About instruction number `at`.
    pub(crate) fn at(at: usize, errno: i32, log: impl fmt::Display) -> Self {
        Self::new(errno, format_args!("{at}: {log}"))
    }
}

fn malformed(at: usize, log: impl fmt::Display) -> Rejected {
    Rejected::at(at, EINVAL, log)
}

/// Where the program's functions begin, ascending; the first is 0, the program itself.
pub(crate) type Functions = Vec<usize>;

/// Checks the shape of a program.
pub(crate) fn shape(insns: &[Insn]) -> Result<Functions, Rejected> {
    if insns.is_empty() || insns.len() > MAX_INSNS {
        let log = format_args!("a program has 1 to {MAX_INSNS} instructions, not {}", insns.len());
        return Err(Rejected::new(E2BIG, log));
    }
    let functions = functions(insns)?;
    let mut at = 0;
    while let Some(insn) = insns.get(at) {
        check_insn(at, *insn)?;
        if insn.is_wide() {
            check_second_half(at, insns.get(at + 1))?;
            at += 1;
        }
        at += 1;
    }
    for (i, start) in functions.iter().enumerate() {
        check_function(insns, *start, functions.get(i + 1).copied().unwrap_or(insns.len()))?;
    }
    check_reach(insns)?;
    Ok(functions)
}

fn is_local_call(insn: Insn) -> bool {
    insn.code == class::JMP | jmp::CALL && insn.src == pseudo::CALL
}

/// Where the instruction `at` may go: to the next one, and to another.
pub(crate) fn successors(at: usize, insn: Insn) -> (Option<usize>, Option<i64>) {
    let next = Some(at + if insn.is_wide() { 2 } else { 1 });
    match (insn.class(), insn.op()) {
        (class::JMP, jmp::CALL) => (next, None),
        (class::JMP, jmp::EXIT) => (None, None),
        (class::JMP, jmp::JA) => (None, Some(at as i64 + 1 + i64::from(insn.off))),
        (class::JMP32, jmp::JA) => (None, Some(at as i64 + 1 + i64::from(insn.imm))),
        (class::JMP | class::JMP32, _) => (next, Some(at as i64 + 1 + i64::from(insn.off))),
        _ => (next, None),
    }
}

/// The function that a local call at `at` goes to.
pub(crate) fn callee(at: usize, insn: Insn) -> Option<i64> {
    is_local_call(insn).then(|| at as i64 + 1 + i64::from(insn.imm))
}

fn functions(insns: &[Insn]) -> Result<Functions, Rejected> {
    let mut starts = vec![0];
    for (at, insn) in insns.iter().enumerate() {
        let Some(to) = callee(at, *insn) else { continue };
        let to = usize::try_from(to).ok().filter(|to| *to < insns.len());
        starts.push(to.ok_or_else(|| malformed(at, "call to invalid destination"))?);
    }
    starts.sort_unstable();
    starts.dedup();
    if starts.len() > MAX_FUNCTIONS {
        return Err(Rejected::new(E2BIG, "too many subprograms"));
    }
    Ok(starts)
}

fn check_second_half(at: usize, second: Option<&Insn>) -> Result<(), Rejected> {
    match second {
        Some(Insn { code: 0, dst: 0, src: 0, off: 0, .. }) => Ok(()),
        _ => Err(malformed(at, "invalid bpf_ld_imm64 insn")),
    }
}

/// Jumps stay inside their function, and nothing runs off its end.
fn check_function(insns: &[Insn], start: usize, end: usize) -> Result<(), Rejected> {
    let mut at = start;
    while at < end {
        let Some(insn) = insns.get(at) else { break };
        let (next, jump) = successors(at, *insn);
        if let Some(to) = jump
            && !(start as i64..end as i64).contains(&to)
        {
            return Err(malformed(at, format_args!("jump out of range from insn {at} to {to}")));
        }
        let after = at + if insn.is_wide() { 2 } else { 1 };
        if after >= end && (next.is_some() || after > end) {
            return Err(malformed(at, "last insn is not an exit or jmp"));
        }
        at = after;
    }
    Ok(())
}

/// Everything is reached, and no jump goes into the second half of a wide load.
fn check_reach(insns: &[Insn]) -> Result<(), Rejected> {
    let mut reached = vec![false; insns.len()];
    let mut open = vec![0];
    while let Some(at) = open.pop() {
        let (Some(seen), Some(insn)) = (reached.get_mut(at), insns.get(at)) else { continue };
        if std::mem::replace(seen, true) {
            continue;
        }
        let (next, jump) = successors(at, *insn);
        open.extend(next);
        open.extend(jump.and_then(|to| usize::try_from(to).ok()));
        open.extend(callee(at, *insn).and_then(|to| usize::try_from(to).ok()));
    }
    let mut second_half = false;
    for (at, (insn, reached)) in insns.iter().zip(reached).enumerate() {
        match (second_half, reached) {
            (true, true) => return Err(malformed(at, format_args!("jump into the middle of ldimm64 insn {}", at - 1))),
            (false, false) => return Err(malformed(at, format_args!("unreachable insn {at}"))),
            _ => {}
        }
        second_half = !second_half && insn.is_wide();
    }
    Ok(())
}

fn check_insn(at: usize, insn: Insn) -> Result<(), Rejected> {
    let unknown = || malformed(at, format_args!("unknown opcode {:02x}", insn.code));
    let reserved = |what: &str| malformed(at, format_args!("{what} uses reserved fields"));
    match insn.class() {
        class::ALU | class::ALU64 => check_alu(at, insn)?,
        class::LDX => match (insn.mode(), insn.size()) {
            (mode::MEM, _) | (mode::MEMSX, size::B | size::H | size::W) if insn.imm == 0 => {}
            (mode::MEM | mode::MEMSX, _) => return Err(reserved("BPF_LDX")),
            _ => return Err(unknown()),
        },
        class::ST => match insn.mode() {
            mode::MEM if insn.src == 0 => {}
            mode::MEM => return Err(reserved("BPF_ST")),
            _ => return Err(unknown()),
        },
        class::STX => match (insn.mode(), insn.size()) {
            (mode::MEM, _) if insn.imm == 0 => {}
            (mode::MEM, _) => return Err(reserved("BPF_STX")),
            (mode::ATOMIC, size::W | size::DW) => check_atomic(at, insn)?,
            _ => return Err(unknown()),
        },
        class::LD => match (insn.mode(), insn.size()) {
            (mode::IMM, size::DW) if insn.off == 0 => {}
            (mode::IMM, size::DW) => return Err(reserved("BPF_LD_IMM64")),
            (mode::ABS | mode::IND, size::B | size::H | size::W) => check_ld_abs(at, insn)?,
            _ => return Err(unknown()),
        },
        _ => check_jump(at, insn)?,
    }
    check_registers(at, insn)
}

fn check_alu(at: usize, insn: Insn) -> Result<(), Rejected> {
    let reserved = |what: &str| Err(malformed(at, format_args!("{what} uses reserved fields")));
    let wide = insn.class() == class::ALU64;
    match insn.op() {
        alu::END => {
            let swap_always = wide && insn.is_reg();
            if insn.src != 0 || insn.off != 0 || !matches!(insn.imm, 16 | 32 | 64) || swap_always {
                return reserved("BPF_END");
            }
        }
        alu::NEG => {
            if insn.is_reg() || insn.src != 0 || insn.off != 0 || insn.imm != 0 {
                return reserved("BPF_NEG");
            }
        }
        alu::MOV => {
            let sign_extends = matches!((wide, insn.off), (_, 8 | 16) | (true, 32));
            let ok = if insn.is_reg() {
                insn.imm == 0 && (insn.off == 0 || sign_extends)
            } else {
                insn.src == 0 && insn.off == 0
            };
            if !ok {
                return reserved("BPF_MOV");
            }
        }
        op @ alu::ADD..=alu::ARSH => {
            let divides = matches!(op, alu::DIV | alu::MOD);
            let off_ok = insn.off == 0 || (divides && insn.off == 1);
            if !off_ok || (if insn.is_reg() { insn.imm != 0 } else { insn.src != 0 }) {
                return reserved("BPF_ALU");
            }
            if divides && !insn.is_reg() && insn.imm == 0 {
                return Err(malformed(at, "div by zero"));
            }
            let bits = if wide { 64 } else { 32 };
            let shifts = matches!(op, alu::LSH | alu::RSH | alu::ARSH);
            if shifts && !insn.is_reg() && !(0..bits).contains(&insn.imm) {
                return Err(malformed(at, format_args!("invalid shift {}", insn.imm)));
            }
        }
        op => return Err(malformed(at, format_args!("invalid BPF_ALU opcode {op:x}"))),
    }
    Ok(())
}

fn check_atomic(at: usize, insn: Insn) -> Result<(), Rejected> {
    match insn.imm & !atomic::FETCH {
        atomic::ADD | atomic::OR | atomic::AND | atomic::XOR => Ok(()),
        _ if matches!(insn.imm, atomic::XCHG | atomic::CMPXCHG) => Ok(()),
        _ => Err(malformed(at, format_args!("BPF_ATOMIC uses invalid atomic opcode {:02x}", insn.imm))),
    }
}

fn check_ld_abs(at: usize, insn: Insn) -> Result<(), Rejected> {
    let indirect = insn.mode() == mode::IND;
    if insn.dst != 0 || insn.off != 0 || (!indirect && insn.src != 0) {
        return Err(malformed(at, "BPF_LD_[ABS|IND] uses reserved fields"));
    }
    Ok(())
}

fn check_jump(at: usize, insn: Insn) -> Result<(), Rejected> {
    let reserved = |what: &str| Err(malformed(at, format_args!("{what} uses reserved fields")));
    let narrow = insn.class() == class::JMP32;
    match insn.op() {
        jmp::CALL => {
            if insn.is_reg() || narrow || insn.dst != 0 || insn.off != 0 || insn.src > pseudo::CALL {
                return reserved("BPF_CALL");
            }
            if insn.src == 0 && Helper::from_number(insn.imm).is_none() {
                return Err(malformed(at, format_args!("unknown func #{}", insn.imm)));
            }
        }
        jmp::EXIT => {
            if insn.is_reg() || narrow || insn.dst != 0 || insn.src != 0 || insn.imm != 0 {
                return reserved("BPF_EXIT");
            }
        }
        jmp::JA => {
            let unused = if narrow { insn.off != 0 } else { insn.imm != 0 };
            if insn.is_reg() || insn.dst != 0 || insn.src != 0 || unused {
                return reserved("BPF_JA");
            }
        }
        jmp::JEQ..=jmp::JSGE | jmp::JLT..=jmp::JSLE => {
            if if insn.is_reg() { insn.imm != 0 } else { insn.src != 0 } {
                return reserved("BPF_JMP/JMP32");
            }
        }
        op => return Err(malformed(at, format_args!("invalid BPF_JMP/JMP32 opcode {op:x}"))),
    }
    Ok(())
}

/// Whether the instruction's destination field is a register that it writes.
pub(crate) fn writes_dst(insn: Insn) -> bool {
    matches!(insn.class(), class::ALU | class::ALU64 | class::LDX | class::LD)
}

fn check_registers(at: usize, insn: Insn) -> Result<(), Rejected> {
    let src_is_kind = insn.is_wide() || insn.code == class::JMP | jmp::CALL;
    for reg in [Some(insn.dst), (!src_is_kind).then_some(insn.src)].into_iter().flatten() {
        if reg > FRAME_POINTER {
            return Err(malformed(at, format_args!("R{reg} is invalid")));
        }
    }
    let fetches = insn.class() == class::STX && insn.mode() == mode::ATOMIC && insn.imm & atomic::FETCH != 0;
    let fetches_to_src = fetches && insn.imm != atomic::CMPXCHG && insn.src == FRAME_POINTER;
    if (writes_dst(insn) && insn.dst == FRAME_POINTER) || fetches_to_src {
        return Err(Rejected::at(at, EACCES, "frame pointer is read only"));
    }
    Ok(())
}
