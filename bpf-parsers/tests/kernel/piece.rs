//! Random programs, as pieces that can be left out one by one when a failing one is made smaller.

use preloop_parsers::insn::{alu, jmp};
use proptest::prelude::*;
use proptest::sample::select;

/// A second operand.
#[derive(Clone, Copy, Debug)]
pub enum Operand {
    Reg(u8),
    Imm(i32),
}

/// A part of a program. Registers are among R0 to R5, R7 and R8, which hold numbers between pieces; offsets of the
/// stack are from the start of its area for data.
#[derive(Clone, Debug)]
pub enum Piece {
    Alu {
        wide: bool,
        op: u8,
        dst: u8,
        operand: Operand,
    },
    /// Instruction set version 4.
    SignedDivision {
        wide: bool,
        op: u8,
        dst: u8,
        operand: Operand,
    },
    SignedMove {
        wide: bool,
        bits: i16,
        dst: u8,
        src: u8,
    },
    Swap {
        bits: i32,
        dst: u8,
    },
    SignedLoad {
        width: u8,
        at: i16,
        dst: u8,
    },
    Negate {
        wide: bool,
        dst: u8,
    },
    Endian {
        big: bool,
        bits: i32,
        dst: u8,
    },
    Number {
        dst: u8,
        value: u64,
    },
    Store {
        width: u8,
        at: i16,
        operand: Operand,
    },
    Load {
        width: u8,
        at: i16,
        dst: u8,
    },
    Atomic {
        wide: bool,
        op: i32,
        at: i16,
        src: u8,
    },
    Context {
        offset: i16,
        width: u8,
        dst: u8,
    },
    StoreCb {
        at: i16,
        width: u8,
        src: u8,
    },
    Absolute {
        width: u8,
        offset: i32,
    },
    /// From `register & mask + offset`.
    Indirect {
        width: u8,
        src: u8,
        mask: i32,
        offset: i32,
    },
    LoadBytes {
        offset: Operand,
        mask: i32,
        at: i16,
        len: i32,
    },
    Lookup {
        map: u8,
        key: u8,
        wide: bool,
        operand: Operand,
    },
    LookupAtomic {
        map: u8,
        key: u8,
        wide: bool,
        op: i32,
        src: u8,
    },
    Update {
        map: u8,
        key: u8,
        flags: i32,
    },
    Delete {
        map: u8,
        key: u8,
    },
    If {
        wide: bool,
        op: u8,
        dst: u8,
        operand: Operand,
        then: Vec<Piece>,
        otherwise: Vec<Piece>,
    },
    Loop {
        count: i32,
        body: Vec<Piece>,
    },
    Call {
        body: Vec<Piece>,
    },
}

/// Bytes of the stack's area for data.
pub const DATA: i16 = 64;
/// How many kinds of maps a program has: 0 is an array, 1 a hash map.
pub const MAPS: u8 = 2;
/// Keys are below this.
pub const KEYS: i32 = 8;

fn register() -> impl Strategy<Value = u8> + Clone {
    prop_oneof![9 => 0..6u8, 1 => select(vec![7, 8])]
}

/// R7 and R8, which begin as the values that are most telling, are seldom written and often read.
fn source() -> impl Strategy<Value = u8> + Clone {
    prop_oneof![3 => 0..6u8, 1 => Just(7), 1 => Just(8)]
}

fn immediate() -> impl Strategy<Value = i32> + Clone {
    let edges = vec![0, 1, -1, 2, 7, 31, 32, 63, 64, 255, 0x7fff, 0x8000, i32::MAX, i32::MIN, -2];
    prop_oneof![any::<i32>(), select(edges), -9..9]
}

fn operand() -> impl Strategy<Value = Operand> + Clone {
    prop_oneof![source().prop_map(Operand::Reg), immediate().prop_map(Operand::Imm)]
}

fn width() -> impl Strategy<Value = u8> + Clone {
    select(vec![1u8, 2, 4, 8])
}

fn place(width: u8) -> impl Strategy<Value = i16> {
    (0..DATA / i16::from(width)).prop_map(move |index| index * i16::from(width))
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), select(vec![0, 1, u64::MAX, 1 << 31, 1 << 32, 1 << 63, (1 << 63) - 1]), 0..100u64]
}

fn arithmetic() -> impl Strategy<Value = Piece> {
    use alu::*;
    let op = select(vec![ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, MOD, XOR, MOV, ARSH]);
    (any::<bool>(), op, register(), operand()).prop_map(|(wide, op, dst, operand)| {
        let operand = match (op, operand) {
            (LSH | RSH | ARSH, Operand::Imm(imm)) => Operand::Imm(imm & if wide { 63 } else { 31 }),
            (DIV | MOD, Operand::Imm(0)) => Operand::Imm(3),
            (_, operand) => operand,
        };
        Piece::Alu { wide, op, dst, operand }
    })
}

fn version_4() -> impl Strategy<Value = Piece> {
    let division = (any::<bool>(), select(vec![alu::DIV, alu::MOD]), register(), operand()).prop_map(
        |(wide, op, dst, operand)| {
            let operand = if let Operand::Imm(0) = operand { Operand::Imm(-3) } else { operand };
            Piece::SignedDivision { wide, op, dst, operand }
        },
    );
    let moved = (any::<bool>(), select(vec![8, 16, 32]), register(), source())
        .prop_map(|(wide, bits, dst, src)| Piece::SignedMove { wide: wide || bits == 32, bits, dst, src });
    let swap = (select(vec![16, 32, 64]), register()).prop_map(|(bits, dst)| Piece::Swap { bits, dst });
    let load = select(vec![1u8, 2, 4]).prop_flat_map(|width| (Just(width), place(width), register()));
    let load = load.prop_map(|(width, at, dst)| Piece::SignedLoad { width, at, dst });
    prop_oneof![division, moved, swap, load]
}

