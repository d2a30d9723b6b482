//! A parser that can be loaded: what names, one-line specs and object files become, and what can be handed from a
//! launcher to the processes that it starts.

use std::fmt;
use std::sync::Arc;

use crate::check::{MAX_INSNS, Rejected};
use crate::errno::E2BIG;
use crate::insn::{INSN_BYTES, Insn};
use crate::maps::{MAX_MAP_BYTES, Map, MapDef, MapKind};
use crate::program::{MapRef, Program};

/// A program with the maps that it needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parser {
    /// What to call it.
    pub name: String,
    /// Its instructions; references to maps have the map's position in `maps`.
    pub insns: Vec<Insn>,
    /// Its maps.
    pub maps: Vec<ParserMap>,
}

/// A map of a parser.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParserMap {
    /// Kind and sizes.
    pub def: MapDef,
    /// What is in it at the start ([`Map::contents`]): of constants and variables the value of element 0.
    pub data: Vec<u8>,
}

/// Bytes that are no parser.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAParser;

impl fmt::Display for NotAParser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these bytes are no encoded parser")
    }
}

impl std::error::Error for NotAParser {}

/// The first bytes of an encoded parser; the last of them is the version.
const MAGIC: [u8; 4] = *b"KPB\x01";

impl Parser {
    /// Makes the maps and loads the program. Every call makes maps of its own.
    ///
    /// # Errors
    /// As [`Program::load`], a map's error number when one cannot be made, and `E2BIG` when together they would take
    /// more than [`MAX_MAP_BYTES`].
    pub fn load(&self) -> Result<Program, Rejected> {
        let bytes = self.maps.iter().fold(0u64, |sum, map| sum.saturating_add(map.def.bytes()));
        if bytes > MAX_MAP_BYTES {
            return Err(Rejected::new(E2BIG, format_args!("the maps take {bytes} bytes, more than {MAX_MAP_BYTES}")));
        }
        let maps = self.maps.iter().enumerate().map(|(i, map)| map.make(i)).collect::<Result<Vec<_>, _>>()?;
        Program::load(&self.insns, |reference| match reference {
            MapRef::Fd(number) | MapRef::Index(number) => maps.get(usize::try_from(number).ok()?).cloned(),
        })
    }

    /// The parser as bytes, for [`Parser::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_bytes(&mut out, self.name.as_bytes());
        put_bytes(&mut out, &Insn::encode(&self.insns));
        out.extend((self.maps.len() as u32).to_le_bytes());
        for ParserMap { def, data } in &self.maps {
            let kind = match def.kind {
                MapKind::Hash => 1,
                MapKind::Array => 2,
            };
            for number in [kind, def.key_size, def.value_size, def.max_entries, u32::from(def.read_only)] {
                out.extend(number.to_le_bytes());
            }
            put_bytes(&mut out, data);
        }
        out
    }

    /// Reads what [`Parser::to_bytes`] wrote. Nothing is taken on trust: [`Parser::load`] checks the program.
    ///
    /// # Errors
    /// When they are not such bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAParser> {
        let mut rest = bytes.strip_prefix(&MAGIC).ok_or(NotAParser)?;
        let name = String::from_utf8(take_bytes(&mut rest, bytes.len())?.to_vec()).map_err(|_| NotAParser)?;
        let insns = Insn::decode(take_bytes(&mut rest, MAX_INSNS * INSN_BYTES)?).ok_or(NotAParser)?;
        let count = take_number(&mut rest)?;
        let mut maps = Vec::new();
        for _ in 0..count {
            let kind = MapKind::from_number(take_number(&mut rest)?).ok_or(NotAParser)?;
            let (key_size, value_size) = (take_number(&mut rest)?, take_number(&mut rest)?);
            let (max_entries, read_only) = (take_number(&mut rest)?, take_number(&mut rest)? != 0);
            let def = MapDef { kind, key_size, value_size, max_entries, read_only };
            maps.push(ParserMap { def, data: take_bytes(&mut rest, bytes.len())?.to_vec() });
        }
        if rest.is_empty() { Ok(Self { name, insns, maps }) } else { Err(NotAParser) }
    }
}

impl ParserMap {
    fn make(&self, number: usize) -> Result<Arc<Map>, Rejected> {
        let failed = |errno| Rejected::new(errno, format_args!("map {number} cannot be made: {:?}", self.def));
        let map = Map::new(self.def).map_err(failed)?;
        map.fill(&self.data).map_err(failed)?;
        Ok(Arc::new(map))
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn take_number(rest: &mut &[u8]) -> Result<u32, NotAParser> {
    let (number, after) = rest.split_first_chunk().ok_or(NotAParser)?;
    *rest = after;
    Ok(u32::from_le_bytes(*number))
}

fn take_bytes<'a>(rest: &mut &'a [u8], most: usize) -> Result<&'a [u8], NotAParser> {
    let len = take_number(rest)? as usize;
    if len > most {
        return Err(NotAParser);
    }
    let (bytes, after) = rest.split_at_checked(len).ok_or(NotAParser)?;
    *rest = after;
    Ok(bytes)
}
