//! What each run in the machine printed.

use anyhow::{Context, Result};
use preloop_tests::syscall::report;

/// One run: the words of the script's function that made it, and what stands behind them.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) kind: &'a str,
    pub(crate) words: Vec<&'a str>,
    pub(crate) text: &'a str,
}

impl<'a> Run<'a> {
    /// All runs that the machine told of.
    pub(crate) fn parse(told: &'a str) -> Result<Vec<Self>> {
        let runs = told.split("RUN ").filter(|part| !part.is_empty());
        runs.map(|part| {
            let (line, text) = part.split_once('\n').with_context(|| part.to_owned())?;
            let mut words = line.split(' ');
            let kind = words.next().context("the kind of a run")?;
            Ok(Self { kind, words: words.collect(), text })
        })
        .collect()
    }

    fn lines(&self, start: &str) -> String {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix(start));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// The subject's facts.
    pub(crate) fn facts(&self) -> String {
        self.lines(&format!("{}.", self.words[1]))
    }

    /// How many ends of connections moved.
    pub(crate) fn moved(&self) -> usize {
        self.lines("moved ").lines().filter_map(|count| count.parse::<usize>().ok()).sum()
    }

    /// How long it took.
    pub(crate) fn seconds(&self) -> Result<u64> {
        self.lines("seconds ").trim().parse().with_context(|| format!("{:?} did not end", self.words))
    }

    /// What is wrong with it. `moving`: connections that can move do.
    pub(crate) fn compare(&self, bare: &Self, moving: bool) -> Option<String> {
        let (expected, found) = (bare.facts(), self.facts());
        let differences = report::differences(&expected, &found, &[], true);
        let stayed = ["server ", "client "].map(|end| report::moves(&self.lines(end), moving).err());
        let mut wrong = if expected.is_empty() { format!("no facts:\n{}", bare.text) } else { differences };
        wrong.extend(stayed.iter().flatten().map(|error| format!("  {error:#}\n")));
        (!wrong.is_empty()).then(|| format!("{}:\n{wrong}", self.words.join(" ")))
    }
}
