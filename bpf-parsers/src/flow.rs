//! What registers hold, as far as it can be told before a run.

use std::sync::Arc;

use crate::check::{Functions, Rejected};
use crate::decode::MapNumbers;
use crate::insn::Insn;
use crate::maps::Map;

pub(crate) fn check(_: &[Insn], _: &Functions, _: &[Arc<Map>], _: &MapNumbers) -> Result<(), Rejected> {
    Ok(())
}

/// Whether the program reads the frame pointer at all.
pub(crate) fn uses_stack(insns: &[Insn]) -> bool {
    insns.iter().any(|insn| insn.src == 10 || insn.dst == 10)
}
