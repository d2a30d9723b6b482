//! A program that is not preloaded, or has another build of the library, and is passed a connection that has moved
//! (SCM_RIGHTS), loses no byte of it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{programs, verdict};

/// Named as `verify` skips it for want of Python.
mod bare_receiver {
    #[test]
    fn gets_nothing() -> std::process::ExitCode {
        super::play()
    }
}

fn play() -> ExitCode {
    verdict::of(gets_nothing())
}

fn gets_nothing() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(30);
    const KNOWN: &str =
        "hears\nEOPNOTSUPP\ngoes on\n1\nb'x' goes on\nreads b'to be read there' sends 1\nthe peer's end 0 0\n";
    const UNKNOWN: &str = "1 goes on\nreads b'' sends EPIPE\ngoes on\nthe peer's end True\n0\n";
    let scene = Scene::new(World::Both, LIMIT)?;
    let launch = scene.client("env").args(["SMC_DEBUG=1", "PYTHONDONTWRITEBYTECODE=1"]);
    let done = launch.arg(programs::find("python3")?).arg(programs::script("bare/receiver.py")).run()?;
    ensure!(done.stdout == format!("{KNOWN}{UNKNOWN}").repeat(2), "{done:?}");
    let told = |what| done.stderr.lines().filter(|line| line.contains(what)).count();
    ensure!(told("and is not passed") == 2 && told("the sender has another library") == 1, "{done:?}");
    Ok(())
}
