//! The interpreter.
//!
//! It answers what the kernel's does (`___bpf_prog_run` in `kernel/bpf/core.c`, with the rewrites of its verifier:
//! division by zero gives 0, a remainder by zero the dividend). Nothing here can panic or run for ever: steps are
//! fetched with a check, memory is [`Memory`]'s, and going backwards costs fuel.

use std::fmt;

use crate::decode::{Op, Step};
use crate::errno::{E2BIG, EFAULT, EINVAL};
use crate::helpers::Helper;
use crate::insn::atomic;
use crate::memory::{CONTEXT_START, Memory, is_context, stack_end};
use crate::packet::Packet;

/// The most steps of one run (`BPF_COMPLEXITY_LIMIT_INSNS`): no program that the kernel takes needs more.
pub const MAX_STEPS: u64 = 1_000_000;
/// How deep functions may call each other, the program itself included (`MAX_CALL_FRAMES`).
pub(crate) const MAX_FRAMES: usize = 8;

/// Why a run ended without a result. What the kernel's verifier proves before, this finds out when it happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// An access outside the stack, the context's readable fields and map values.
    Memory,
    /// A helper, or `BPF_LD_ABS`, got something else than it takes.
    Argument,
    /// More than [`MAX_STEPS`] steps.
    Steps,
    /// Too many nested calls.
    Depth,
}

impl Fault {
    /// An error number for it.
    pub const fn errno(self) -> i32 {
        match self {
            Self::Memory => EFAULT,
            Self::Argument => EINVAL,
            Self::Steps | Self::Depth => E2BIG,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "the parser accessed memory that is not its own",
            Self::Argument => "the parser called a helper with a wrong argument",
            Self::Steps => "the parser ran too long",
            Self::Depth => "the parser's functions are nested too deep",
        })
    }
}

impl std::error::Error for Fault {}

/// What a caller finds again after a local call: R6 to R9, and where to go on.
#[derive(Clone, Copy, Default)]
struct Saved {
    regs: [u64; 4],
    back: usize,
}

