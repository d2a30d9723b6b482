//! One-line specs such as `u32be@0+4`: a message's length is a number at a fixed place, plus something.
//!
//! ```text
//! spec   = field "@" offset [ ("+" | "-") add ]
//! field  = "u8" | "u16be" | "u16le" | "u24be" | "u24le" | "u32be" | "u32le"
//! offset = bytes from the message's start to the field
//! add    = bytes to add, for what the field does not count
//! ```
//! Numbers are decimal, or hexadecimal after `0x`. A spec becomes a program, which any evaluator runs. It answers -EPROTO
//! for a message that would end before its length field does, and -EMSGSIZE above 2 GiB. A program that is a spec's,
//! wherever it comes from, is recognised, and computed without the interpreter.

use std::fmt;
use std::str::FromStr;

use crate::insn::{Insn, REG, alu, class, jmp, mode, size};
use crate::packet::Packet;
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

    /// The spec whose program this is.
    pub(crate) fn of(insns: &[Insn]) -> Option<Self> {
        let first = insns.get(1)?.imm;
        let add = insns.get(insns.len().checked_sub(7)?)?.imm;
        let shapes = (1..=4).flat_map(|width| [true, false].map(|big_endian| (width, big_endian)));
        let mut specs = shapes.filter_map(|(width, big_endian)| {
            let offset = u32::try_from(first).ok()?.checked_sub(if width == 3 { 2 } else { 0 })?;
            Some(Self { width, big_endian, offset, add }).filter(|_| offset <= MAX_OFFSET)
        });
        specs.find(|spec| spec.insns() == insns)
    }

    /// What the program answers for `packet`.
    #[inline(always)]
    pub fn run<P: Packet + ?Sized>(&self, packet: &P) -> u32 {
        let Some(field) = self.field(packet) else { return 0 };
        let length = i64::from(field) + i64::from(self.add);
        if length < i64::from(self.offset) + i64::from(self.width) {
            return -EPROTO as u32;
        }
        u32::try_from(length).ok().filter(|length| *length <= i32::MAX as u32).unwrap_or(-EMSGSIZE as u32)
    }

    #[inline(always)]
    fn field<P: Packet + ?Sized>(&self, packet: &P) -> Option<u32> {
        let spare = 32 - 8 * u32::from(self.width);
        let Some(word) = packet.array(self.offset) else { return self.last_field(packet) };
        Some(if self.big_endian {
            u32::from_be_bytes(word) >> spare
        } else {
            u32::from_le_bytes(word) << spare >> spare
        })
    }

    /// The field where no four bytes are left.
    #[cold]
    fn last_field<P: Packet + ?Sized>(&self, packet: &P) -> Option<u32> {
        let mut bytes = [0; 4];
        let field = bytes.get_mut(..self.width.into())?;
        if !packet.read(self.offset, field) {
            return None;
        }
        if self.big_endian {
            field.reverse();
        }
        Some(u32::from_le_bytes(bytes))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MAX_OFFSET, Spec};
    use crate::program::Program;
    use crate::skb::Fields;

    fn spec() -> impl Strategy<Value = Spec> {
        let offset = prop_oneof![9 => 0..20u32, 1 => 0..=MAX_OFFSET];
        let add = prop_oneof![3 => -20..20i32, 1 => any::<i32>()];
        (1..=4u8, any::<bool>(), offset, add).prop_map(|(width, big_endian, offset, add)| {
            // A single byte has no order.
            Spec { width, big_endian: big_endian || width == 1, offset, add }
        })
    }

    proptest! {
        #[test]
        fn a_spec_computes_what_its_program_does(
            spec in spec(),
            mut bytes in prop::collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 0..30),
            small: bool,
        ) {
            if small {
                bytes.iter_mut().for_each(|byte| *byte &= 0x81);
            }
            let insns = spec.parser().insns;
            prop_assert_eq!(Spec::of(&insns), Some(spec));
            let program = Program::load(&insns, |_| None);
            let program = program.map_err(|rejected| TestCaseError::fail(format!("{rejected:?}")))?;
            let result = program.interpret(&bytes[..], &Fields::default());
            prop_assert_eq!(program.run(&bytes[..], &Fields::default()), result);
        }

        #[test]
        fn a_changed_program_is_no_specs(spec in spec(), at: prop::sample::Index, off in 3..9i16) {
            let mut insns = spec.parser().insns;
            at.get_mut(&mut insns).off = off;
            prop_assert_eq!(Spec::of(&insns), None);
        }
    }
}
