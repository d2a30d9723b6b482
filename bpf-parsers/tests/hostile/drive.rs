//! Any bytes as a program and a message.

use std::sync::Arc;

use preloop_parsers::insn::{INSN_BYTES, Insn};
use preloop_parsers::maps::{Map, MapDef, MapKind};
use preloop_parsers::{Fault, Fields, MapRef, Program, Rejected};

/// Number 0 is an array, 1 a hash map, 2 an array that programs only read.
fn maps() -> Vec<Arc<Map>> {
    [(MapKind::Array, 3, false), (MapKind::Hash, 2, false), (MapKind::Array, 1, true)]
        .map(|(kind, max_entries, read_only)| {
            let def = MapDef { kind, key_size: 4, value_size: 12, max_entries, read_only };
            Arc::new(Map::new(def).expect("a map"))
        })
        .to_vec()
}

/// Loads the program and runs it over the message, in one piece and in two, which must make no difference.
///
/// # Errors
/// When it is not taken.
pub fn run(insns: &[Insn], message: &[u8]) -> Result<Result<u32, Fault>, Rejected> {
    let answer = |pieces: bool| {
        let maps = maps();
        let find = |reference| match reference {
            MapRef::Fd(number) | MapRef::Index(number) => maps.get(usize::try_from(number).ok()?).cloned(),
        };
        let program = Program::load(insns, find)?;
        let fields = Fields { mark: 0x1234_5678, ifindex: 1, ..Fields::default() };
        let (one, two) = message.split_at(message.len() / 3);
        Ok(if pieces { program.run(&[one, &[], two][..], &fields) } else { program.run(message, &fields) })
    };
    let whole = answer(false)?;
    assert_eq!(Ok(whole), answer(true));
    Ok(whole)
}

/// The first two bytes say how many instructions follow; the rest is the message.
pub fn run_bytes(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first_chunk() else { return };
    let length = (usize::from(u16::from_le_bytes(*count)) * INSN_BYTES).min(rest.len() / INSN_BYTES * INSN_BYTES);
    let (program, message) = rest.split_at(length);
    let insns = Insn::decode(program).expect("whole instructions");
    let _ = run(&insns, message);
}
