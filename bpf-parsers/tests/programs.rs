//! Programs by hand: what is refused at load, with which number and words; what faults; limits; maps.
#![forbid(unsafe_code)]

use std::sync::Arc;

use preloop_parsers::errno::{E2BIG, EACCES, EBADF, EEXIST, EINVAL, ENOENT, ENOTSUPP};
use preloop_parsers::insn::{Insn, REG, alu, atomic, class, jmp, mode, pseudo, size};
use preloop_parsers::maps::{BPF_ANY, BPF_EXIST, BPF_NOEXIST, Map, MapDef, MapKind};
use preloop_parsers::{Fault, Fields, MAX_INSNS, MapRef, Program, Rejected, Verdict};

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

#[test]
fn malformed_programs_are_refused_in_the_verifiers_words() {
    let jump = |off| insn(class::JMP | jmp::JA, 0, 0, off, 0);
    let cases: [(&[Insn], &str); 17] = [
        (&[mov(0, 0)], "last insn is not an exit or jmp"),
        (&[insn(0xff, 0, 0, 0, 0), EXIT], "invalid BPF_ALU opcode f0"),
        (&[insn(class::LDX, 0, 0, 0, 0), EXIT], "unknown opcode 01"),
        (&[mov(11, 0), EXIT], "R11 is invalid"),
        (&[jump(5), EXIT], "jump out of range from insn 0 to 6"),
        (&[jump(-9), EXIT], "jump out of range from insn 0 to -8"),
        (&[mov(0, 0), EXIT, EXIT], "unreachable insn 2"),
        (&[insn(class::ALU64 | alu::DIV, 0, 0, 0, 0), EXIT], "div by zero"),
        (&[insn(class::ALU | alu::LSH, 0, 0, 0, 32), EXIT], "invalid shift 32"),
        (&[insn(class::ALU64 | alu::ADD | REG, 0, 0, 0, 1), EXIT], "BPF_ALU uses reserved fields"),
        (&[insn(class::STX | mode::ATOMIC | size::W, 10, 0, -4, 0x33), EXIT], "invalid atomic opcode 33"),
        (&[call(12), EXIT], "unknown func #12"),
        (&[insn(class::JMP | jmp::CALL, 0, pseudo::CALL, 0, 9), EXIT], "call to invalid destination"),
        (&[insn(class::LD | mode::IMM | size::DW, 0, 0, 0, 0), EXIT], "invalid bpf_ld_imm64 insn"),
        (&[insn(class::LD | mode::IMM | size::DW, 0, 3, 0, 0), insn(0, 0, 0, 0, 0), EXIT], "unrecognized bpf_ld_imm64"),
        (&[mov(6, 0), insn(class::LD | mode::ABS | size::W, 0, 0, 0, 0), EXIT], "R6 != pointer to skb"),
        (
            &[
                insn(class::JMP | jmp::JEQ, 1, 0, 1, 0),
                insn(class::LD | mode::IMM | size::DW, 0, 0, 0, 0),
                insn(0, 0, 0, 0, 0),
                EXIT,
            ],
            "jump into the middle of ldimm64 insn 1",
        ),
    ];
    for (insns, words) in cases {
        let (errno, log) = refused(insns);
        assert!(errno == EINVAL && log.contains(words) && log.ends_with('\n'), "{errno} {log:?}, not {words:?}");
    }
    let (errno, log) = refused(&[&map(1, 9)[..], &[mov(0, 0), EXIT]].concat());
    assert_eq!((errno, log.as_str()), (EBADF, "0: fd 9 is not pointing to valid bpf_map\n"));
}

#[test]
fn a_program_has_1_to_4096_instructions() {
    assert_eq!(refused(&[]).0, E2BIG);
    let mut longest = vec![mov(0, 7); MAX_INSNS - 1];
    longest.push(EXIT);
    assert_eq!(run(&longest, &[]), Ok(7));
    longest.insert(0, mov(0, 1));
    assert_eq!(refused(&longest).0, E2BIG);
}

