//! One-line specs such as `u32be@0+4`: a message's length is a number at a fixed place, plus something.
//!
//! ```text
//! spec   = field "@" offset [ ("+" | "-") add ]
//! field  = "u8" | "u16be" | "u16le" | "u24be" | "u24le" | "u32be" | "u32le"
//! offset = bytes from the message's start to the field
//! add    = bytes to add, for what the field does not count
//! ```
//! Numbers are decimal, or hexadecimal after `0x`. A spec becomes a program, so that one evaluator runs everything. It
//! answers -EPROTO for a message that would end before its length field does, and -EMSGSIZE above 2 GiB.

use std::fmt;
use std::str::FromStr;

use crate::insn::{Insn, REG, alu, class, jmp, mode, size};
use crate::parser::Parser;

const EPROTO: i32 = 71;
const EMSGSIZE: i32 = 90;
/// The last byte at which a field may begin; no protocol has its length farther in.
const MAX_OFFSET: u32 = 0xffff;

/// A parsed spec.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Bytes of the field, 1 to 4.
    width: u8,
    big_endian: bool,
    offset: u32,
    add: i32,
}

/// Why a text is no spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotASpec(String);

impl fmt::Display for NotASpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotASpec {}

impl FromStr for Spec {
    type Err = NotASpec;

    fn from_str(text: &str) -> Result<Self, NotASpec> {
        let wrong = |what: &str| NotASpec(format!("{text}: {what}; a spec is like u32be@0+4"));
        let (field, place) = text.split_once('@').ok_or_else(|| wrong("no @"))?;
        let (width, big_endian) = match field {
            "u8" => (1, true),
            "u16be" => (2, true),
            "u16le" => (2, false),
            "u24be" => (3, true),
            "u24le" => (3, false),
            "u32be" => (4, true),
            "u32le" => (4, false),
            _ => return Err(wrong("the field is none of u8, u16be, u16le, u24be, u24le, u32be, u32le")),
        };
        let (offset, add) = match place.find(['+', '-']) {
            Some(sign) => place.split_at(sign),
            None => (place, "+0"),
        };
        let offset = number(offset).filter(|offset| *offset <= MAX_OFFSET);
        let offset = offset.ok_or_else(|| wrong("the offset is no number up to 65535"))?;
        let (sign, amount) = add.split_at(1);
        let amount = number(amount).and_then(|amount| i32::try_from(amount).ok());
        let amount = amount.ok_or_else(|| wrong("what to add is no number below 2147483648"))?;
        Ok(Self { width, big_endian, offset, add: if sign == "-" { -amount } else { amount } })
    }
}

fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // A sign is none of ours.
    digits.starts_with(|first: char| first.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix).ok())?
}

impl Spec {
    /// The parser that the spec describes.
    pub fn parser(self) -> Parser {
        Parser { name: self.to_string(), insns: self.insns(), maps: Vec::new() }
    }

    fn insns(self) -> Vec<Insn> {
        let insn = |code, dst, src, off, imm| Insn { code, dst, src, off, imm };
        let load = |width, at: u32| insn(class::LD | mode::ABS | width, 0, 0, 0, at as i32);
        let immediate = |op, dst, imm| insn(class::ALU64 | op, dst, 0, 0, imm);
        let swap = |bits| insn(class::ALU | alu::END | REG, 0, 0, 0, bits);
        let mov = |dst, src| insn(class::ALU64 | alu::MOV | REG, dst, src, 0, 0);

        let mut program = vec![mov(6, 1)];
        match self.width {
            1 => program.push(load(size::B, self.offset)),
            2 => program.push(load(size::H, self.offset)),
            4 => program.push(load(size::W, self.offset)),
            _ => {
                // The last byte tells whether all three are there: so it is loaded first.
                program.extend([load(size::B, self.offset + 2), mov(7, 0), load(size::H, self.offset)]);
                if self.big_endian {
                    program.push(immediate(alu::LSH, 0, 8));
                } else {
                    program.extend([swap(16), immediate(alu::LSH, 7, 16)]);
                }
                program.push(insn(class::ALU64 | alu::OR | REG, 0, 7, 0, 0));
            }
        }
        if !self.big_endian && self.width != 3 {
            program.push(swap(i32::from(self.width) * 8));
        }
        let header = (self.offset + u32::from(self.width)) as i32;
        program.extend([
            immediate(alu::ADD, 0, self.add),
            insn(class::JMP | jmp::JSGE, 0, 0, 2, header),
            immediate(alu::MOV, 0, -EPROTO),
            insn(class::JMP | jmp::EXIT, 0, 0, 0, 0),
            insn(class::JMP | jmp::JSLE, 0, 0, 1, i32::MAX),
            immediate(alu::MOV, 0, -EMSGSIZE),
            insn(class::JMP | jmp::EXIT, 0, 0, 0, 0),
        ]);
        program
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match (self.width, self.big_endian) {
            (1, _) => "",
            (_, true) => "be",
            (_, false) => "le",
        };
        write!(f, "u{}{order}@{}", self.width * 8, self.offset)?;
        if self.add == 0 { Ok(()) } else { write!(f, "{:+}", self.add) }
    }
}
