//! The same program on this host, and what it finds different.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::conformance::{Allowance, Transcript};
use anyhow::{Context, Result};

/// Runs the program, under a command if there is one. It limits its own time.
///
/// # Errors
/// When it cannot be run, or prints something else than facts.
pub fn run(program: &Path, groups: &[String], command: &[String]) -> Result<Transcript> {
    let words: Vec<_> = command.iter().map(AsRef::as_ref).chain([program.as_os_str()]).collect();
    let mut process = Command::new(words[0]);
    process.args(&words[1..]).args(groups).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = process.output().with_context(|| format!("starting {}", words[0].display()))?;
    Transcript::parse(&String::from_utf8_lossy(&output.stdout))
}

/// What differs from the kernel.
#[derive(Debug, Default)]
pub struct Comparison {
    equal: usize,
    allowed: usize,
    /// Fact, the kernel's value, the value here, the one that would be allowed.
    differences: Vec<[String; 4]>,
    /// Facts that are listed as different, and are not.
    needless: Vec<String>,
}

impl Comparison {
    /// Compares a run here with the kernel's.
    pub fn of(kernel: &Transcript, here: &Transcript, allowed: &[Allowance]) -> Self {
        let mut found = Self::default();
        let added = here.names().filter(|name| kernel.get(name).is_none());
        for name in kernel.names().chain(added) {
            let (there, here) = (kernel.get(name), here.get(name));
            let allowance = allowed.iter().find(|one| one.name == name);
            if allowance.is_some_and(|one| here.is_some() && (one.value == "*" || Some(&*one.value) == here)) {
                // Where any value will do, one that happens to be the kernel's says nothing.
                found.allowed += 1;
            } else if there == here {
                found.equal += 1;
                if allowance.is_some() {
                    found.needless.push(name.to_owned());
                }
            } else {
                let shown = |value: Option<&str>| value.unwrap_or("(no such fact)").to_owned();
                let other = allowance.map(|one| one.value.clone()).unwrap_or_default();
                found.differences.push([name.to_owned(), shown(there), shown(here), other]);
            }
        }
        found
    }

    /// Whether every difference is allowed.
    pub fn passes(&self) -> bool {
        self.differences.is_empty()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for [name, kernel, here, allowed] in &self.differences {
            writeln!(f, "{name}\n  kernel  {kernel}\n  here    {here}")?;
            if !allowed.is_empty() {
                writeln!(f, "  allowed {allowed}")?;
            }
        }
        for name in &self.needless {
            writeln!(f, "{name} is listed as different, and is not")?;
        }
        let Self { equal, allowed, differences, .. } = self;
        writeln!(f, "{equal} facts as in the kernel, {allowed} allowed to differ, {} different", differences.len())
    }
}
