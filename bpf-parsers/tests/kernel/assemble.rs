//! From pieces to instructions that the kernel's verifier takes.

use preloop_parsers::insn::{Insn, REG, alu, atomic, class, jmp, mode, pseudo, size};

use crate::piece::{DATA, KEYS, Operand, Piece};

/// The stack: data at the top, then loop counters, a key.
const COUNTERS: i16 = -DATA - 8;
const KEY: i16 = -DATA - 40;
const CONTEXT: u8 = 6;
const SCRATCH: u8 = 9;
const FRAME: u8 = 10;
/// The registers that hold numbers between pieces.
const NUMBERS: [u8; 8] = [0, 1, 2, 3, 4, 5, 7, 8];

/// The instructions of a program. Maps are referred to by number.
pub fn assemble(pieces: &[Piece]) -> Vec<Insn> {
    let mut asm = Assembler::default();
    asm.function(pieces, true);
    while let Some((call, body)) = asm.calls.pop() {
        asm.insns[call].imm = (asm.insns.len() - call - 1) as i32;
        asm.function(&body, false);
    }
    asm.insns
}

#[derive(Default)]
struct Assembler {
    insns: Vec<Insn>,
    calls: Vec<(usize, Vec<Piece>)>,
    in_main: bool,
    loops: i16,
}

impl Assembler {
    fn function(&mut self, pieces: &[Piece], main: bool) {
        self.in_main = main;
        if main {
            self.mov(CONTEXT, 1);
        }
        for (i, reg) in (0..).zip(NUMBERS) {
            self.mov_imm(reg, i * 0x0101_0107);
        }
        // Zero, and nothing but high bits: what operations of 32 and 64 bits differ in.
        self.mov_imm(7, 0);
        self.mov_imm(8, -1);
        self.put(class::ALU64 | alu::LSH, 8, 0, 0, 32);
        for word in 1..=DATA / 8 {
            self.put(class::ST | mode::MEM | size::DW, FRAME, 0, -8 * word, i32::from(word) * 77);
        }
        self.pieces(pieces);
        self.fold();
    }

    /// R0 becomes a sum over all that the program computed.
    fn fold(&mut self) {
        let mix = |asm: &mut Self, reg| {
            asm.put(class::ALU64 | alu::MUL, 0, 0, 0, 31);
            asm.put(class::ALU64 | alu::XOR | REG, 0, reg, 0, 0);
        };
        for reg in &NUMBERS[1..] {
            mix(self, *reg);
        }
        for word in 1..=DATA / 8 {
            self.put(class::LDX | mode::MEM | size::DW, SCRATCH, FRAME, -8 * word, 0);
            mix(self, SCRATCH);
        }
        self.mov(SCRATCH, 0);
        self.put(class::ALU64 | alu::RSH, SCRATCH, 0, 0, 32);
        self.put(class::ALU64 | alu::XOR | REG, 0, SCRATCH, 0, 0);
        self.put(class::JMP | jmp::EXIT, 0, 0, 0, 0);
    }