/// Runs `steps` to the end; R0.
pub(crate) fn run<P: Packet + ?Sized, const FRAMES: usize>(
    steps: &[Step],
    mut memory: Memory<'_, P, FRAMES>,
) -> Result<u64, Fault> {
    let mut regs = [0u64; 16];
    regs[1] = CONTEXT_START;
    regs[10] = stack_end(0);
    let mut saved = [Saved::default(); FRAMES];
    let mut depth = 0;
    // Between two jumps back a program passes each step once at most, so their lengths bound the steps of a run.
    let mut pc = 0;

    while let Some(step) = steps.get(pc) {
        let at = pc;
        pc += 1;
        let dst = (step.dst & 15) as usize;
        let src = (step.src & 15) as usize;
        let a = regs[dst];
        let b = regs[src].wrapping_add(step.imm);
        let (a32, b32) = (a as u32, b as u32);

        macro_rules! jump_if {
            ($condition:expr) => {
                if $condition {
                    let target = step.aux as usize;
                    if target <= at {
                        memory.spend((pc - target) as u64)?;
                    }
                    pc = target;
                }
            };
        }
        macro_rules! exit {
            () => {
                if depth == 0 {
                    return Ok(regs[0]);
                }
                depth -= 1;
                let caller = saved.get(depth).ok_or(Fault::Depth)?;
                [regs[6], regs[7], regs[8], regs[9]] = caller.regs;
                regs[10] = stack_end(depth as u32);
                pc = caller.back;
            };
        }
        macro_rules! packet {
            ($number:ty) => {{
                if !is_context(regs[6]) {
                    return Err(Fault::Argument);
                }
                let bytes = if (b as i32) < 0 { None } else { memory.packet.array(b as u32) };
                match bytes {
                    Some(bytes) => regs[0] = u64::from(<$number>::from_be_bytes(bytes)),
                    None => {
                        regs[0] = 0;
                        exit!();
                    }
                }
            }};
        }
        macro_rules! call {
            ($helper:ident) => {
                regs[0] = memory.call(Helper::$helper, [regs[1], regs[2], regs[3], regs[4], regs[5]])?
            };
        }
        let from = b.wrapping_add(step.aux as u64);
        let to = a.wrapping_add(step.aux as u64);

        match step.op {
            Op::Add => regs[dst] = a.wrapping_add(b),
            Op::Sub => regs[dst] = a.wrapping_sub(b),
            Op::Mul => regs[dst] = a.wrapping_mul(b),
            Op::Div => regs[dst] = a.checked_div(b).unwrap_or(0),
            Op::Or => regs[dst] = a | b,
            Op::And => regs[dst] = a & b,
            Op::Lsh => regs[dst] = a.wrapping_shl(b32),
            Op::Rsh => regs[dst] = a.wrapping_shr(b32),
            Op::Neg => regs[dst] = a.wrapping_neg(),
            Op::Mod => regs[dst] = a.checked_rem(b).unwrap_or(a),
            Op::Xor => regs[dst] = a ^ b,
            Op::Mov => regs[dst] = b,
            Op::Arsh => regs[dst] = (a as i64).wrapping_shr(b32) as u64,
            Op::Sdiv => regs[dst] = if b == 0 { 0 } else { (a as i64).wrapping_div(b as i64) as u64 },
            Op::Smod => regs[dst] = if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 },

            Op::Add32 => regs[dst] = u64::from(a32.wrapping_add(b32)),
            Op::Sub32 => regs[dst] = u64::from(a32.wrapping_sub(b32)),
            Op::Mul32 => regs[dst] = u64::from(a32.wrapping_mul(b32)),
            Op::Div32 => regs[dst] = u64::from(a32.checked_div(b32).unwrap_or(0)),
            Op::Or32 => regs[dst] = u64::from(a32 | b32),
            Op::And32 => regs[dst] = u64::from(a32 & b32),
            Op::Lsh32 => regs[dst] = u64::from(a32.wrapping_shl(b32)),
            Op::Rsh32 => regs[dst] = u64::from(a32.wrapping_shr(b32)),
            Op::Neg32 => regs[dst] = u64::from(a32.wrapping_neg()),
            Op::Mod32 => regs[dst] = u64::from(a32.checked_rem(b32).unwrap_or(a32)),
            Op::Xor32 => regs[dst] = u64::from(a32 ^ b32),
            Op::Mov32 => regs[dst] = u64::from(b32),
            Op::Arsh32 => regs[dst] = u64::from((a32 as i32).wrapping_shr(b32) as u32),
            Op::Sdiv32 => regs[dst] = u64::from(signed_div32(a32, b32)),
            Op::Smod32 => regs[dst] = u64::from(signed_rem32(a32, b32)),

            Op::Movs8 => regs[dst] = i64::from(b as i8) as u64,
            Op::Movs16 => regs[dst] = i64::from(b as i16) as u64,
            Op::Movs32 => regs[dst] = i64::from(b as i32) as u64,
            Op::Movs8To32 => regs[dst] = u64::from(i32::from(b as i8) as u32),
            Op::Movs16To32 => regs[dst] = u64::from(i32::from(b as i16) as u32),
            Op::Swap16 => regs[dst] = u64::from((a as u16).swap_bytes()),
            Op::Swap32 => regs[dst] = u64::from(a32.swap_bytes()),
            Op::Swap64 => regs[dst] = a.swap_bytes(),
            Op::Low16 => regs[dst] = u64::from(a as u16),
            Op::Low32 => regs[dst] = u64::from(a32),
            Op::Keep => {}

            Op::Abs8 => packet!(u8),
            Op::Abs16 => packet!(u16),
            Op::Abs32 => packet!(u32),
            Op::Load8 => regs[dst] = memory.load::<1>(from)?,
            Op::Load16 => regs[dst] = memory.load::<2>(from)?,
            Op::Load32 => regs[dst] = memory.load::<4>(from)?,
            Op::Load64 => regs[dst] = memory.load::<8>(from)?,
            Op::Loads8 => regs[dst] = i64::from(memory.load::<1>(from)? as i8) as u64,
            Op::Loads16 => regs[dst] = i64::from(memory.load::<2>(from)? as i16) as u64,
            Op::Loads32 => regs[dst] = i64::from(memory.load::<4>(from)? as i32) as u64,
            Op::Store8 => memory.store::<1>(to, b)?,
            Op::Store16 => memory.store::<2>(to, b)?,
            Op::Store32 => memory.store::<4>(to, b)?,
            Op::Store64 => memory.store::<8>(to, b)?,
            Op::Atomic32 => atomic_op::<P, FRAMES, 4>(&mut memory, &mut regs, step)?,
            Op::Atomic64 => atomic_op::<P, FRAMES, 8>(&mut memory, &mut regs, step)?,

            Op::Ja => jump_if!(true),
            Op::Jeq => jump_if!(a == b),
            Op::Jgt => jump_if!(a > b),
            Op::Jge => jump_if!(a >= b),
            Op::Jset => jump_if!(a & b != 0),
            Op::Jne => jump_if!(a != b),
            Op::Jsgt => jump_if!(a as i64 > b as i64),
            Op::Jsge => jump_if!(a as i64 >= b as i64),
            Op::Jlt => jump_if!(a < b),
            Op::Jle => jump_if!(a <= b),
            Op::Jslt => jump_if!((a as i64) < b as i64),
            Op::Jsle => jump_if!(a as i64 <= b as i64),
            Op::Jeq32 => jump_if!(a32 == b32),
            Op::Jgt32 => jump_if!(a32 > b32),
            Op::Jge32 => jump_if!(a32 >= b32),
            Op::Jset32 => jump_if!(a32 & b32 != 0),
            Op::Jne32 => jump_if!(a32 != b32),
            Op::Jsgt32 => jump_if!(a32 as i32 > b32 as i32),
            Op::Jsge32 => jump_if!(a32 as i32 >= b32 as i32),
            Op::Jlt32 => jump_if!(a32 < b32),
            Op::Jle32 => jump_if!(a32 <= b32),
            Op::Jslt32 => jump_if!((a32 as i32) < b32 as i32),
            Op::Jsle32 => jump_if!(a32 as i32 <= b32 as i32),

            Op::MapLookup => call!(MapLookup),
            Op::MapUpdate => call!(MapUpdate),
            Op::MapDelete => call!(MapDelete),
            Op::LoadBytes => call!(LoadBytes),
            Op::LoadBytesRelative => call!(LoadBytesRelative),
            Op::Call => {
                // The function's own length, since after it the program goes on forward from here.
                memory.spend(step.imm)?;
                if depth + 1 >= FRAMES {
                    return Err(Fault::Depth);
                }
                let regs6to9 = [regs[6], regs[7], regs[8], regs[9]];
                *saved.get_mut(depth).ok_or(Fault::Depth)? = Saved { regs: regs6to9, back: pc };
                depth += 1;
                regs[10] = stack_end(depth as u32);
                pc = step.aux as usize;
            }
            Op::Exit => {
                exit!();
            }
        }
    }
    Err(Fault::Memory)
}

