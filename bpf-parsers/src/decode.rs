//! The form that programs run in: one step of fixed form for each instruction, with jumps resolved.
//!
//! The second operand of a step is always `regs[src] + imm`: where the instruction names a register, `imm` is zero;
//! where it has an immediate, `src` is a register that stays zero. So both forms are one operation, without a branch.

use std::collections::BTreeMap;

use crate::check::callee;
use crate::helpers::Helper;
use crate::insn::{Insn, alu, class, jmp, mode, pseudo, size};
use crate::memory;

/// A register that is always zero.
pub(crate) const ZERO: u8 = 15;

/// What a step does; `32` in a name: with 32 bits, and the rest of the result zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[rustfmt::skip]
pub(crate) enum Op {
    Add, Sub, Mul, Div, Or, And, Lsh, Rsh, Neg, Mod, Xor, Mov, Arsh, Sdiv, Smod,
    Add32, Sub32, Mul32, Div32, Or32, And32, Lsh32, Rsh32, Neg32, Mod32, Xor32, Mov32, Arsh32, Sdiv32, Smod32,
    Movs8, Movs16, Movs32, Movs8To32, Movs16To32,
    Swap16, Swap32, Swap64, Low16, Low32, Keep,
    Abs8, Abs16, Abs32,
    Load8, Load16, Load32, Load64, Loads8, Loads16, Loads32,
    Store8, Store16, Store32, Store64,
    Atomic32, Atomic64,
    Ja, Jeq, Jgt, Jge, Jset, Jne, Jsgt, Jsge, Jlt, Jle, Jslt, Jsle,
    Jeq32, Jgt32, Jge32, Jset32, Jne32, Jsgt32, Jsge32, Jlt32, Jle32, Jslt32, Jsle32,
    MapLookup, MapUpdate, MapDelete, LoadBytes, LoadBytesRelative,
    Call, Exit,
}

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) imm: u64,
    /// Offset of a memory access in bytes, the step that a jump or call goes to, or the kind of an atomic operation.
    pub(crate) aux: i32,
    pub(crate) op: Op,
    pub(crate) dst: u8,
    pub(crate) src: u8,
}

/// What a map reference of the program means: the map's number, by the position of its instruction.
pub(crate) type MapNumbers = BTreeMap<usize, u32>;

/// Translates a program whose shape was checked; `None` would be a program whose shape was not.
pub(crate) fn decode(insns: &[Insn], functions: &[usize], maps: &MapNumbers) -> Option<Box<[Step]>> {
    let places = places(insns);
    let place = |at: i64| places.get(usize::try_from(at).ok()?).copied();
    let mut steps = Vec::with_capacity(insns.len());
    let mut at = 0;
    while let Some(&insn) = insns.get(at) {
        let mut step = Step {
            imm: i64::from(insn.imm) as u64,
            aux: i32::from(insn.off),
            op: op(insn)?,
            dst: insn.dst,
            src: if insn.is_reg() { insn.src } else { ZERO },
        };
        match insn.class() {
            class::LD if insn.is_wide() => {
                step.imm = wide_value(insn, insns.get(at + 1)?, at, maps)?;
                step.src = ZERO;
            }
            class::LD => step.src = if insn.mode() == mode::IND { insn.src } else { ZERO },
            class::LDX => step.src = insn.src,
            // The bit that tells a register from an immediate is part of the width here.
            class::ST => step.src = ZERO,
            class::STX => {
                step.src = insn.src;
                step.imm = 0;
                if insn.mode() == mode::ATOMIC {
                    // The offset goes to `imm`: no operand is read through it.
                    step.imm = i64::from(insn.off) as u64;
                    step.aux = insn.imm;
                }
            }
            class::JMP | class::JMP32 => match insn.op() {
                jmp::CALL | jmp::EXIT => {
                    if let Some(to) = callee(at, insn) {
                        step.aux = i32::try_from(place(to)?).ok()?;
                        step.imm = length(functions, &places, usize::try_from(to).ok()?, insns.len())?;
                    }
                }
                _ => {
                    let distance = if insn.code == class::JMP32 | jmp::JA { insn.imm } else { i32::from(insn.off) };
                    step.aux = i32::try_from(place(at as i64 + 1 + i64::from(distance))?).ok()?;
                }
            },
            _ => {}
        }
        steps.push(step);
        at += if insn.is_wide() { 2 } else { 1 };
    }
    Some(steps.into())
}

/// For each instruction, the number of its step.
fn places(insns: &[Insn]) -> Vec<usize> {
    let mut places = Vec::with_capacity(insns.len() + 1);
    let mut step = 0;
    let mut second_half = false;
    for insn in insns {
        places.push(step);
        second_half = !second_half && insn.is_wide();
        step += usize::from(!second_half);
    }
    places.push(step);
    places
}

/// How many steps the function that begins at instruction `start` has.
fn length(functions: &[usize], places: &[usize], start: usize, end: usize) -> Option<u64> {
    let next = functions.iter().copied().find(|other| *other > start).unwrap_or(end);
    Some((places.get(next)? - places.get(start)?) as u64)
}

fn wide_value(first: Insn, second: &Insn, at: usize, maps: &MapNumbers) -> Option<u64> {
    let number = || maps.get(&at).copied();
    Some(match first.src {
        pseudo::MAP_FD | pseudo::MAP_IDX => memory::handle(number()?),
        pseudo::MAP_VALUE | pseudo::MAP_IDX_VALUE => memory::Value::address(number()?, second.imm as u32),
        _ => u64::from(first.imm as u32) | u64::from(second.imm as u32) << 32,
    })
}

