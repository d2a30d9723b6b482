//! No program, object file or encoded parser crashes, hangs or escapes, however wrong it is.
#![forbid(unsafe_code)]

mod drive;

use std::cell::Cell;

use preloop_parsers::insn::{Insn, REG, alu, atomic, class, jmp, mode, pseudo, size};
use preloop_parsers::{Parser, object, registry};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

/// `PARSERS_CASES` sets another number of cases.
fn config(cases: u32) -> Config {
    let cases = std::env::var("PARSERS_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    Config { cases, failure_persistence: None, ..Config::default() }
}

#[test]
fn random_bytes_as_programs() {
    let mut runner = TestRunner::new(config(3000));
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    let result = runner.run(&bytes, |bytes| {
        drive::run_bytes(&bytes);
        Ok(())
    });
    result.expect("nothing happens");
}

/// Every instruction there is, with operands that are often sensible.
fn instruction() -> impl Strategy<Value = Insn> {
    let sources = [0, REG];
    let widths = [size::B, size::H, size::W, size::DW];
    let mut codes = Vec::new();
    for op in (0..=0xd0u8).step_by(0x10) {
        codes.extend(sources.map(|source| class::ALU | op | source));
        codes.extend(sources.map(|source| class::ALU64 | op | source));
        codes.extend(sources.map(|source| class::JMP | op | source));
        codes.extend(sources.map(|source| class::JMP32 | op | source));
    }
    for width in widths {
        let memory = [class::LDX, class::ST, class::STX].map(|class| class | mode::MEM | width);
        codes.extend(memory.into_iter().cycle().take(6));
        codes.extend([class::LDX | mode::MEMSX | width, class::STX | mode::ATOMIC | width]);
        codes.extend([mode::ABS, mode::IND].map(|mode| class::LD | mode | width));
    }
    codes.extend([class::JMP | jmp::CALL; 12]);
    let offset = prop_oneof![8 => -20..20i16, 1 => any::<i16>(), 1 => select(vec![-512, -520, 48, 76])];
    let helper = select(vec![1, 2, 3, 26, 68]);
    let operation = select(vec![atomic::ADD, atomic::XOR | atomic::FETCH, atomic::XCHG, atomic::CMPXCHG]);
    let imm = prop_oneof![4 => -16..64i32, 2 => any::<i32>(), 4 => helper, 2 => operation, 1 => Just(i32::MIN)];
    (select(codes), 0..11u8, 0..11u8, offset, imm).prop_map(|(code, dst, src, off, imm)| tidy(code, dst, src, off, imm))
}

/// Clears the fields that an instruction does not use: otherwise hardly one program would be taken.
fn tidy(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    let mut insn = Insn { code, dst, src, off, imm };
    match (insn.class(), insn.op()) {
        (class::ALU | class::ALU64, op) => {
            insn.off = 0;
            match (op, insn.is_reg()) {
                (alu::NEG, _) => insn = Insn { code: code & !REG, dst, ..Insn::default() },
                (alu::END, _) => insn = Insn { code: class::ALU | alu::END, dst, imm: 32, ..Insn::default() },
                (_, true) => insn.imm = 0,
                (_, false) => (insn.src, insn.imm) = (0, imm & 31 | 1),
            }
        }
        (class::LDX, _) => insn.imm = 0,
        (class::ST, _) => insn.src = 0,
        (class::STX, _) if insn.mode() == mode::MEM => insn.imm = 0,
        (class::LD, _) => {
            insn = Insn { code, dst: 0, src: if insn.mode() == mode::IND { src } else { 0 }, off: 0, imm };
        }
        (class::JMP | class::JMP32, jmp::CALL | jmp::EXIT) => {
            let local = insn.op() == jmp::CALL && src > 8;
            let imm = if insn.op() == jmp::EXIT { 0 } else { imm };
            insn = Insn { code: class::JMP | insn.op(), dst: 0, src: u8::from(local), off: 0, imm };
        }
        (class::JMP | class::JMP32, jmp::JA) => insn = Insn { code: class::JMP, off: off.max(-6), ..Insn::default() },
        (class::JMP | class::JMP32, _) if insn.is_reg() => insn.imm = 0,
        (class::JMP | class::JMP32, _) => insn.src = 0,
        _ => {}
    }
    insn
}

/// A program whose registers all hold pointers of which the checker has lost sight, since they come from the stack.
fn with_pointers(body: &[Insn]) -> Vec<Insn> {
    let insn = |code, dst, src, off, imm| Insn { code, dst, src, off, imm };
    let wide = |dst, src, imm, high| [insn(class::LD | mode::IMM | size::DW, dst, src, 0, imm), insn(0, 0, 0, 0, high)];
    let mut program = Vec::new();
    program.push(insn(class::ALU64 | alu::MOV | REG, 6, 1, 0, 0));
    program.push(insn(class::ALU64 | alu::MOV | REG, 2, 10, 0, 0));
    program.extend(wide(3, pseudo::MAP_FD, 0, 0));
    program.extend(wide(4, pseudo::MAP_FD, 1, 0));
    program.extend(wide(5, pseudo::MAP_VALUE, 2, 4));
    program.extend(wide(0, 0, 0, 0x10));
    program.push(insn(class::ALU64 | alu::MOV, 7, 0, 0, 4));
    program.push(insn(class::ALU64 | alu::MOV, 8, 0, 0, -1));
    program.push(insn(class::ALU64 | alu::MOV | REG, 9, 10, 0, 0));
    for reg in 0..10 {
        let at = -8 - 8 * i16::from(reg);
        program.push(insn(class::STX | mode::MEM | size::DW, 10, reg, at, 0));
    }
    for reg in 0..10 {
        let at = -8 - 8 * i16::from(reg);
        program.push(insn(class::LDX | mode::MEM | size::DW, reg, 10, at, 0));
    }
    program.extend(body);
    program.push(insn(class::ALU64 | alu::MOV, 0, 0, 0, 0));
    program.push(insn(class::JMP | jmp::EXIT, 0, 0, 0, 0));
    program
}

#[test]
fn programs_that_the_checker_cannot_see_through() {
    let (taken, faults, asked) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(config(2000));
    let case = (prop::collection::vec(instruction(), 1..8), prop::collection::vec(any::<u8>(), 0..80));
    let result = runner.run(&case, |(body, message)| {
        asked.set(asked.get() + 1);
        if let Ok(outcome) = drive::run(&with_pointers(&body), &message) {
            taken.set(taken.get() + 1);
            faults.set(faults.get() + i32::from(outcome.is_err()));
        }
        Ok(())
    });
    result.expect("nothing happens");
    let (taken, faults, asked) = (taken.get(), faults.get(), asked.get());
    eprintln!("{taken} of {asked} programs were taken, {faults} faulted");
    assert!(taken * 8 > asked, "{taken} of {asked} programs are too few to say much");
    assert!(faults * 20 > taken && faults < taken, "{faults} faults");
}

#[test]
fn damaged_objects() {
    let objects = [registry::KNOWN[0].object, registry::KNOWN[1].object, include_bytes!("../objects/maps.o")];
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let cut = prop_oneof![4 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    let mut runner = TestRunner::new(config(6000));
    let result = runner.run(&(select(objects.to_vec()), damage, cut), |(object, damage, cut)| {
        let mut bytes = object.to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        if let Ok(parser) = object::read(&bytes, None) {
            let _ = parser.load();
        }
        Ok(())
    });
    result.expect("nothing happens");
}

#[test]
fn damaged_encoded_parsers() {
    let parser = object::read(include_bytes!("../objects/maps.o"), None).expect("a parser");
    let whole = parser.to_bytes();
    let damage = (any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>());
    let mut runner = TestRunner::new(config(2000));
    let result = runner.run(&damage, |(at, value, cut)| {
        let mut bytes = whole.clone();
        prop_assert!(Parser::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(parser) = Parser::from_bytes(&bytes)
            && let Ok(program) = parser.load()
        {
            let _ = program.run(&[0u8; 20][..], &Default::default());
        }
        Ok(())
    });
    result.expect("nothing happens");
}
