//! On which cores the two ends of a connection run.

use std::fmt;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity};

/// Where a server and its client run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Wherever the scheduler puts them.
    Free,
    /// The server on one core, the client on another.
    Apart,
    /// Both on one core.
    Together,
}

impl Placement {
    /// The server's core and the client's.
    ///
    /// # Errors
    /// When this process may not use as many cores.
    pub fn cores(self) -> Result<[Option<usize>; 2]> {
        let cores = allowed();
        let core = |at: usize| cores.get(at).copied().map(Some).context("needs two cores");
        match self {
            Self::Free => Ok([None, None]),
            Self::Apart => Ok([core(0)?, core(1)?]),
            Self::Together => Ok([core(0)?, core(0)?]),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "free",
            Self::Apart => "two cores",
            Self::Together => "one core",
        })
    }
}

/// The cores that this process may use.
pub fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}