fn op(insn: Insn) -> Option<Op> {
    match insn.class() {
        class::ALU64 => alu64(insn),
        class::ALU => alu32(insn),
        class::JMP => jump(insn),
        class::JMP32 => jump32(insn),
        class::LD => Some(match (insn.mode(), insn.size()) {
            (mode::IMM, _) => Op::Mov,
            (_, size::B) => Op::Abs8,
            (_, size::H) => Op::Abs16,
            _ => Op::Abs32,
        }),
        class::LDX => Some(match (insn.mode(), insn.size()) {
            (mode::MEMSX, size::B) => Op::Loads8,
            (mode::MEMSX, size::H) => Op::Loads16,
            (mode::MEMSX, _) => Op::Loads32,
            (_, size::B) => Op::Load8,
            (_, size::H) => Op::Load16,
            (_, size::W) => Op::Load32,
            _ => Op::Load64,
        }),
        _ => Some(match (insn.mode(), insn.size()) {
            (mode::ATOMIC, size::W) => Op::Atomic32,
            (mode::ATOMIC, _) => Op::Atomic64,
            (_, size::B) => Op::Store8,
            (_, size::H) => Op::Store16,
            (_, size::W) => Op::Store32,
            _ => Op::Store64,
        }),
    }
}

fn alu64(insn: Insn) -> Option<Op> {
    Some(match (insn.op(), insn.off) {
        (alu::ADD, _) => Op::Add,
        (alu::SUB, _) => Op::Sub,
        (alu::MUL, _) => Op::Mul,
        (alu::DIV, 0) => Op::Div,
        (alu::DIV, _) => Op::Sdiv,
        (alu::OR, _) => Op::Or,
        (alu::AND, _) => Op::And,
        (alu::LSH, _) => Op::Lsh,
        (alu::RSH, _) => Op::Rsh,
        (alu::NEG, _) => Op::Neg,
        (alu::MOD, 0) => Op::Mod,
        (alu::MOD, _) => Op::Smod,
        (alu::XOR, _) => Op::Xor,
        (alu::MOV, 0) => Op::Mov,
        (alu::MOV, 8) => Op::Movs8,
        (alu::MOV, 16) => Op::Movs16,
        (alu::MOV, _) => Op::Movs32,
        (alu::ARSH, _) => Op::Arsh,
        (alu::END, _) => swap(insn.imm),
        _ => return None,
    })
}

fn alu32(insn: Insn) -> Option<Op> {
    Some(match (insn.op(), insn.off) {
        (alu::ADD, _) => Op::Add32,
        (alu::SUB, _) => Op::Sub32,
        (alu::MUL, _) => Op::Mul32,
        (alu::DIV, 0) => Op::Div32,
        (alu::DIV, _) => Op::Sdiv32,
        (alu::OR, _) => Op::Or32,
        (alu::AND, _) => Op::And32,
        (alu::LSH, _) => Op::Lsh32,
        (alu::RSH, _) => Op::Rsh32,
        (alu::NEG, _) => Op::Neg32,
        (alu::MOD, 0) => Op::Mod32,
        (alu::MOD, _) => Op::Smod32,
        (alu::XOR, _) => Op::Xor32,
        (alu::MOV, 0) => Op::Mov32,
        (alu::MOV, 8) => Op::Movs8To32,
        (alu::MOV, _) => Op::Movs16To32,
        (alu::ARSH, _) => Op::Arsh32,
        (alu::END, _) if insn.is_reg() => swap(insn.imm),
        (alu::END, _) => match insn.imm {
            16 => Op::Low16,
            32 => Op::Low32,
            _ => Op::Keep,
        },
        _ => return None,
    })
}

fn swap(bits: i32) -> Op {
    match bits {
        16 => Op::Swap16,
        32 => Op::Swap32,
        _ => Op::Swap64,
    }
}

fn jump(insn: Insn) -> Option<Op> {
    Some(match insn.op() {
        jmp::JA => Op::Ja,
        jmp::JEQ => Op::Jeq,
        jmp::JGT => Op::Jgt,
        jmp::JGE => Op::Jge,
        jmp::JSET => Op::Jset,
        jmp::JNE => Op::Jne,
        jmp::JSGT => Op::Jsgt,
        jmp::JSGE => Op::Jsge,
        jmp::JLT => Op::Jlt,
        jmp::JLE => Op::Jle,
        jmp::JSLT => Op::Jslt,
        jmp::JSLE => Op::Jsle,
        jmp::EXIT => Op::Exit,
        jmp::CALL if insn.src == pseudo::CALL => Op::Call,
        jmp::CALL => match Helper::from_number(insn.imm)? {
            Helper::MapLookup => Op::MapLookup,
            Helper::MapUpdate => Op::MapUpdate,
            Helper::MapDelete => Op::MapDelete,
            Helper::LoadBytes => Op::LoadBytes,
            Helper::LoadBytesRelative => Op::LoadBytesRelative,
        },
        _ => return None,
    })
}

fn jump32(insn: Insn) -> Option<Op> {
    Some(match insn.op() {
        jmp::JA => Op::Ja,
        jmp::JEQ => Op::Jeq32,
        jmp::JGT => Op::Jgt32,
        jmp::JGE => Op::Jge32,
        jmp::JSET => Op::Jset32,
        jmp::JNE => Op::Jne32,
        jmp::JSGT => Op::Jsgt32,
        jmp::JSGE => Op::Jsge32,
        jmp::JLT => Op::Jlt32,
        jmp::JLE => Op::Jle32,
        jmp::JSLT => Op::Jslt32,
        jmp::JSLE => Op::Jsle32,
        _ => return None,
    })
}
