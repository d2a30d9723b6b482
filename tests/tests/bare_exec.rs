//! A program that cannot be preloaded is never given a connection whose bytes it would not find: it changes back to TCP, or
//! the call fails.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{programs, verdict};

/// Named as `verify` skips it for want of Python.
mod bare_exec {
    #[test]
    fn finds_its_bytes() -> std::process::ExitCode {
        super::play()
    }
}

fn play() -> ExitCode {
    verdict::of(finds_its_bytes())
}

fn finds_its_bytes() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(30);
    /// While the peer makes no call: as input of the next program, as a spawned program's input. Beside the next program, in a
    /// child; beside one, before it moved. While the peer sleeps in a call: as input, as a spawned program's input.
    const FACTS: &str = "EOPNOTSUPP\nEOPNOTSUPP\nsoon\ngoes on\nran\ngoes on\nran\ngoes on\nmoved until here\n\
                         ran\ngoes on\n0\ngoes on\n";
    let scene = Scene::new(World::Both, LIMIT)?;
    let launch = scene.client("env").args(["SMC_DEBUG=1", "PYTHONDONTWRITEBYTECODE=1"]);
    let done = launch.arg(programs::find("python3")?).arg(programs::script("bare/exec.py")).run()?;
    ensure!(done.stdout == FACTS, "{done:?}");
    // Both ends of all three: the last moved once the child that had it was gone.
    let (before, after) = done.stderr.split_once("moved until here").context("no such line")?;
    let counts = |text: &str, what| text.lines().filter(|line| line.contains(what)).count();
    ensure!(counts(before, "runs on SMC-D") == 6 && counts(before, "is back on TCP") == 0, "{done:?}");
    ensure!(counts(after, "is back on TCP") == 4, "{done:?}");
    Ok(())
}
