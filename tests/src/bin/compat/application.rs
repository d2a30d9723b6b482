//! What an application's entry says.

use std::io::Read;
use std::process::Command;

use anyhow::{Context, Result};
use preloop_tests::programs;
use preloop_tests::world::World;

use crate::run::Run;
use crate::{caches, databases, files, languages, load, messages, proxies, web};

/// A real application, and how it is known to work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Application {
    /// As the table and the command line name it.
    pub(crate) name: &'static str,
    /// What the run does, and what it checks.
    pub(crate) does: &'static str,
    /// Programs that must be installed.
    pub(crate) needs: &'static [&'static str],
    /// Command lines that print versions.
    pub(crate) versions: &'static [&'static str],
    /// The sides that are preloaded, a run for each.
    pub(crate) directions: &'static [World],
    /// Where its connections belong when both sides are preloaded.
    pub(crate) expected: Expected,
    /// Whether it refuses to run as root. The others run as whoever runs this.
    pub(crate) unprivileged: bool,
    /// Starts it, uses it, and fails when a content differs.
    pub(crate) exercise: fn(&Run) -> Result<()>,
}

/// Where connections belong when both sides are preloaded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// One at least moves.
    Moved,
    /// None can move, for this reason of the server's.
    Tcp(&'static str),
    /// They last too short to say, for this reason.
    Either(&'static str),
}

/// The server alone, the client alone, both.
pub(crate) const EVERY_DIRECTION: &[World] = &[World::ServerOnly, World::ClientOnly, World::Both];

/// What most entries have in common.
pub(crate) const USUAL: Application = Application {
    name: "",
    does: "",
    needs: &[],
    versions: &[],
    directions: EVERY_DIRECTION,
    expected: Expected::Moved,
    unprivileged: false,
    exercise: |_| Ok(()),
};

/// All of them, in the order of the table.
pub(crate) fn applications() -> Vec<Application> {
    let families = [
        web::APPLICATIONS,
        proxies::APPLICATIONS,
        caches::APPLICATIONS,
        databases::APPLICATIONS,
        messages::APPLICATIONS,
        files::APPLICATIONS,
        languages::APPLICATIONS,
        load::APPLICATIONS,
    ];
    families.concat()
}

impl Application {
    /// The versions of its programs, such as `nginx 1.22.1, curl 7.88.1`.
    ///
    /// # Errors
    /// When a program prints none.
    pub(crate) fn version(&self) -> Result<String> {
        let versions: Result<Vec<_>> = self.versions.iter().map(|line| version(line)).collect();
        Ok(versions?.join(", "))
    }
}

/// Asks a program, which may print its version on any of its three streams (vsftpd: where it reads) and end as it likes.
fn version(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    let (mut printed, input) = std::io::pipe()?;
    // The command, and with it this end of the pipe, is gone once it was run.
    let output =
        Command::new(programs::find(program)?).args(words).stdin(input).output().context("asking for a version")?;
    let mut text = [output.stdout, output.stderr].concat();
    printed.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let number = number(&text).with_context(|| format!("{line} printed no version:\n{text}"))?;
    Ok(format!("{program} {number}"))
}

/// The first word that is a number with a point in it, perhaps after a `v`.
fn number(text: &str) -> Option<&str> {
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let is_number = |word: &&str| {
        word.split_once('.')
            .is_some_and(|(whole, rest)| digits(whole) && rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let words = text.split(|c: char| c.is_whitespace() || "/_-=(),\"".contains(c));
    words.map(|word| word.strip_prefix('v').unwrap_or(word)).find(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        for (text, expected) in [
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("OpenSSH_9.2p1 Debian-2", "9.2p1"),
            ("openjdk version \"17.0.15\" 2025-04-15", "17.0.15"),
            ("This is perl 5, version 36 (v5.36.0)", "5.36.0"),
            ("Redis server v=7.0.15 sha=00000000:0", "7.0.15"),
            ("HAProxy version 2.6.12-1 2023/12/16", "2.6.12"),
        ] {
            assert_eq!(number(text), Some(expected));
        }
        assert_eq!(number("no number"), None);
    }

    #[test]
    fn names_differ() {
        let mut names: Vec<_> = applications().iter().map(|application| application.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