fn signed_div32(a: u32, b: u32) -> u32 {
    if b == 0 { 0 } else { (a as i32).wrapping_div(b as i32) as u32 }
}

fn signed_rem32(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 }
}

fn atomic_op<P: Packet + ?Sized, const FRAMES: usize, const N: usize>(
    memory: &mut Memory<'_, P, FRAMES>,
    regs: &mut [u64; 16],
    step: &Step,
) -> Result<(), Fault> {
    let (dst, src) = ((step.dst & 15) as usize, (step.src & 15) as usize);
    let address = regs[dst].wrapping_add(step.imm);
    let low = |value: u64| if N == 4 { value & u64::from(u32::MAX) } else { value };
    let (operand, expected) = (low(regs[src]), low(regs[0]));
    let old = memory.modify::<N>(address, |old| match step.aux & !atomic::FETCH {
        atomic::ADD => old.wrapping_add(operand),
        atomic::OR => old | operand,
        atomic::AND => old & operand,
        atomic::XOR => old ^ operand,
        _ if step.aux == atomic::CMPXCHG && old != expected => old,
        _ => operand,
    })?;
    if step.aux == atomic::CMPXCHG {
        regs[0] = old;
    } else if step.aux & atomic::FETCH != 0 {
        regs[src] = old;
    }
    Ok(())
}
