//! What is refused at load, with which number and words.

use super::{EXIT, add, call, copy, insn, load, map, mov, refused, run, store};
use preloop_parsers::MAX_INSNS;
use preloop_parsers::errno::{E2BIG, EACCES, EBADF, EINVAL};
use preloop_parsers::insn::{Insn, REG, alu, class, jmp, mode, pseudo, size};

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
