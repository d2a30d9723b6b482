//! One end is killed while the other one's program is replaced by one that cannot be preloaded: no stream seems to end of
//! which a part is missing.

use std::time::Duration;

use anyhow::{Result, ensure};
use preloop_tests::process::Finished;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{programs, verdict};

/// By hand: `smc_run python3 back_kill.py 1000`.
const ROUNDS: usize = 80;

/// Named as `verify` skips it for want of Python.
mod back_kill {
    use std::process::ExitCode;

    #[test]
    fn at_any_moment() -> ExitCode {
        super::verdict::of(super::at_any_moment())
    }

    #[test]
    fn in_its_answer() -> ExitCode {
        super::verdict::of(super::in_its_answer("alone", "0 error True"))
    }

    #[test]
    fn in_its_answer_beside_a_sibling() -> ExitCode {
        super::verdict::of(super::in_its_answer("shared", "20000 end True"))
    }
}

fn run(arguments: &[&str]) -> Result<Finished> {
    const LIMIT: Duration = Duration::from_secs(100);
    let scene = Scene::new(World::Both, LIMIT)?;
    let launch = scene.client("env").args(["SMC_DEBUG=1", "PYTHONDONTWRITEBYTECODE=1"]);
    launch.arg(programs::find("python3")?).arg(programs::script(arguments[0])).args(&arguments[1..]).run()
}

fn at_any_moment() -> Result<()> {
    let done = run(&["back_kill.py", &ROUNDS.to_string()])?;
    let count = |what: &str| done.stderr.lines().filter(|line| line.contains(what)).count();
    ensure!(count("runs on SMC-D") == 2 * ROUNDS, "{done:?}");
    // Some were killed before.
    ensure!(count("is back on TCP") > ROUNDS / 2, "{done:?}");
    Ok(())
}

/// What the next program then finds: how many numbers, and how the stream ended.
fn in_its_answer(who: &str, found: &str) -> Result<()> {
    let done = run(&["back_answer.py", who])?;
    ensure!(done.stdout == format!("killed True\n{found}\n"), "{done:?}");
    Ok(())
}
