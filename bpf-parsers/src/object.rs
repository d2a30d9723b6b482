//! Reading object files that clang made for `-target bpf`, through aya-obj.
//!
//! aya-obj expects what clang writes: it may panic on a damaged file. What is known to make it do so is refused before.
//! Still, a launcher should read files, where a panic harms nobody, and hand on [`Parser::to_bytes`].
//!
//! aya-obj takes programs from sections whose names it knows, `socket` for one. The section `socket_kcm` that the
//! kernel's `Documentation/networking/kcm.rst` uses, and any other that a user names, is therefore renamed in a copy.

mod btf;
mod code;

use std::collections::HashSet;
use std::fmt;

use aya_obj::generated::bpf_insn;
use object::elf::{EM_BPF, ET_REL};
use object::read::elf::{ElfFile64, FileHeader, SectionHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SectionIndex, SectionKind, SymbolIndex, SymbolKind};

use crate::check::MAX_INSNS;
use crate::insn::Insn;
use crate::maps::{MAX_MAP_BYTES, MapDef, MapKind};
use crate::parser::{Parser, ParserMap};

/// The largest object file that is read.
pub const MAX_OBJECT_BYTES: usize = 4 << 20;
/// What all sections may have together, variables that begin as zero included.
const MAX_SECTION_BYTES: u64 = MAX_OBJECT_BYTES as u64 + MAX_MAP_BYTES;
/// A section name that aya-obj knows.
const KNOWN: &[u8] = b"socket\0";
/// `BPF_F_RDONLY_PROG`.
const READ_ONLY: u32 = 1 << 7;

/// Why an object gave no parser.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectError(String);

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ObjectError {}

fn error(text: impl fmt::Display) -> ObjectError {
    ObjectError(text.to_string())
}

type File<'a> = ElfFile64<'a, LittleEndian>;

/// An object of which aya and aya-obj take the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// The object file, with other names of sections.
    pub bytes: Vec<u8>,
    /// The name of the function that is the program.
    pub function: String,
}

/// Finds the program of `section`; without it of the only section with a program, or of `socket_kcm`, or of `socket`.
///
/// # Errors
/// When these bytes are no such object, or there is no such program, or several.
pub fn prepare(bytes: &[u8], section: Option<&str>) -> Result<Prepared, ObjectError> {
    if bytes.len() > MAX_OBJECT_BYTES {
        return Err(error(format_args!("an object of more than {MAX_OBJECT_BYTES} bytes")));
    }
    let file = File::parse(bytes).map_err(error)?;
    let header = file.elf_header();
    if header.e_machine(LittleEndian) != EM_BPF || header.e_type(LittleEndian) != ET_REL {
        return Err(error("not an object file for BPF"));
    }
    check_sizes(&file)?;
    let function = function(&file, choose(&file, section)?)?;
    Ok(Prepared { bytes: rename_programs(bytes, &file)?, function })
}

/// The parser in an object; its program is found as by [`prepare`].
///
/// # Errors
/// As [`prepare`], and for maps that are neither arrays nor hash maps.
pub fn read(bytes: &[u8], section: Option<&str>) -> Result<Parser, ObjectError> {
    let Prepared { bytes, function } = prepare(bytes, section)?;
    let file = File::parse(&*bytes).map_err(error)?;
    let mut object = aya_obj::Object::parse(&bytes).map_err(error)?;
    link(&mut object, &function, &code::references(&file))
}

/// Sections with programs; `.text` holds functions that programs call.
fn programs<'a>(file: &'a File<'a>) -> impl Iterator<Item = (&'a str, SectionIndex)> {
    let named = file
        .sections()
        .filter(|section| section.kind() == SectionKind::Text && section.size() > 0)
        .filter_map(|section| Some((name_of(file, section.index())?, section.index())));
    named.filter(|(name, _)| *name != ".text")
}

fn name_of<'a>(file: &'a File<'a>, index: SectionIndex) -> Option<&'a str> {
    let section = file.elf_section_table().section(index).ok()?;
    std::str::from_utf8(file.elf_section_table().section_name(LittleEndian, section).ok()?).ok()
}

