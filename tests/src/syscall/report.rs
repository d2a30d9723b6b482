//! Comparing facts, and saying how they differ.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

/// A difference from TCP that is there on purpose.
#[derive(Debug)]
pub struct Permit {
    /// Name of the fact, without the subject's.
    pub fact: &'static str,
    /// Its value with both ends preloaded: no other one is right, not even TCP's. With the acting end alone preloaded
    /// either is.
    pub value: &'static str,
    /// The reason, which docs/LIMITS.md gives at more length.
    pub because: &'static str,
}

/// The lines that are not as expected; nothing when all are. `always`: what is permitted must be there.
pub fn differences(expected: &str, found: &str, permits: &[Permit], always: bool) -> String {
    let mut text = String::new();
    let (mut expected, mut found) = (expected.lines(), found.lines());
    loop {
        let lines = (expected.next(), found.next());
        let (wanted, permit) = match lines {
            (None, None) => return text,
            (Some(line), _) => permitted(line, permits),
            (None, Some(_)) => (String::new(), None),
        };
        let (_, got) = lines;
        let got = got.unwrap_or("nothing more");
        if got != wanted && (always || permit.is_none() || Some(got) != lines.0) {
            text += &format!("  TCP:  {}\n  here: {got}\n", lines.0.unwrap_or("nothing more"));
            if let Some(permit) = permit {
                text += &format!("  permitted: {}, because {}\n", permit.value, permit.because);
            }
        }
    }
}

/// The line that must be there in place of TCP's.
fn permitted<'a>(line: &str, permits: &'a [Permit]) -> (String, Option<&'a Permit>) {
    let (subject, fact) = line.split_once('.').unwrap_or((line, ""));
    let named = |permit: &&Permit| fact.strip_prefix(permit.fact).is_some_and(|value| value.starts_with(": "));
    match permits.iter().filter(named).max_by_key(|permit| permit.fact.len()) {
        Some(permit) => (format!("{subject}.{}: {}", permit.fact, permit.value), Some(permit)),
        None => (line.to_owned(), None),
    }
}

/// Checks what an end wrote to standard error: with both ends preloaded, every connection moved that the subject said
/// would; else, none of them did.
///
/// # Errors
/// When that is not so.
pub fn moves(stderr: &str, moving: bool) -> Result<()> {
    let line = |line: &str, before: &str, after: &str| {
        let (_, rest) = line.split_once(before)?;
        Some(rest.strip_suffix(after)?.trim().to_owned())
    };
    let told: BTreeSet<_> = stderr.lines().filter_map(|text| line(text, "connection ", "runs on SMC-D")).collect();
    let claimed: BTreeSet<_> = stderr.lines().filter_map(|text| line(text, "expected to move: ", "")).collect();
    if !moving {
        let moved: Vec<_> = claimed.intersection(&told).collect();
        ensure!(moved.is_empty(), "moved, though the other end is not preloaded: {moved:?}");
        return Ok(());
    }
    let stayed: Vec<_> = claimed.difference(&told).collect();
    ensure!(stayed.is_empty(), "stayed on TCP: {stayed:?}");
    Ok(())
}

#[test]
fn differing_lines_are_shown_with_the_permit() {
    let permits = [Permit { fact: "b", value: "3", because: "x" }];
    let always = |expected, found| differences(expected, found, &permits, true);
    assert_eq!(always("s.a: 1\ns.b: 2\n", "s.a: 1\ns.b: 3\n"), "");
    assert!(always("s.a: 1\n", "s.a: 2\n").contains("here: s.a: 2"));
    assert!(always("s.b: 2\n", "s.b: 2\n").contains("because x"));
    assert!(always("s.a: 1\n", "").contains("nothing more"));
    assert!(always("", "s.a: 1\n").contains("here: s.a: 1"));
    assert_eq!(differences("s.b: 2\n", "s.b: 2\n", &permits, false), "");
    assert!(!differences("s.b: 2\n", "s.b: 4\n", &permits, false).is_empty());
}

#[test]
fn claimed_moves_are_looked_for() {
    let moved = "expected to move: 0x1f\nsmc_run: connection 0x1f runs on SMC-D\n";
    assert!(moves(moved, true).is_ok() && moves(moved, false).is_err());
    assert!(moves("expected to move: 0x1f\n", true).is_err());
    assert!(moves("expected to move: 0x1f\n", false).is_ok());
}
