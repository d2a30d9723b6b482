//! What the change-over, and the life after it, must not change: small programs that know nothing of the library state
//! facts about their connections. Each scenario (see `programs/scenario/`) is played on plain TCP, with both sides under
//! `smc_run`, and with only one of them; the facts must be the same line by line, and with both sides preloaded the
//! library must say that the connections moved.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::process::Finished;
use preloop_tests::scene::Scene;
use preloop_tests::world::{Side, World};
use preloop_tests::{ports, programs, verdict, wait};

/// Makes a test of each scenario of a subject; in brackets how many connections move at least when both
/// sides are preloaded.
macro_rules! scenarios {
    ($subject:literal: $($scenario:ident [$moving:expr]),+ $(,)?) => {$(
        #[test]
        fn $scenario() -> std::process::ExitCode {
            crate::play($subject, stringify!($scenario), $moving)
        }
    )+};
}

mod addresses;
mod backs;
mod backs_asleep;
mod calls;
mod closing;
mod execs;
mod forks;
mod idle;
mod numbers;
mod offsets;
mod passing;
mod peers;
mod readers;
mod sets;
mod sharing_sets;
mod signals;
mod transfers;
mod tuples;

/// What the library prints, with `SMC_DEBUG=1`, at each end of a connection that moves.
const MOVED: &str = "runs on SMC-D";

fn play(subject: &'static str, scenario: &'static str, moving: usize) -> ExitCode {
    verdict::of(compare(subject, scenario, moving).with_context(|| format!("{subject}, {scenario}")))
}

/// All worlds at once: programs in scenarios mostly wait.
fn compare(subject: &str, scenario: &str, moving: usize) -> Result<()> {
    let worlds = [World::Tcp, World::Both, World::ClientOnly, World::ServerOnly];
    let played = std::thread::scope(|scope| {
        let start = |world| scope.spawn(move || ends(subject, scenario, world));
        worlds.map(start).map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let mut facts = Vec::new();
    for (world, ends) in worlds.into_iter().zip(played) {
        let ends = ends.with_context(|| world.to_string())?;
        let expected = if world == World::Both { moving } else { 0 };
        for (side, end) in [Side::Server, Side::Client].into_iter().zip(&ends) {
            let moved = end.stderr.lines().filter(|line| line.ends_with(MOVED)).count();
            let right = if expected == 0 { moved == 0 } else { moved >= expected };
            ensure!(right, "{world}, {side:?}: {moved} connections moved, not {expected}\n{}", end.stderr);
        }
        facts.push((world, ends.map(|end| end.stdout)));
    }
    let (_, reference) = &facts[0];
    for (world, facts) in &facts[1..] {
        for (side, (fact, expected)) in [Side::Server, Side::Client].iter().zip(facts.iter().zip(reference)) {
            ensure!(fact == expected, "{world}, {side:?}:\n{}", difference(expected, fact));
        }
    }
    Ok(())
}

/// The server's and the client's facts in one world.
fn ends(subject: &str, scenario: &str, world: World) -> Result<[Finished; 2]> {
    /// Longer than the programs' own limit, after which they say where they hang.
    const LIMIT: Duration = Duration::from_secs(40);
    let scene = Scene::new(world, LIMIT)?;
    let port = ports::free()?;
    let python = programs::find("python3")?;
    let program = |side, role: &str| {
        let launch = if side == Side::Server { scene.server("env") } else { scene.client("env") };
        let launch = launch.line("SMC_DEBUG=1 PYTHONDONTWRITEBYTECODE=1").arg(&python);
        launch.arg(programs::script("scenario/run.py")).args([subject, scenario, role, &port.to_string()])
    };
    let mut server = program(Side::Server, "server").listen(port)?;
    let client = program(Side::Client, "client").start()?;
    // Whichever fails first says why; the other one then waits in vain.
    let client = client.success();
    wait::until("the server ends", Duration::from_secs(10), || Ok(client.is_err() || server.has_ended()?))?;
    let client = client.with_context(|| server.output())?;
    Ok([server.success()?, client])
}

/// Lines that are only in one of two texts.
fn difference(expected: &str, found: &str) -> String {
    let only = |mark: &str, these: &str, those: &str| -> String {
        let those: Vec<_> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(|line| format!("{mark} {line}\n")).collect()
    };
    only("TCP: ", expected, found) + &only("here:", found, expected)
}