fn memory() -> impl Strategy<Value = Piece> {
    let store = width().prop_flat_map(|width| (Just(width), place(width), operand()));
    let load = width().prop_flat_map(|width| (Just(width), place(width), register()));
    prop_oneof![
        store.prop_map(|(width, at, operand)| Piece::Store { width, at, operand }),
        load.prop_map(|(width, at, dst)| Piece::Load { width, at, dst }),
        (any::<bool>(), atomic(), place(8), source()).prop_map(|(wide, op, at, src)| Piece::Atomic {
            wide,
            op,
            at,
            src
        }),
    ]
}

fn atomic() -> impl Strategy<Value = i32> {
    use preloop_parsers::insn::atomic::*;
    select(vec![ADD, OR, AND, XOR, ADD | FETCH, OR | FETCH, AND | FETCH, XOR | FETCH, XCHG, CMPXCHG])
}

/// Offset and widths of the context's fields whose values the test knows.
const FIELDS: [i16; 14] = [0, 4, 8, 12, 16, 20, 24, 32, 36, 40, 44, 68, 84, 164];

fn context() -> impl Strategy<Value = Piece> {
    let narrow = (select(FIELDS.to_vec()), select(vec![1u8, 2, 4]), 0..4i16, register());
    let cb = width().prop_flat_map(|width| (Just(width), 0..20 / i16::from(width), register()));
    let cb = cb.prop_map(|(width, index, reg)| {
        // An eight-byte access is aligned in the context, which `cb` begins at a multiple of eight.
        (width, index * i16::from(width), reg)
    });
    prop_oneof![
        narrow.prop_map(|(offset, width, part, dst)| {
            let part = part / i16::from(width) * i16::from(width);
            Piece::Context { offset: offset + part, width, dst }
        }),
        cb.clone().prop_map(|(width, at, dst)| Piece::Context { offset: 48 + at, width, dst }),
        cb.prop_map(|(width, at, src)| Piece::StoreCb { at, width, src }),
    ]
}

fn packet() -> impl Strategy<Value = Piece> {
    let near = prop_oneof![30 => 0..40i32, 1 => 40..200i32, 1 => select(vec![i32::MAX, 0xffff, 1 << 20])];
    let mask = select(vec![0, 1, 7, 31, 63]);
    let offset = prop_oneof![near.clone().prop_map(Operand::Imm), register().prop_map(Operand::Reg)];
    let bytes = (offset, mask.clone(), 0..DATA, 1..DATA as i32).prop_map(|(offset, mask, at, len)| Piece::LoadBytes {
        offset,
        mask,
        at,
        len: len.min(i32::from(DATA - at)),
    });
    let width = select(vec![1u8, 2, 4]);
    prop_oneof![
        (width.clone(), near.clone()).prop_map(|(width, offset)| Piece::Absolute { width, offset }),
        (width, register(), mask, prop_oneof![12 => near, 1 => -3..0i32])
            .prop_map(|(width, src, mask, offset)| Piece::Indirect { width, src, mask, offset }),
        bytes,
    ]
}

fn maps() -> impl Strategy<Value = Piece> {
    let map = 0..MAPS;
    prop_oneof![
        (map.clone(), register(), any::<bool>(), operand()).prop_map(|(map, key, wide, operand)| Piece::Lookup {
            map,
            key,
            wide,
            operand
        }),
        (map.clone(), register(), any::<bool>(), atomic(), register())
            .prop_map(|(map, key, wide, op, src)| Piece::LookupAtomic { map, key, wide, op, src }),
        (map.clone(), register(), 0..4i32).prop_map(|(map, key, flags)| Piece::Update { map, key, flags }),
        (map, register()).prop_map(|(map, key)| Piece::Delete { map, key }),
    ]
}

fn leaf(v4: bool) -> BoxedStrategy<Piece> {
    let basic = prop_oneof![
        6 => arithmetic(),
        1 => (any::<bool>(), register()).prop_map(|(wide, dst)| Piece::Negate { wide, dst }),
        1 => (any::<bool>(), select(vec![16, 32, 64]), register())
            .prop_map(|(big, bits, dst)| Piece::Endian { big, bits, dst }),
        1 => (register(), number()).prop_map(|(dst, value)| Piece::Number { dst, value }),
        4 => memory(),
        2 => context(),
        3 => packet(),
        2 => maps(),
    ];
    if v4 { prop_oneof![8 => basic, 1 => version_4()].boxed() } else { basic.boxed() }
}

/// A program without branches of its own, all of which the kernel's verifier looks at.
pub fn straight() -> impl Strategy<Value = Vec<Piece>> {
    prop::collection::vec(leaf(false), 1..16)
}

/// A program; with `v4`, of instruction set version 4, which Linux 6.1 does not know.
pub fn program(v4: bool) -> impl Strategy<Value = Vec<Piece>> {
    use jmp::*;
    let piece = leaf(v4).prop_recursive(3, 40, 6, |inner| {
        let body = prop::collection::vec(inner.clone(), 0..6);
        let op = select(vec![JEQ, JGT, JGE, JSET, JSET, JNE, JSGT, JSGE, JLT, JLE, JSLT, JSLE]);
        prop_oneof![
            8 => inner,
            3 => (any::<bool>(), op, register(), operand(), body.clone(), body.clone()).prop_map(
                |(wide, op, dst, operand, then, otherwise)| Piece::If { wide, op, dst, operand, then, otherwise }),
            1 => (1..5i32, body.clone()).prop_map(|(count, body)| Piece::Loop { count, body }),
            1 => body.prop_map(|body| Piece::Call { body }),
        ]
    });
    prop::collection::vec(piece, 1..24)
}
