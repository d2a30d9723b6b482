//! A program that cannot be preloaded is never given a connection whose bytes it would not find.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use preloop_tests::programs;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;

/// Named as `verify` skips it for want of Python.
mod bare_exec {
    #[test]
    fn is_refused() -> std::process::ExitCode {
        super::play()
    }
}

fn play() -> ExitCode {
    match is_refused() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_refused() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(30);
    /// As input of the next program; beside it, in a child; as a spawned program's input; beside one, before it moved.
    const FACTS: &str = "EOPNOTSUPP\ngoes on\nran\ngoes on\nEOPNOTSUPP\ngoes on\nran\ngoes on\n";
    let scene = Scene::new(World::Both, LIMIT)?;
    let launch = scene.client("env").args(["SMC_DEBUG=1", "PYTHONDONTWRITEBYTECODE=1"]);
    let done = launch.arg(programs::find("python3")?).arg(programs::script("bare_exec.py")).run()?;
    ensure!(done.stdout == FACTS, "{done:?}");
    // Both ends of both: the second moved once the child that had it was gone.
    ensure!(done.stderr.lines().filter(|line| line.contains("runs on SMC-D")).count() == 4, "{done:?}");
    Ok(())
}
