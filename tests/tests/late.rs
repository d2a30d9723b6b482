//! What shared memory cannot carry, asked for when a connection has moved and its peer cannot have it change back: the call
//! fails in bounded time, and the connection goes on.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{programs, verdict};

/// Named as `verify` skips it for want of Python.
mod late {
    #[test]
    fn is_refused() -> std::process::ExitCode {
        super::play()
    }
}

fn play() -> ExitCode {
    verdict::of(is_refused())
}

fn is_refused() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(30);
    /// While the peer is stopped: options and signals, urgent data. While it sleeps, in this process. In one that has begun
    /// to filter its system calls, before which all that has moved changed back.
    const FACTS: &str = "['EOPNOTSUPP', 'EOPNOTSUPP', 'EOPNOTSUPP'] soon\n1 soon\ngoes on\nNone soon\ngoes on\n\
                         None soon\ngoes on\n";
    let scene = Scene::new(World::Both, LIMIT)?;
    let launch = scene.client("env").args(["SMC_DEBUG=1", "PYTHONDONTWRITEBYTECODE=1"]);
    let done = launch.arg(programs::find("python3")?).arg(programs::script("bare/late.py")).run()?;
    ensure!(done.stdout == FACTS, "{done:?}");
    let (refused, rest) = done.stderr.split_once("refused until here").context("no such line")?;
    let (back, filtered) = rest.split_once("filtered from here").context("no such line")?;
    let counts = |text: &str, what| text.lines().filter(|line| line.contains(what)).count();
    let counted = |text| (counts(text, "runs on SMC-D"), counts(text, "is back on TCP"));
    ensure!(counted(refused) == (2, 0) && counted(back) == (2, 2) && counted(filtered) == (2, 4), "{done:?}");
    Ok(())
}