#[test]
fn certain_violations_are_refused() {
    let lookup = [&[insn(class::ST | mode::MEM | size::W, 10, 0, -4, 0)][..], &map(1, 3), &[copy(2, 10), add(2, -4)]];
    let lookup = [&lookup.concat()[..], &[call(1)]].concat();
    let after_lookup = |rest: &[Insn]| [&lookup[..], rest].concat();
    let null_check = insn(class::JMP | jmp::JEQ, 0, 0, 1, 0);
    let cases: Vec<(Vec<Insn>, &str)> = vec![
        (vec![EXIT], "R0 !read_ok"),
        (vec![copy(0, 7), EXIT], "R7 !read_ok"),
        (vec![mov(10, 0), EXIT], "frame pointer is read only"),
        (vec![copy(0, 1), EXIT], "R0 leaks addr as return value"),
        (vec![mov(0, 0), load(size::W, 0, 0, 0), EXIT], "R0 invalid mem access 'scalar'"),
        (vec![load(size::DW, 0, 10, -516), EXIT], "invalid read from stack R10 off=-516 size=8"),
        (vec![mov(0, 0), store(size::W, 10, 0, -2), EXIT], "invalid write to stack R10 off=-2 size=4"),
        (vec![load(size::W, 0, 1, 76), EXIT], "invalid bpf_context access off=76 size=4"),
        (vec![load(size::H, 0, 1, 1), EXIT], "invalid bpf_context access off=1 size=2"),
        (vec![load(size::DW, 0, 1, 0), EXIT], "invalid bpf_context access off=0 size=8"),
        (vec![mov(0, 0), store(size::W, 1, 0, 8), EXIT], "invalid bpf_context access off=8 size=4"),
        (vec![store(size::DW, 1, 10, 48), mov(0, 0), EXIT], "R10 leaks addr into ctx"),
        (vec![copy(0, 1), insn(class::ALU64 | alu::AND, 0, 0, 0, 1), EXIT], "pointer arithmetic prohibited"),
        (vec![copy(0, 1), insn(class::ALU | alu::ADD, 0, 0, 0, 1), EXIT], "32-bit pointer arithmetic prohibited"),
        (vec![mov(1, 0), mov(2, 0), copy(3, 10), mov(4, 1), call(26), EXIT], "R1 type=scalar expected=ctx"),
        (vec![copy(2, 10), call(1), mov(0, 0), EXIT], "R1 type=ctx expected=map_ptr"),
        (vec![call(26), EXIT], "R2 !read_ok"),
        (after_lookup(&[load(size::W, 0, 0, 0), EXIT]), "R0 invalid mem access 'map_value_or_null'"),
        (after_lookup(&[null_check, load(size::DW, 0, 0, 8), mov(0, 0), EXIT]), "value_size=12 off=8 size=8"),
        (after_lookup(&[mov(0, 0), copy(0, 1), EXIT]), "R1 !read_ok"),
    ];
    for (insns, words) in cases {
        let (errno, log) = refused(&insns);
        assert!(errno == EACCES && log.contains(words), "{errno} {log:?}, not {words:?}");
    }
    let good = after_lookup(&[null_check, load(size::W, 0, 0, 8), mov(0, 5), EXIT]);
    assert_eq!(run(&good, &[]), Ok(5));
}

/// A pointer that was on the stack is one that the checker lost sight of.
fn through_the_stack(pointer: u8) -> [Insn; 2] {
    [store(size::DW, 10, pointer, -8), load(size::DW, 9, 10, -8)]
}

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
fn read_only_values_stay() {
    let value = [insn(class::LD | mode::IMM | size::DW, 9, pseudo::MAP_VALUE, 0, 4), insn(0, 0, 0, 0, 4)];
    // Direct references are for arrays of one element.
    let of = |kind, entries| {
        let insns = [&value[..], &[mov(0, 0), EXIT]].concat();
        Program::load(&insns, |_| Map::new(def(kind, entries)).ok().map(Arc::new)).expect_err("refused").errno
    };
    assert_eq!([of(MapKind::Array, 2), of(MapKind::Hash, 1)], [ENOTSUPP, EINVAL]);
    let one = |insns: &[Insn]| {
        let def = MapDef { read_only: true, ..def(MapKind::Array, 1) };
        Program::load(insns, |_| Map::new(def).ok().map(Arc::new))
    };
    let write = [&value[..], &[mov(0, 0), store(size::W, 9, 0, 0), EXIT]].concat();
    assert!(one(&write).expect_err("refused").log.contains("write into map forbidden"));
    let [put, get] = through_the_stack(9);
    let hidden = [&value[..], &[put, get, mov(0, 0), store(size::W, 9, 0, 0), EXIT]].concat();
    assert_eq!(one(&hidden).expect("a program").run(NOTHING, &Fields::default()), Err(Fault::Memory));
    let read = [&value[..], &[load(size::DW, 0, 9, 0), EXIT]].concat();
    assert_eq!(one(&read).expect("a program").run(NOTHING, &Fields::default()), Ok(0));
    let beyond = [insn(class::LD | mode::IMM | size::DW, 9, pseudo::MAP_VALUE, 0, 4), insn(0, 0, 0, 0, 12)];
    assert_eq!(one(&[&beyond[..], &[mov(0, 0), EXIT]].concat()).expect_err("refused").errno, EINVAL);
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

#[test]
fn atomic_operations_on_values() {
    let array = Arc::new(Map::new(def(MapKind::Array, 1)).expect("a map"));
    let value = [insn(class::LD | mode::IMM | size::DW, 9, pseudo::MAP_VALUE, 0, 3), insn(0, 0, 0, 0, 0)];
    let operation = insn(class::STX | mode::ATOMIC | size::W, 9, 7, 8, atomic::ADD | atomic::FETCH);
    let insns = [&value[..], &[mov(7, -1), operation, copy(0, 7), EXIT]].concat();
    let program = Program::load(&insns, |_| Some(Arc::clone(&array))).expect("a program");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| assert!(program.run(NOTHING, &Fields::default()).is_ok())));
        }
    });
    let mut bytes = [0; 12];
    array.get(&[0; 4], &mut bytes).expect("a value");
    assert_eq!(bytes[8..], (-4000i32).to_le_bytes());
    assert_eq!(bytes[..8], [0; 8]);
}

