//! What a limit of descriptors costs.

use anyhow::{Context, Result};

use crate::run::Run;

/// The limits: a usual one, and the million.
const LIMITS: [&str; 2] = ["1024", "1000000"];
/// What the limit has nothing to do with, in microseconds.
const STEADY: [&str; 4] = ["start", "fork", "close_range", "closefrom"];
/// Likewise, in kilobytes.
const MEMORY: &str = "memory";
/// A loop over all numbers, whose time grows with the limit whatever runs.
const LOOP: &str = "close-each";
/// Emulated processors share this host's with other work. A call for each of a million numbers takes a second there.
const NOISE: u64 = 50_000;

/// Prints the figures, and answers what is wrong with them.
pub(crate) fn check(runs: &[Run]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    println!("{:12} {:>10} {:>10} {:>10} {:>10}", "us, KiB", "bare 1024", "million", "lib 1024", "million");
    for name in STEADY.into_iter().chain([MEMORY, LOOP]) {
        let [bare, under] = ["tcp", "both"].map(|world| LIMITS.map(|limit| figure(runs, world, limit, name)));
        let ([bare, bare_many], [few, many]) = (each(bare)?, each(under)?);
        println!("{name:12} {bare:10} {bare_many:10} {few:10} {many:10}");
        let most = match name {
            LOOP => 2 * bare_many,
            MEMORY => few + few / 4,
            _ => 2 * few + NOISE,
        };
        if many > most {
            wrong.push(format!("{name}: {many} under a limit of a million, more than {most}"));
        }
    }
    for run in runs.iter().filter(|run| run.kind == "figures" && run.words[0] == "both") {
        if run.text.lines().filter(|line| line.ends_with("runs on SMC-D")).count() != 2 {
            wrong.push(format!("the connection did not move: {:?}\n{}", run.words, run.text));
        }
    }
    Ok(wrong)
}

fn each([few, many]: [Result<u64>; 2]) -> Result<[u64; 2]> {
    Ok([few?, many?])
}

fn figure(runs: &[Run], world: &str, limit: &str, name: &str) -> Result<u64> {
    let run = runs.iter().find(|run| run.kind == "figures" && run.words == [world, limit]);
    let run = run.with_context(|| format!("no figures of {world} {limit}"))?;
    let value = run.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).with_context(|| format!("no {name} of {world} {limit}:\n{}", run.text))
}
