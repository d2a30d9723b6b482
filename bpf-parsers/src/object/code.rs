//! Whether calls and references in an object's code are ones that clang writes: aya-obj panics on others.

use object::read::elf::ElfFile64;
use object::{
    LittleEndian, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SectionKind, SymbolIndex,
    SymbolKind,
};

use crate::insn::{INSN_BYTES, Insn, class, jmp, pseudo};

/// The most functions: linking recurses into them.
const MAX_FUNCTIONS: usize = 256;
/// Farther calls lead out of any program.
const MAX_DISTANCE: i32 = 1 << 20;

type File<'a> = ElfFile64<'a, LittleEndian>;

/// What is wrong, if anything.
pub(super) fn fault(file: &File<'_>) -> Option<&'static str> {
    if file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text).count() > MAX_FUNCTIONS {
        return Some("too many functions");
    }
    for section in file.sections().filter(is_code) {
        let Some(insns) = section.data().ok().and_then(Insn::decode) else {
            return Some("a damaged object: code is no whole number of instructions");
        };
        if insns.iter().any(|insn| is_local_call(*insn) && !(-1..MAX_DISTANCE).contains(&insn.imm)) {
            return Some("a damaged object: a call that leads nowhere");
        }
        for (offset, relocation) in section.relocations() {
            let at = usize::try_from(offset).ok().filter(|at| at % INSN_BYTES == 0).map(|at| at / INSN_BYTES);
            let Some(insn) = at.and_then(|at| insns.get(at)) else {
                return Some("a damaged object: a reference outside the code");
            };
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                return Some("a damaged object: a reference to nothing");
            };
            let symbol = file.symbol_by_index(symbol).ok();
            let target = symbol.and_then(|symbol| Some((symbol.kind(), symbol.section_index()?)));
            let Some((kind, target)) = target else {
                return Some("the program refers to something that the object does not define");
            };
            let to_code =
                kind == SymbolKind::Text || file.section_by_index(target).is_ok_and(|target| is_code(&target));
            let whole = at.is_some_and(|at| at + 1 < insns.len());
            match (to_code, is_local_call(*insn)) {
                (true, true) if matches!(kind, SymbolKind::Text | SymbolKind::Section) && relocation.size() == 32 => {}
                (true, _) => return Some("the program takes a function's address"),
                (false, true) => return Some("a damaged object: a call to data"),
                (false, false) if insn.is_wide() && whole => {}
                (false, false) => return Some("a damaged object: a reference from an instruction that holds none"),
            }
        }
    }
    None
}

/// What the code refers to: symbols, and the sections that they are in.
pub(super) fn references(file: &File<'_>) -> Vec<(SymbolIndex, SectionIndex)> {
    let targets = file.sections().filter(is_code).flat_map(|section| section.relocations());
    let symbols = targets.filter_map(|(_, relocation)| match relocation.target() {
        RelocationTarget::Symbol(symbol) => file.symbol_by_index(symbol).ok(),
        _ => None,
    });
    symbols.filter_map(|symbol| Some((symbol.index(), symbol.section_index()?))).collect()
}

/// What aya-obj takes for code.
fn is_code<'a>(section: &impl ObjectSection<'a>) -> bool {
    section.kind() == SectionKind::Text || section.name().is_ok_and(|name| name.starts_with(".text"))
}

fn is_local_call(insn: Insn) -> bool {
    insn.code == class::JMP | jmp::CALL && insn.src == pseudo::CALL
}