#[test]
fn maps_answer_as_bpf_does() {
    let key = |number: u32| number.to_le_bytes();
    let array = Map::new(def(MapKind::Array, 2)).expect("a map");
    assert_eq!(array.update(&key(1), &[7; 12], BPF_NOEXIST), Err(EEXIST));
    assert_eq!(array.update(&key(1), &[7; 12], BPF_EXIST), Ok(()));
    assert_eq!(array.update(&key(2), &[7; 12], BPF_ANY), Err(E2BIG));
    assert_eq!(array.update(&key(1), &[7; 11], BPF_ANY), Err(EINVAL));
    assert_eq!(array.update(&key(1), &[7; 12], 3), Err(EINVAL));
    assert_eq!(array.delete(&key(1)), Err(EINVAL));
    let mut value = [0; 12];
    assert_eq!(array.get(&key(1), &mut value), Ok(()));
    assert_eq!(value, [7; 12]);
    assert_eq!(array.get(&key(2), &mut value), Err(ENOENT));
    assert_eq!(array.next_key(None), Ok(key(0).to_vec()));
    assert_eq!(array.next_key(Some(&key(0))), Ok(key(1).to_vec()));
    assert_eq!(array.next_key(Some(&key(1))), Err(ENOENT));
    assert_eq!(array.next_key(Some(&key(9))), Ok(key(0).to_vec()));

    let hash = Map::new(def(MapKind::Hash, 2)).expect("a map");
    assert_eq!(hash.next_key(None), Err(ENOENT));
    assert_eq!(hash.update(&key(5), &[1; 12], BPF_EXIST), Err(ENOENT));
    assert_eq!(hash.update(&key(5), &[1; 12], BPF_NOEXIST), Ok(()));
    assert_eq!(hash.update(&key(5), &[1; 12], BPF_NOEXIST), Err(EEXIST));
    assert_eq!(hash.update(&key(6), &[2; 12], BPF_ANY), Ok(()));
    assert_eq!(hash.update(&key(7), &[3; 12], BPF_ANY), Err(E2BIG));
    assert_eq!(hash.delete(&key(5)), Ok(()));
    assert_eq!(hash.delete(&key(5)), Err(ENOENT));
    assert_eq!(hash.update(&key(7), &[3; 12], BPF_ANY), Ok(()));
    assert_eq!(hash.next_key(None), Ok(key(6).to_vec()));
    assert_eq!(hash.next_key(Some(&key(6))), Ok(key(7).to_vec()));
    assert_eq!(hash.next_key(Some(&key(7))), Err(ENOENT));

    let wrong = |def| Map::new(def).err();
    assert_eq!(wrong(MapDef { key_size: 8, ..def(MapKind::Array, 1) }), Some(EINVAL));
    assert_eq!(wrong(MapDef { value_size: 0, ..def(MapKind::Hash, 1) }), Some(EINVAL));
    assert_eq!(wrong(def(MapKind::Hash, 0)), Some(EINVAL));
    assert_eq!(wrong(MapDef { key_size: 513, ..def(MapKind::Hash, 1) }), Some(E2BIG));
    assert_eq!(wrong(def(MapKind::Hash, u32::MAX)), Some(E2BIG));
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
