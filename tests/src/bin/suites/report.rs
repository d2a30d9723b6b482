//! The table of `compat/suites.md`, a row for each suite.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::outcome::{self, Difference};
use crate::run::Run;
use crate::suite::{SUITES, Suite};

/// The row of a suite, from a run without the library, and those with it: as users have it, and with connections that move
/// early.
pub(crate) fn row(suite: &Suite, version: &str, bare: &Run, smc: &[&Run], differences: &[Difference]) -> String {
    let flaky = differences.iter().filter(|it| it.flaky).count();
    let last = smc.last().unwrap_or(&bare);
    let counts = |run: &Run| outcome::count(&run.outcomes);
    let same = |run: &&Run| counts(run) == counts(bare);
    let with = if smc.iter().all(same) { "the same".to_owned() } else { counts(last) };
    let connections = smc.first().map_or(&bare.connections, |run| &run.connections);
    let early = &last.connections;
    let cells = [
        suite.name.to_owned(),
        version.to_owned(),
        bare.outcomes.len().to_string(),
        counts(bare),
        with,
        (differences.len() - flaky).to_string(),
        flaky.to_string(),
        connections.complete.to_string(),
        connections.eligible.to_string(),
        connections.moved.to_string(),
        connections.agreed.to_string(),
        connections.ended.to_string(),
        connections.single.to_string(),
        connections.others(),
        early.eligible.to_string(),
        early.moved.to_string(),
        early.agreed.to_string(),
        (early.eligible - early.moved - early.agreed).to_string(),
    ];
    format!("| {} |", cells.join(" | "))
}

/// Puts rows in the place of those that the file has for the same suites, in the order of the suites.
pub(crate) fn update(file: &Path, rows: &[String]) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    fs::write(file, merged(&text, rows))?;
    Ok(())
}

fn merged(text: &str, rows: &[String]) -> String {
    let is_of = |row: &str, suite: &Suite| row.starts_with(&format!("| {} |", suite.name));
    let rows_of = |suite| {
        let new = rows.iter().map(String::as_str).find(move |row| is_of(row, suite));
        new.or_else(|| text.lines().find(|row| is_of(row, suite)))
    };
    let mut lines: Vec<_> = text.lines().filter(|line| !SUITES.iter().any(|suite| is_of(line, suite))).collect();
    let rule = lines.iter().position(|line| line.starts_with("|---")).map_or(lines.len(), |rule| rule + 1);
    lines.splice(rule..rule, SUITES.iter().filter_map(rows_of));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn rows_are_replaced_and_kept_in_order() {
        let text = "before\n\n| suite | of |\n|---|---|\n| test_poll | old |\n| trio | old |\n\nafter\n";
        let rows = ["| trio | new |".to_owned(), "| test_socket | new |".to_owned()];
        let expected = "before\n\n| suite | of |\n|---|---|\n| test_socket | new |\n| test_poll | old |\n| trio | new |\n\nafter\n";
        assert_eq!(merged(text, &rows), expected);
    }
}
