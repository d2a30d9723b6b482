//! What the tests of one run did, and how two runs differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

/// What a test did in one run, in the words of its own suite; [`MISSING`] when it did not run.
pub(crate) type Outcomes = BTreeMap<String, String>;

/// The test began and did not end: it hung, or took its process with it.
const UNFINISHED: &str = "unfinished";
/// The test did not run at all.
pub(crate) const MISSING: &str = "missing";

/// Reads the lines that the runners in `tests/programs/suites` write.
pub(crate) fn from_json_lines(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut running = BTreeMap::new();
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(test) = line["test"].as_str() else { continue };
        let outcome = line["outcome"].as_str();
        let name = running.get(test).cloned().unwrap_or_else(|| unused(&outcomes, test));
        match outcome {
            Some(_) => running.remove(test),
            None => running.insert(test.to_owned(), name.clone()),
        };
        outcomes.insert(name, outcome.unwrap_or(UNFINISHED).to_owned());
    }
    outcomes
}

/// Reads the output of `cargo test`, whose standard error is in it: names of test programs, and a line for each test.
pub(crate) fn from_cargo(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut program = "";
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("Running ") {
            program = rest.split_once(" (").map_or(rest, |(path, _)| path);
        } else if let Some(rest) = line.strip_prefix("Doc-tests ") {
            program = rest;
        } else if let Some((test, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            let outcome = outcome.split([',', ' ']).next().unwrap_or_default();
            let test = test.strip_suffix(" - should panic").unwrap_or(test);
            if ["ok", "FAILED", "ignored"].contains(&outcome) {
                outcomes.insert(unused(&outcomes, &format!("{program} {test}")), outcome.to_owned());
            }
        }
    }
    outcomes
}

/// The name, or when a test of that name was there already, the name with a number.
fn unused(outcomes: &Outcomes, name: &str) -> String {
    let numbered = (2..).map(|number| format!("{name} #{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !outcomes.contains_key(name)).unwrap_or_default()
}

/// How many tests there are of each outcome, the most first.
pub(crate) fn count(outcomes: &Outcomes) -> String {
    let mut counts = BTreeMap::<_, usize>::new();
    outcomes.values().for_each(|outcome| *counts.entry(outcome.as_str()).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect::<Vec<_>>().join(", ")
}

/// A test whose outcome is not the same in every run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    test: String,
    /// Its outcome in each run, in their order.
    outcomes: Vec<String>,
    /// The runs without the library disagree among themselves.
    pub(crate) flaky: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.test, self.outcomes.join(", "))
    }
}

/// Compares runs test by test; the first `bare` of them ran without the library.
pub(crate) fn compare(runs: &[&Outcomes], bare: usize) -> Vec<Difference> {
    let tests: BTreeSet<_> = runs.iter().flat_map(|run| run.keys()).collect();
    let differences = tests.into_iter().map(|test| {
        let of = |run: &&Outcomes| run.get(test).map_or(MISSING, String::as_str).to_owned();
        let outcomes: Vec<_> = runs.iter().map(of).collect();
        let same = |outcomes: &[String]| outcomes.windows(2).all(|pair| pair[0] == pair[1]);
        (!same(&outcomes)).then(|| Difference { test: test.clone(), flaky: !same(&outcomes[..bare]), outcomes })
    });
    differences.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_never_ends_is_unfinished() {
        let text = r#"{"event": "start", "test": "a"}
            {"event": "end", "test": "a", "outcome": "passed"}
            {"event": "start", "test": "a"}
            {"event": "end", "test": "setUpClass (b)", "outcome": "error"}"#;
        let outcomes = from_json_lines(text);
        assert_eq!(count(&outcomes), "1 error, 1 passed, 1 unfinished");
        assert_eq!(outcomes["a #2"], UNFINISHED);
    }

    #[test]
    fn lines_of_cargo_are_read() {
        let text = "     Running tests/tcp_echo.rs (target/debug/deps/tcp_echo-1)\nrunning 2 tests\n\
            test echo ... ok\ntest no - should panic ... FAILED\ntest slow ... ignored, takes a day\n\
            test result: FAILED. 1 passed; 1 failed\n   Doc-tests polling\ntest src/lib.rs - (line 3) ... ok\n";
        let outcomes = from_cargo(text);
        assert_eq!(count(&outcomes), "2 ok, 1 FAILED, 1 ignored");
        assert_eq!(outcomes["tests/tcp_echo.rs no"], "FAILED");
    }

    #[test]
    fn flaky_tests_are_told_from_others() {
        let run = |pairs: &[(&str, &str)]| pairs.iter().map(|&(a, b)| (a.into(), b.into())).collect::<Outcomes>();
        let one = run(&[("same", "ok"), ("flaky", "ok"), ("worse", "ok")]);
        let two = run(&[("same", "ok"), ("flaky", "FAILED"), ("worse", "ok")]);
        let shim = run(&[("same", "ok"), ("flaky", "ok")]);
        let found = compare(&[&one, &two, &shim], 2);
        let shown: Vec<_> = found.iter().map(|it| (it.to_string(), it.flaky)).collect();
        let expected = [("`flaky`: ok, FAILED, ok".to_owned(), true), ("`worse`: ok, ok, missing".to_owned(), false)];
        assert_eq!(shown, expected);
    }
}
