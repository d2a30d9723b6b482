//! The conformance program, and the transcripts of facts that it prints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::c;

/// A file of `tests/conformance`: a source of the program, or a transcript.
pub fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "conformance", name].iter().collect()
}

/// Compiles the program, with every warning an error.
///
/// # Errors
/// When there is no C compiler, or it has something to say.
pub fn compile(to: &Path) -> Result<()> {
    c::compile(&["conformance"], "-O1", to)
}

/// Facts by name, as one run printed them.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Transcript {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Transcript {
    /// Reads lines of the form `group.case.fact: value`. Lines that begin with `#` are comments.
    ///
    /// # Errors
    /// When a line has another form, or two facts have one name.
    pub fn parse(text: &str) -> Result<Self> {
        let mut transcript = Self::default();
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = split(line)?;
            ensure!(
                transcript.values.insert(name.to_owned(), value.to_owned()).is_none(),
                "two facts have the name {name}"
            );
            transcript.order.push(name.to_owned());
        }
        Ok(transcript)
    }

    /// Names in the order in which they were printed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// The value of a fact.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Only the facts of these groups or cases (`group` or `group.case`); of all when there are none.
    pub fn only(mut self, chosen: &[String]) -> Self {
        let wanted = |name: &str| {
            chosen.is_empty()
                || chosen.iter().any(|part| name.strip_prefix(part.as_str()).is_some_and(|rest| rest.starts_with('.')))
        };
        self.order.retain(|name| wanted(name));
        self.values.retain(|name, _| wanted(name));
        self
    }

    /// The lines again.
    pub fn text(&self) -> String {
        self.names().map(|name| format!("{name}: {}\n", self.values[name])).collect()
    }
}

/// One difference from the kernel that has its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// The number of the section of docs/KCM.md that explains it.
    pub reason: u32,
    /// The fact.
    pub name: String,
    /// Its value here; `*` allows any.
    pub value: String,
}

/// Reads the list of allowed differences: lines of the form `reason group.case.fact: value here`.
///
/// # Errors
/// When a line has another form.
pub fn allowances(text: &str) -> Result<Vec<Allowance>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (reason, fact) = line.split_once(' ').with_context(|| format!("no reason in {line:?}"))?;
            let reason = reason.parse().with_context(|| format!("no reason in {line:?}"))?;
            let (name, value) = split(fact)?;
            Ok(Allowance { reason, name: name.to_owned(), value: value.to_owned() })
        })
        .collect()
}

fn split(line: &str) -> Result<(&str, &str)> {
    match line.split_once(": ").or_else(|| line.strip_suffix(':').map(|name| (name, ""))) {
        Some((name, value)) if name.split('.').filter(|part| !part.is_empty()).count() >= 3 => Ok((name, value)),
        _ => bail!("not a fact: {line:?}"),
    }
}