fn choose(file: &File<'_>, wanted: Option<&str>) -> Result<SectionIndex, ObjectError> {
    let programs: Vec<_> = programs(file).collect();
    let named = |name: &str| programs.iter().find(|(other, _)| *other == name);
    let found = match (wanted, programs.as_slice()) {
        (Some(name), _) => named(name),
        (None, [only]) => Some(only),
        (None, _) => named("socket_kcm").or_else(|| named("socket")),
    };
    let list = || programs.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    match (found, wanted) {
        (Some((_, index)), _) => Ok(*index),
        (None, _) if programs.is_empty() => Err(error("the object has no program")),
        (None, Some(name)) => Err(error(format_args!("no section {name}; there are programs in {}", list()))),
        (None, None) => Err(error(format_args!("which program? There are some in {}", list()))),
    }
}

/// The name of the program in a section.
fn function(file: &File<'_>, section: SectionIndex) -> Result<String, ObjectError> {
    let globals = file.symbols().filter(|symbol| {
        symbol.section_index() == Some(section) && symbol.kind() == SymbolKind::Text && symbol.is_global()
    });
    let names: Vec<_> = globals.filter_map(|symbol| symbol.name().ok().map(str::to_owned)).collect();
    match <[String; 1]>::try_from(names) {
        Ok([name]) => Ok(name),
        Err(names) => Err(error(format_args!("the section has {} programs, not one", names.len()))),
    }
}

/// How many bytes of a section symbols may name: all that are in the file, or of variables that begin as zero.
fn contents<'a>(section: &impl ObjectSection<'a>) -> u64 {
    if section.name().is_ok_and(|name| name.starts_with(".bss")) {
        return section.size();
    }
    section.data().map_or(0, |data| data.len() as u64)
}

/// What aya-obj relies on: symbols inside their sections, sections of bearable size, map definitions that are whole.
fn check_sizes(file: &File<'_>) -> Result<(), ObjectError> {
    let size = file.sections().fold(0u64, |sum, section| sum.saturating_add(section.size()));
    let sections = file.sections().all(|section| section.address() == 0) && size <= MAX_SECTION_BYTES;
    let symbols = file.symbols().all(|symbol| {
        let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
        let end = symbol.address().checked_add(symbol.size());
        section.is_none_or(|section| end.is_some_and(|end| end <= contents(&section)))
    });
    if !sections || !symbols {
        return Err(error("a damaged object: sections or symbols have impossible sizes"));
    }
    if let Some(fault) = code::fault(file) {
        return Err(error(fault));
    }
    let types = file.section_by_name(".BTF").and_then(|section| section.data().ok());
    if types.is_some_and(|types| !btf::is_whole(types)) {
        return Err(error("a damaged object: its description of types"));
    }
    // The old form of maps is a C struct, which begins with five numbers; pinning comes at byte 24, if at all.
    let pinned = file.symbols().any(|symbol| {
        let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
        let old = section.filter(|section| section.name().is_ok_and(|name| name.starts_with("maps")));
        old.is_some_and(|section| {
            let data = section.data_range(symbol.address(), symbol.size()).ok().flatten().unwrap_or_default();
            data.get(24..).is_some_and(|rest| rest.iter().take(4).any(|byte| *byte != 0))
        })
    });
    if pinned { Err(error("pinned maps are not supported")) } else { Ok(()) }
}

