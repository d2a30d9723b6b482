//! Programs by hand.
#![forbid(unsafe_code)]

mod maps;
mod message;
mod refused;
mod running;

use std::sync::Arc;

use preloop_parsers::insn::{Insn, REG, alu, class, jmp, mode, pseudo, size};
use preloop_parsers::maps::{Map, MapDef, MapKind};
use preloop_parsers::{Fault, Fields, MapRef, Program, Rejected};

const NOTHING: &[u8] = &[];
const EXIT: Insn = insn(class::JMP | jmp::EXIT, 0, 0, 0, 0);

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

const fn mov(dst: u8, imm: i32) -> Insn {
    insn(class::ALU64 | alu::MOV, dst, 0, 0, imm)
}

const fn copy(dst: u8, src: u8) -> Insn {
    insn(class::ALU64 | alu::MOV | REG, dst, src, 0, 0)
}

const fn add(dst: u8, imm: i32) -> Insn {
    insn(class::ALU64 | alu::ADD, dst, 0, 0, imm)
}

const fn load(width: u8, dst: u8, src: u8, off: i16) -> Insn {
    insn(class::LDX | mode::MEM | width, dst, src, off, 0)
}

const fn store(width: u8, dst: u8, src: u8, off: i16) -> Insn {
    insn(class::STX | mode::MEM | width, dst, src, off, 0)
}

const fn call(helper: i32) -> Insn {
    insn(class::JMP | jmp::CALL, 0, 0, 0, helper)
}

const fn map(dst: u8, fd: i32) -> [Insn; 2] {
    [insn(class::LD | mode::IMM | size::DW, dst, pseudo::MAP_FD, 0, fd), insn(0, 0, 0, 0, 0)]
}

fn def(kind: MapKind, max_entries: u32) -> MapDef {
    MapDef { kind, key_size: 4, value_size: 12, max_entries, read_only: false }
}

/// Maps 3 (an array) and 4 (a read-only one).
fn load_program(insns: &[Insn]) -> Result<Program, Rejected> {
    Program::load(insns, |reference| {
        let read_only = match reference {
            MapRef::Fd(3) => false,
            MapRef::Fd(4) => true,
            _ => return None,
        };
        Map::new(MapDef { read_only, ..def(MapKind::Array, 2) }).ok().map(Arc::new)
    })
}

fn refused(insns: &[Insn]) -> (i32, String) {
    let rejected = load_program(insns).expect_err("refused");
    (rejected.errno, rejected.log)
}

fn run(insns: &[Insn], message: &[u8]) -> Result<u32, Fault> {
    load_program(insns).expect("a program").run(message, &Fields::default())
}

/// A pointer that was on the stack is one that the checker lost sight of.
fn through_the_stack(pointer: u8) -> [Insn; 2] {
    [store(size::DW, 10, pointer, -8), load(size::DW, 9, 10, -8)]
}
