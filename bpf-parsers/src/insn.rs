//! eBPF instructions as `bpf(2)` takes them: eight bytes each (`struct bpf_insn` of `linux/bpf.h`, and the
//! kernel's `Documentation/bpf/standardization/instruction-set.rst`).

/// Size of an encoded instruction in bytes.
pub const INSN_BYTES: usize = 8;

/// One instruction, little-endian, as clang's `bpfel` target and every program of a little-endian machine has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Insn {
    /// Operation code: class in the low three bits.
    pub code: u8,
    /// Destination register, 0 to 15.
    pub dst: u8,
    /// Source register, 0 to 15; in some instructions a kind.
    pub src: u8,
    /// Offset of a jump (in instructions) or of a memory access (in bytes).
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

impl Insn {
    /// Decodes eight bytes.
    pub const fn from_bytes(bytes: [u8; INSN_BYTES]) -> Self {
        let [code, regs, o0, o1, i0, i1, i2, i3] = bytes;
        Self {
            code,
            dst: regs & 0x0f,
            src: regs >> 4,
            off: i16::from_le_bytes([o0, o1]),
            imm: i32::from_le_bytes([i0, i1, i2, i3]),
        }
    }

    /// Encodes to eight bytes.
    pub const fn to_bytes(self) -> [u8; INSN_BYTES] {
        let [o0, o1] = self.off.to_le_bytes();
        let [i0, i1, i2, i3] = self.imm.to_le_bytes();
        [self.code, (self.dst & 0x0f) | (self.src << 4), o0, o1, i0, i1, i2, i3]
    }

    /// Decodes a program; `None` when the length is no multiple of [`INSN_BYTES`].
    pub fn decode(bytes: &[u8]) -> Option<Vec<Self>> {
        let (insns, rest) = bytes.as_chunks::<INSN_BYTES>();
        rest.is_empty().then(|| insns.iter().map(|insn| Self::from_bytes(*insn)).collect())
    }

    /// Encodes a program.
    pub fn encode(insns: &[Self]) -> Vec<u8> {
        insns.iter().flat_map(|insn| insn.to_bytes()).collect()
    }

    /// The class, one of [`class`].
    pub const fn class(self) -> u8 {
        self.code & 0x07
    }

    /// The operation of an arithmetic or jump instruction, one of [`alu`] or [`jmp`].
    pub const fn op(self) -> u8 {
        self.code & 0xf0
    }

    /// The width of a memory instruction, one of [`size`].
    pub const fn size(self) -> u8 {
        self.code & 0x18
    }

    /// The mode of a memory instruction, one of [`mode`].
    pub const fn mode(self) -> u8 {
        self.code & 0xe0
    }

    /// Whether the second operand of an arithmetic or jump instruction is a register.
    pub const fn is_reg(self) -> bool {
        self.code & REG != 0
    }

    /// Whether this is the first half of the only instruction that takes two places, `BPF_LD | BPF_IMM | BPF_DW`.
    pub const fn is_wide(self) -> bool {
        self.code == class::LD | mode::IMM | size::DW
    }

    /// The width of a memory instruction in bytes.
    pub const fn width(self) -> u32 {
        match self.size() {
            size::B => 1,
            size::H => 2,
            size::W => 4,
            _ => 8,
        }
    }
}

/// The second operand is a register (`BPF_X`); clear: it is the immediate (`BPF_K`).
pub const REG: u8 = 0x08;

/// Instruction classes.
pub mod class {
    #![allow(missing_docs)]
    pub const LD: u8 = 0x00;
    pub const LDX: u8 = 0x01;
    pub const ST: u8 = 0x02;
    pub const STX: u8 = 0x03;
    pub const ALU: u8 = 0x04;
    pub const JMP: u8 = 0x05;
    pub const JMP32: u8 = 0x06;
    pub const ALU64: u8 = 0x07;
}

/// Widths of memory instructions.
pub mod size {
    #![allow(missing_docs)]
    pub const W: u8 = 0x00;
    pub const H: u8 = 0x08;
    pub const B: u8 = 0x10;
    pub const DW: u8 = 0x18;
}

/// Modes of memory instructions.
pub mod mode {
    #![allow(missing_docs)]
    pub const IMM: u8 = 0x00;
    pub const ABS: u8 = 0x20;
    pub const IND: u8 = 0x40;
    pub const MEM: u8 = 0x60;
    /// Sign-extending load (instruction set version 4).
    pub const MEMSX: u8 = 0x80;
    pub const ATOMIC: u8 = 0xc0;
}

/// Arithmetic operations.
pub mod alu {
    #![allow(missing_docs)]
    pub const ADD: u8 = 0x00;
    pub const SUB: u8 = 0x10;
    pub const MUL: u8 = 0x20;
    pub const DIV: u8 = 0x30;
    pub const OR: u8 = 0x40;
    pub const AND: u8 = 0x50;
    pub const LSH: u8 = 0x60;
    pub const RSH: u8 = 0x70;
    pub const NEG: u8 = 0x80;
    pub const MOD: u8 = 0x90;
    pub const XOR: u8 = 0xa0;
    pub const MOV: u8 = 0xb0;
    pub const ARSH: u8 = 0xc0;
    pub const END: u8 = 0xd0;
}

/// Jumps, calls and the exit.
pub mod jmp {
    #![allow(missing_docs)]
    pub const JA: u8 = 0x00;
    pub const JEQ: u8 = 0x10;
    pub const JGT: u8 = 0x20;
    pub const JGE: u8 = 0x30;
    pub const JSET: u8 = 0x40;
    pub const JNE: u8 = 0x50;
    pub const JSGT: u8 = 0x60;
    pub const JSGE: u8 = 0x70;
    pub const CALL: u8 = 0x80;
    pub const EXIT: u8 = 0x90;
    pub const JLT: u8 = 0xa0;
    pub const JLE: u8 = 0xb0;
    pub const JSLT: u8 = 0xc0;
    pub const JSLE: u8 = 0xd0;
}

/// Atomic operations, in the immediate of `BPF_STX | BPF_ATOMIC`.
pub mod atomic {
    #![allow(missing_docs)]
    /// Bit: the old value goes to the source register.
    pub const FETCH: i32 = 0x01;
    pub const ADD: i32 = 0x00;
    pub const OR: i32 = 0x40;
    pub const AND: i32 = 0x50;
    pub const XOR: i32 = 0xa0;
    pub const XCHG: i32 = 0xe0 | FETCH;
    pub const CMPXCHG: i32 = 0xf0 | FETCH;
}

/// What the source register means in the wide load.
pub mod pseudo {
    #![allow(missing_docs)]
    pub const MAP_FD: u8 = 1;
    pub const MAP_VALUE: u8 = 2;
    pub const MAP_IDX: u8 = 5;
    pub const MAP_IDX_VALUE: u8 = 6;
    /// In a call: to a function of the program itself.
    pub const CALL: u8 = 1;
}