/// The object with names of sections that aya-obj takes: programs become `socket`, and debugging data, of which only
/// maps need a part, nothing.
fn rename_programs(bytes: &[u8], file: &File<'_>) -> Result<Vec<u8>, ObjectError> {
    let damaged = || error("a damaged object: its table of sections");
    let header = file.elf_header();
    let table = usize::try_from(header.e_shoff(LittleEndian)).map_err(|_| damaged())?;
    let entry = usize::from(header.e_shentsize(LittleEndian));
    let strings = header.shstrndx(LittleEndian, bytes).map_err(error)? as usize;
    let needs_types = file.section_by_name(".maps").is_some();

    let mut out = bytes.to_vec();
    let names = out.len() as u64;
    let old = file.elf_section_table().section(SectionIndex(strings)).map_err(error)?;
    out.extend(old.data(LittleEndian, bytes).map_err(error)?);
    let known = (out.len() as u64 - names) as u32;
    out.extend(KNOWN);
    let size = out.len() as u64 - names;

    let mut patch = |section: usize, field: usize, value: &[u8]| -> Result<(), ObjectError> {
        let at = table + section * entry + field;
        out.get_mut(at..at + value.len()).ok_or_else(damaged)?.copy_from_slice(value);
        Ok(())
    };
    // sh_offset and sh_size of the names' section, and sh_name of the others.
    patch(strings, 24, &names.to_le_bytes())?;
    patch(strings, 32, &size.to_le_bytes())?;
    for (_, index) in programs(file) {
        patch(index.0, 0, &known.to_le_bytes())?;
    }
    for section in file.sections() {
        match section.name() {
            Ok(".BTF.ext") => patch(section.index().0, 0, &[0; 4])?,
            Ok(".BTF") if !needs_types => patch(section.index().0, 0, &[0; 4])?,
            _ => {}
        }
    }
    Ok(out)
}

fn link(
    object: &mut aya_obj::Object,
    function: &str,
    references: &[(SymbolIndex, SectionIndex)],
) -> Result<Parser, ObjectError> {
    let mut maps: Vec<_> = std::mem::take(&mut object.maps).into_iter().collect();
    maps.sort_by(|(a, _), (b, _)| a.cmp(b));
    // Maps with symbols are referred to by these; other maps are whole sections.
    let symbols: HashSet<_> = maps.iter().filter_map(|(_, map)| map.symbol_index()).collect();
    let sections: HashSet<_> =
        maps.iter().filter(|(_, map)| map.symbol_index().is_some()).map(|(_, map)| map.section_index()).collect();
    if references.iter().any(|(symbol, section)| sections.contains(&section.0) && !symbols.contains(&symbol.0)) {
        return Err(error("the program refers to a map that is none"));
    }
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let numbered = maps.iter().enumerate().map(|(number, (name, map))| (name.as_str(), number as i32, map));
    object.relocate_maps(numbered, &text).map_err(error)?;
    object.relocate_calls(&text).map_err(error)?;
    let program = object.programs.get(function).ok_or_else(|| error("the program was not found"))?;
    let linked = object.functions.get(&program.function_key()).ok_or_else(|| error("the program was not found"))?;

    if linked.instructions.len() > MAX_INSNS {
        return Err(error(format_args!("a program of more than {MAX_INSNS} instructions")));
    }
    let mut insns: Vec<Insn> = linked.instructions.iter().map(instruction).collect();
    let mut used: Vec<i32> = Vec::new();
    for insn in insns.iter_mut().filter(|insn| insn.is_wide() && insn.src != 0) {
        let place = used.iter().position(|number| *number == insn.imm).unwrap_or_else(|| {
            used.push(insn.imm);
            used.len() - 1
        });
        insn.imm = place as i32;
    }
    let maps = used.iter().map(|number| {
        let map = usize::try_from(*number).ok().and_then(|number| maps.get(number));
        let (name, map) = map.ok_or_else(|| error("a reference to a map that was not relocated"))?;
        parser_map(name, map)
    });
    Ok(Parser { name: function.to_owned(), maps: maps.collect::<Result<_, _>>()?, insns })
}

fn instruction(insn: &bpf_insn) -> Insn {
    Insn { code: insn.code, dst: insn.dst_reg(), src: insn.src_reg(), off: insn.off, imm: insn.imm }
}

fn parser_map(name: &str, map: &aya_obj::Map) -> Result<ParserMap, ObjectError> {
    let kind = MapKind::from_number(map.map_type());
    let kind = kind.ok_or_else(|| error(format_args!("map {name} is neither an array nor a hash map")))?;
    let def = MapDef {
        kind,
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        read_only: map.map_flags() & READ_ONLY != 0,
    };
    Ok(ParserMap { def, data: map.data().to_vec() })
}
