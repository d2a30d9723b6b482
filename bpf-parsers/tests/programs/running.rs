//! What faults, what ends, and what a run answers.

use std::sync::Arc;

use super::{EXIT, NOTHING, add, call, copy, insn, load, map, mov, refused, run, store, through_the_stack};
use preloop_parsers::insn::{REG, alu, class, jmp, mode, pseudo, size};
use preloop_parsers::maps::{Map, MapDef, MapKind};
use preloop_parsers::{Fault, Fields, Program, Verdict};

#[test]
fn what_the_checker_cannot_see_faults() {
    let [put, get] = through_the_stack(10);
    let below = [put, get, load(size::DW, 0, 9, -520), EXIT];
    assert_eq!(run(&below, &[]), Err(Fault::Memory));
    let above = [put, get, load(size::B, 0, 9, 0), EXIT];
    assert_eq!(run(&above, &[]), Err(Fault::Memory));
    let own = [put, get, load(size::DW, 0, 9, -512), EXIT];
    assert_eq!(run(&own, &[]), Ok(0));

    let [put, get] = through_the_stack(1);
    assert_eq!(run(&[put, get, load(size::W, 0, 9, 0), EXIT], b"four"), Ok(4));
    assert_eq!(run(&[put, get, load(size::W, 0, 9, 80), EXIT], &[]), Err(Fault::Memory));
    assert_eq!(run(&[put, get, mov(0, 0), store(size::W, 9, 0, 0), EXIT], &[]), Err(Fault::Memory));

    // The frame pointer instead of the context, and a number instead of a map.
    let [put, get] = through_the_stack(10);
    let no_context = [put, get, copy(6, 9), insn(class::LD | mode::ABS | size::B, 0, 0, 0, 0), EXIT];
    assert_eq!(run(&no_context, &[1]), Err(Fault::Argument));
    let no_map = [put, get, copy(1, 9), copy(2, 10), add(2, -8), call(1), mov(0, 0), EXIT];
    assert_eq!(run(&no_map, &[]), Err(Fault::Argument));

    // A pointer, shifted by what the message says.
    let wild = [
        copy(6, 1),
        insn(class::LD | mode::ABS | size::W, 0, 0, 0, 0),
        insn(class::ALU64 | alu::LSH, 0, 0, 0, 8),
        copy(9, 10),
        insn(class::ALU64 | alu::ADD | REG, 9, 0, 0, 0),
        load(size::DW, 0, 9, -8),
        EXIT,
    ];
    assert_eq!(run(&wild, &[0; 4]), Ok(0));
    for message in [[1, 0, 0, 0], [0, 0, 0, 1], [255; 4], [0x0f, 0, 0, 0]] {
        assert_eq!(run(&wild, &message), Err(Fault::Memory));
    }
}

#[test]
fn endless_programs_end() {
    let endless = [mov(0, 0), add(0, 1), insn(class::JMP | jmp::JA, 0, 0, -2, 0)];
    assert_eq!(run(&endless, &[]), Err(Fault::Steps));
    let counted = [mov(0, 0), add(0, 1), insn(class::JMP | jmp::JLT, 0, 0, -2, 300_000), EXIT];
    assert_eq!(run(&counted, &[]), Ok(300_000));
    // A function that calls itself, and one that is called for ever.
    let recursive = [
        insn(class::JMP | jmp::CALL, 0, pseudo::CALL, 0, 1),
        EXIT,
        insn(class::JMP | jmp::CALL, 0, pseudo::CALL, 0, -1),
        EXIT,
    ];
    assert_eq!(run(&recursive, &[]), Err(Fault::Depth));
    let repeated = [
        insn(class::JMP | jmp::CALL, 0, pseudo::CALL, 0, 2),
        insn(class::JMP | jmp::JA, 0, 0, -2, 0),
        EXIT,
        mov(0, 0),
        EXIT,
    ];
    assert_eq!(refused(&repeated).1, "2: unreachable insn 2\n");
    let repeated = [repeated[0], insn(class::JMP | jmp::JEQ, 0, 0, -2, 0), EXIT, mov(0, 0), EXIT];
    assert_eq!(run(&repeated, &[]), Err(Fault::Steps));
    // Large values cost their size.
    let lavish = |max_entries| {
        let value_size = 1 << 20;
        let def = MapDef { kind: MapKind::Array, key_size: 4, value_size, max_entries, read_only: false };
        let value = [insn(class::LD | mode::IMM | size::DW, 3, pseudo::MAP_VALUE, 0, 0), insn(0, 0, 0, 0, 0)];
        let key = [insn(class::ST | mode::MEM | size::W, 10, 0, -4, 0), copy(2, 10), add(2, -4), mov(4, 0)];
        let again = [call(2), insn(class::JMP | jmp::JEQ, 0, 0, -13, 0), EXIT];
        let insns = [&value[..], &map(1, 3), &key, &[mov(0, 0), mov(0, 0), mov(0, 0)], &again].concat();
        Program::load(&insns, |_| Map::new(def).ok().map(Arc::new))
    };
    assert_eq!(lavish(1).expect("a program").run(NOTHING, &Fields::default()), Err(Fault::Steps));
}

#[test]
fn functions_have_their_own_stack_and_keep_the_callers_registers() {
    let program = [
        mov(6, 5),
        insn(class::ST | mode::MEM | size::DW, 10, 0, -8, 7),
        copy(1, 10),
        insn(class::JMP | jmp::CALL, 0, pseudo::CALL, 0, 5),
        load(size::DW, 1, 10, -8),
        insn(class::ALU64 | alu::ADD | REG, 0, 1, 0, 0),
        insn(class::ALU64 | alu::MUL, 0, 0, 0, 100),
        insn(class::ALU64 | alu::ADD | REG, 0, 6, 0, 0),
        EXIT,
        // The function: its own stack is zero, the caller's can be reached.
        mov(6, 99),
        load(size::DW, 0, 10, -8),
        insn(class::ST | mode::MEM | size::DW, 10, 0, -8, 1000),
        load(size::DW, 2, 1, -8),
        insn(class::ALU64 | alu::ADD | REG, 0, 2, 0, 0),
        EXIT,
    ];
    assert_eq!(run(&program, &[]), Ok((7 + 7) * 100 + 5));
}

#[test]
fn results_are_read_as_the_kernels_strparser_does() {
    assert_eq!(Verdict::of(Ok(0)), Verdict::NeedMore);
    assert_eq!(Verdict::of(Ok(5)), Verdict::Length(5));
    assert_eq!(Verdict::of(Ok(i32::MAX as u32)), Verdict::Length(i32::MAX as u32));
    assert_eq!(Verdict::of(Ok(-71i32 as u32)), Verdict::Error(71));
    assert_eq!(Verdict::of(Ok(i32::MIN as u32)), Verdict::Error(1 << 31));
    assert_eq!(Verdict::of(Err(Fault::Memory)), Verdict::Error(14));
    // Bits above the 32nd are cut off.
    let high = [insn(class::LD | mode::IMM | size::DW, 0, 0, 0, 7), insn(0, 0, 0, 0, -1), EXIT];
    assert_eq!(Verdict::of(run(&high, &[])), Verdict::Length(7));
}
