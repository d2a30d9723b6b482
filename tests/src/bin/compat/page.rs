//! `compat/applications.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::application::{Application, applications};
use crate::outcome::{HEADINGS, Row};

const INTRODUCTION: &str = "\
# Applications

Made by `cargo compat`; [README.md](README.md) says how. Direction: which side ran under `smc_run`. Moved: how many of
the connections that `smcss` saw went through shared memory; those that came and went between two looks are not among
them. Under every row the contents that arrived were those that were sent.
";

/// Where the page is.
pub(crate) fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("compat").join("applications.md")
}

/// Replaces an application's rows, and takes out those of applications that are no more.
///
/// # Errors
/// When the page cannot be read or written.
pub(crate) fn publish(application: &str, rows: Vec<Row>) -> Result<()> {
    let path = path();
    let text = match fs::exists(&path)? {
        true => fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?,
        false => String::new(),
    };
    let others = parse(&text).into_iter().filter(|row| row.cells[0] != application);
    let all: Vec<_> = others.chain(rows).collect();
    fs::write(&path, render(&all, &applications())).with_context(|| format!("writing {}", path.display()))
}

/// The rows of the table of results.
fn parse(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let cells: Vec<_> =
            line.strip_prefix("| ")?.strip_suffix('|')?.split('|').map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().ok().map(|cells| Row { cells })
    };
    text.lines().filter_map(row).filter(|row| row.cells != HEADINGS.map(str::to_owned)).collect()
}

fn render(rows: &[Row], applications: &[Application]) -> String {
    let mut text = format!("{INTRODUCTION}\n| {} |\n|{}\n", HEADINGS.join(" | "), "---|".repeat(HEADINGS.len()));
    for application in applications {
        for row in rows.iter().filter(|row| row.cells[0] == application.name) {
            let _ = writeln!(text, "{row}");
        }
    }
    text.push_str("\n## What each run does\n\n| application | workload and what is compared |\n|---|---|\n");
    for application in applications {
        let _ = writeln!(text, "| {} | {} |", application.name, application.does);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::USUAL;

    #[test]
    fn what_was_written_is_read_again() {
        let row = |name: &str| Row { cells: [name, "1.0", "both", "works", "1 of 1", ""].map(str::to_owned) };
        let known = [Application { name: "b", ..USUAL }, Application { name: "a", ..USUAL }];
        let text = render(&[row("a"), row("gone"), row("b")], &known);
        assert_eq!(parse(&text), [row("b"), row("a")]);
    }
}