    fn pieces(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            self.piece(piece);
        }
    }

    fn piece(&mut self, piece: &Piece) {
        match piece {
            Piece::Alu { wide, op, dst, operand } => self.operation(alu_class(*wide) | op, *dst, 0, *operand),
            Piece::SignedDivision { wide, op, dst, operand } => {
                self.operation(alu_class(*wide) | op, *dst, 1, *operand);
            }
            Piece::SignedMove { wide, bits, dst, src } => {
                self.put(alu_class(*wide) | alu::MOV | REG, *dst, *src, *bits, 0);
            }
            Piece::Swap { bits, dst } => self.put(class::ALU64 | alu::END, *dst, 0, 0, *bits),
            Piece::SignedLoad { width, at, dst } => {
                self.put(class::LDX | mode::MEMSX | sized(*width), *dst, FRAME, data(*at), 0);
            }
            Piece::Negate { wide, dst } => self.put(alu_class(*wide) | alu::NEG, *dst, 0, 0, 0),
            Piece::Endian { big, bits, dst } => {
                self.put(class::ALU | alu::END | if *big { REG } else { 0 }, *dst, 0, 0, *bits);
            }
            Piece::Number { dst, value } => {
                self.put(class::LD | mode::IMM | size::DW, *dst, 0, 0, *value as i32);
                self.put(0, 0, 0, 0, (value >> 32) as i32);
            }
            Piece::Store { width, at, operand: Operand::Reg(src) } => {
                self.put(class::STX | mode::MEM | sized(*width), FRAME, *src, data(*at), 0);
            }
            Piece::Store { width, at, operand: Operand::Imm(imm) } => {
                self.put(class::ST | mode::MEM | sized(*width), FRAME, 0, data(*at), *imm);
            }
            Piece::Load { width, at, dst } => {
                self.put(class::LDX | mode::MEM | sized(*width), *dst, FRAME, data(*at), 0);
            }
            Piece::Atomic { wide, op, at, src } => {
                // Before, the verifier must not know what is there. It does not follow what it decides from a fetched
                // value back to the stack, so that it prunes ways which it should not, and cuts out branches that are
                // taken (seen in Linux 6.18). After an atomic operation it knows nothing of the place.
                self.mov_imm(SCRATCH, 0);
                self.put(class::STX | mode::ATOMIC | size::DW, FRAME, SCRATCH, data(*at), atomic::OR);
                self.put(class::STX | mode::ATOMIC | atomic_size(*wide), FRAME, *src, data(*at), *op);
            }
            Piece::If { wide, op, dst, operand, then, otherwise } => {
                self.branch(jump_class(*wide) | op, *dst, *operand, then, otherwise);
            }
            Piece::Loop { count, body } => self.repeat(*count, body),
            Piece::Call { body } => {
                if self.in_main {
                    self.calls.push((self.insns.len(), body.clone()));
                    self.put(class::JMP | jmp::CALL, 0, pseudo::CALL, 0, -1);
                    self.renew_arguments();
                }
            }
            other => self.outside(other),
        }
    }

    /// Pieces that reach the context, the packet and maps.
    fn outside(&mut self, piece: &Piece) {
        match piece {
            Piece::Context { .. }
            | Piece::StoreCb { .. }
            | Piece::Absolute { .. }
            | Piece::Indirect { .. }
            | Piece::LoadBytes { .. }
                if !self.in_main => {}
            Piece::Context { offset, width, dst } => {
                self.put(class::LDX | mode::MEM | sized(*width), *dst, CONTEXT, *offset, 0);
            }
            Piece::StoreCb { at, width, src } => {
                self.put(class::STX | mode::MEM | sized(*width), CONTEXT, *src, 48 + at, 0);
            }
            Piece::Absolute { width, offset } => {
                self.put(class::LD | mode::ABS | sized(*width), 0, 0, 0, *offset);
                self.renew_arguments();
            }
            Piece::Indirect { width, src, mask, offset } => {
                self.mov(SCRATCH, *src);
                self.put(class::ALU64 | alu::AND, SCRATCH, 0, 0, *mask);
                self.put(class::LD | mode::IND | sized(*width), 0, SCRATCH, 0, *offset);
                self.renew_arguments();
            }
            Piece::LoadBytes { offset, mask, at, len } => {
                match offset {
                    Operand::Imm(offset) => self.mov_imm(2, *offset),
                    Operand::Reg(src) => {
                        self.mov(2, *src);
                        self.put(class::ALU64 | alu::AND, 2, 0, 0, *mask);
                    }
                }
                self.mov(1, CONTEXT);
                self.stack_address(3, data(*at));
                self.mov_imm(4, *len);
                self.helper(26);
            }
            Piece::Lookup { map, key, wide, operand } => {
                // R0 is the element's address there.
                let operand = if let Operand::Reg(0) = operand { &Operand::Reg(8) } else { operand };
                self.lookup(*map, *key, |asm| {
                    let width = atomic_size(*wide);
                    asm.put(class::LDX | mode::MEM | width, SCRATCH, 0, 0, 0);
                    asm.operation(class::ALU64 | alu::ADD, SCRATCH, 0, *operand);
                    asm.put(class::STX | mode::MEM | width, 0, SCRATCH, 8, 0);
                    asm.put(class::ST | mode::MEM | size::B, 0, 0, 3, 99);
                    asm.put(class::LDX | mode::MEM | size::DW, 0, 0, 0, 0);
                });
            }
            Piece::LookupAtomic { map, key, wide, op, src } => {
                self.lookup(*map, *key, |asm| {
                    // An operation may need R0, and R9 is free.
                    asm.mov(SCRATCH, 0);
                    asm.mov_imm(0, 0);
                    let src = if *src == 0 { 7 } else { *src };
                    asm.put(class::STX | mode::ATOMIC | atomic_size(*wide), SCRATCH, src, 8, *op);
                });
            }
            Piece::Update { map, key, flags } => {
                self.key(*key);
                self.map(1, *map);
                self.stack_address(2, KEY);
                self.stack_address(3, -DATA);
                self.mov_imm(4, *flags);
                self.map_helper(2);
            }
            Piece::Delete { map, key } => {
                self.key(*key);
                self.map(1, *map);
                self.stack_address(2, KEY);
                self.map_helper(3);
            }
            _ => {}
        }
    }

    fn branch(&mut self, code: u8, dst: u8, operand: Operand, then: &[Piece], otherwise: &[Piece]) {
        let jump = self.insns.len();
        self.operation(code, dst, 0, operand);
        self.pieces(then);
        let skip = self.insns.len();
        self.put(class::JMP | jmp::JA, 0, 0, 0, 0);
        self.insns[jump].off = (skip - jump) as i16;
        self.pieces(otherwise);
        self.insns[skip].off = (self.insns.len() - skip - 1) as i16;
    }

    /// The counter lies on the stack, where the verifier follows it.
    fn repeat(&mut self, count: i32, body: &[Piece]) {
        if self.loops == 2 {
            return self.pieces(body);
        }
        let counter = COUNTERS - 8 * self.loops;
        self.loops += 1;
        self.mov_imm(SCRATCH, count);
        self.put(class::STX | mode::MEM | size::DW, FRAME, SCRATCH, counter, 0);
        let start = self.insns.len();
        self.pieces(body);
        self.put(class::LDX | mode::MEM | size::DW, SCRATCH, FRAME, counter, 0);
        self.put(class::ALU64 | alu::ADD, SCRATCH, 0, 0, -1);
        self.put(class::STX | mode::MEM | size::DW, FRAME, SCRATCH, counter, 0);
        let back = start as i64 - self.insns.len() as i64 - 1;
        self.put(class::JMP | jmp::JNE, SCRATCH, 0, back as i16, 0);
        self.loops -= 1;
    }

    /// R0 is a number afterwards, whether there was an element or not.
    fn lookup(&mut self, map: u8, key: u8, found: impl FnOnce(&mut Self)) {
        self.key(key);
        self.map(1, map);
        self.stack_address(2, KEY);
        self.put(class::JMP | jmp::CALL, 0, 0, 0, 1);
        for (i, reg) in (1..).zip(1..=5) {
            self.mov_imm(reg, i * 0x3333);
        }
        let jump = self.insns.len();
        self.put(class::JMP | jmp::JEQ, 0, 0, 0, 0);
        found(self);
        self.insns[jump].off = (self.insns.len() - jump - 1) as i16;
    }

    fn key(&mut self, reg: u8) {
        self.mov(SCRATCH, reg);
        self.put(class::ALU64 | alu::AND, SCRATCH, 0, 0, KEYS + 1);
        self.put(class::STX | mode::MEM | size::W, FRAME, SCRATCH, KEY, 0);
    }

    fn map(&mut self, dst: u8, number: u8) {
        self.put(class::LD | mode::IMM | size::DW, dst, pseudo::MAP_FD, 0, i32::from(number));
        self.put(0, 0, 0, 0, 0);
    }

    fn helper(&mut self, number: i32) {
        self.put(class::JMP | jmp::CALL, 0, 0, 0, number);
        self.renew_arguments();
    }

    /// Linux 6.1 gives error numbers of 32 bits here, newer ones of 64: they are made alike.
    fn map_helper(&mut self, number: i32) {
        self.helper(number);
        for op in [alu::LSH, alu::ARSH] {
            self.put(class::ALU64 | op, 0, 0, 0, 32);
        }
    }

    /// Calls and packet loads leave nothing in R1 to R5.
    fn renew_arguments(&mut self) {
        for reg in 1..=5 {
            self.mov_imm(reg, i32::from(reg) * 0x1234_5671);
        }
    }

    fn stack_address(&mut self, dst: u8, offset: i16) {
        self.mov(dst, FRAME);
        self.put(class::ALU64 | alu::ADD, dst, 0, 0, i32::from(offset));
    }

    fn mov(&mut self, dst: u8, src: u8) {
        self.put(class::ALU64 | alu::MOV | REG, dst, src, 0, 0);
    }

    fn mov_imm(&mut self, dst: u8, imm: i32) {
        self.put(class::ALU64 | alu::MOV, dst, 0, 0, imm);
    }

    fn operation(&mut self, code: u8, dst: u8, off: i16, operand: Operand) {
        match operand {
            Operand::Reg(src) => self.put(code | REG, dst, src, off, 0),
            Operand::Imm(imm) => self.put(code, dst, 0, off, imm),
        }
    }

    fn put(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.insns.push(Insn { code, dst, src, off, imm });
    }
}

fn data(at: i16) -> i16 {
    at - DATA
}

fn alu_class(wide: bool) -> u8 {
    if wide { class::ALU64 } else { class::ALU }
}

fn jump_class(wide: bool) -> u8 {
    if wide { class::JMP } else { class::JMP32 }
}

fn atomic_size(wide: bool) -> u8 {
    if wide { size::DW } else { size::W }
}

fn sized(width: u8) -> u8 {
    match width {
        1 => size::B,
        2 => size::H,
        4 => size::W,
        _ => size::DW,
    }
}
