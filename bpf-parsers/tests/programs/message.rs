//! What programs read of a message, and of its context.

use super::{EXIT, NOTHING, add, call, copy, insn, load, load_program, mov, refused, run, store};
use preloop_parsers::errno::EACCES;
use preloop_parsers::insn::{Insn, REG, alu, class, jmp, mode, pseudo, size};
use preloop_parsers::{Fault, Fields};

#[test]
fn loads_past_the_end_answer_zero() {
    // So do loads from before the message, where the kernel keeps headers.
    for offset in [-1, -0x1000 + 4, i32::MIN] {
        let program = [copy(6, 1), insn(class::LD | mode::ABS | size::B, 0, 0, 0, offset), mov(0, 5), EXIT];
        assert_eq!(run(&program, &[1; 16]), Ok(0), "{offset}");
    }
    let program = |offset| [copy(6, 1), insn(class::LD | mode::IND | size::H, 0, 7, 0, offset), EXIT];
    let with = |base, offset| [&[mov(7, base)][..], &program(offset)].concat();
    let message = [1, 2, 3, 4];
    assert_eq!(run(&with(0, 2), &message), Ok(0x0304));
    for (base, offset) in [(0, 3), (-1, 0), (3, 0), (i32::MAX, 1), (-4096, 0), (-0x10_0000, 0), (-0x20_0000, 0)] {
        assert_eq!(run(&with(base, offset), &message), Ok(0), "{base} {offset}");
    }
    // In a function it ends the function.
    let nested = [
        insn(class::JMP | jmp::CALL, 0, pseudo::CALL, 0, 2),
        add(0, 3),
        EXIT,
        copy(6, 1),
        insn(class::LD | mode::ABS | size::W, 0, 0, 0, 1),
        mov(0, 9),
        EXIT,
    ];
    assert_eq!(run(&nested, &message), Ok(3));
}

#[test]
fn load_bytes() {
    let program = |helper, offset, len| {
        let fill = insn(class::ST | mode::MEM | size::DW, 10, 0, -8, -1);
        let arguments = [mov(2, offset), copy(3, 10), add(3, -8), mov(4, len), mov(5, 1), call(helper)];
        let sum = [load(size::DW, 1, 10, -8), insn(class::ALU64 | alu::XOR | REG, 0, 1, 0, 0), EXIT];
        [&[fill][..], &arguments, &sum].concat()
    };
    let message = [1, 2, 3, 4, 5];
    assert_eq!(run(&program(26, 1, 4), &message), Ok(0x0504_0302));
    let failed = -14i32 as u32;
    assert_eq!(run(&program(26, 2, 4), &message), Ok(failed), "what was not read is zero");
    assert_eq!(run(&program(26, -1, 4), &message), Ok(failed));
    assert_eq!(run(&program(26, 0, 0), &message), Err(Fault::Argument));
    assert_eq!(run(&program(26, 0, 9), &message), Err(Fault::Memory));
    // A message has no headers.
    assert_eq!(run(&program(68, 0, 4), &message), Ok(failed));
}

#[test]
fn programs_that_read_fields_say_so() {
    let reads = |insns: &[Insn]| load_program(insns).expect("a program").reads_fields();
    let message = insn(class::LD | mode::ABS | size::B, 0, 0, 0, 0);
    for insns in [
        &[mov(0, 0), EXIT][..],
        &[copy(6, 1), message, EXIT],
        &[load(size::W, 0, 1, 0), EXIT],
        &[load(size::B, 0, 1, 3), EXIT],
        &[load(size::W, 0, 1, 48), EXIT],
        &[load(size::DW, 0, 1, 56), EXIT],
        &[load(size::DW, 0, 1, 168), mov(0, 0), EXIT],
        &[store(size::DW, 10, 1, -8), load(size::B, 0, 10, -8), EXIT],
    ] {
        assert!(!reads(insns), "{insns:?}");
    }
    for insns in [
        &[load(size::W, 0, 1, 16), EXIT][..],
        &[load(size::B, 0, 1, 17), EXIT],
        &[load(size::W, 0, 1, 176), EXIT],
        &[copy(6, 1), message, load(size::W, 0, 6, 68), EXIT],
        &[add(1, 16), load(size::W, 0, 1, 0), EXIT],
        // By way of the stack nobody knows any more what it is.
        &[store(size::DW, 10, 1, -8), load(size::DW, 2, 10, -8), load(size::W, 0, 2, 0), EXIT],
    ] {
        assert!(reads(insns), "{insns:?}");
    }
}

#[test]
fn the_packets_socket_is_null() {
    let jump_if_null = insn(class::JMP | jmp::JEQ, 0, 0, 1, 0);
    let guarded = [load(size::DW, 0, 1, 168), jump_if_null, load(size::W, 0, 0, 4), EXIT];
    assert_eq!(run(&guarded, NOTHING), Ok(0));
    let unguarded = [load(size::DW, 0, 1, 168), load(size::W, 0, 0, 4), EXIT];
    assert_eq!(run(&unguarded, NOTHING), Err(Fault::Memory));
    assert_eq!(refused(&[load(size::W, 0, 1, 168), EXIT]).0, EACCES);
    assert_eq!(refused(&[mov(0, 0), store(size::DW, 1, 0, 168), EXIT]).0, EACCES);
}

#[test]
fn fields_of_the_context() {
    let fields = Fields { mark: 0x0102_0304, protocol: 0x0508, ..Fields::default() };
    let field = |width, off| {
        let program = load_program(&[load(width, 0, 1, off), EXIT]).expect("a program");
        program.run(&[0; 7][..], &fields).expect("a value")
    };
    assert_eq!(field(size::W, 0), 7);
    assert_eq!(field(size::W, 8), 0x0102_0304);
    assert_eq!(field(size::H, 10), 0x0102);
    assert_eq!(field(size::B, 9), 3);
    assert_eq!(field(size::W, 16), 0x0508);
    assert_eq!(field(size::H, 18), 0x0508, "as in the kernel, whose field has two bytes");
    assert_eq!(field(size::B, 17), 5);
    assert_eq!(field(size::DW, 48), 0);
}
