//! What `PRELOOP_STATS` has the library write of each end of a connection.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{ports, programs, verdict};

#[test]
fn both_ends_count_their_move() -> ExitCode {
    verdict::of(count(World::Both, "moved"))
}

#[test]
fn a_lone_end_counts_its_decline() -> ExitCode {
    verdict::of(count(World::ClientOnly, "stays"))
}

/// Each preloaded end writes its beginning, what becomes of it, and its end, in that order.
fn count(world: World, fate: &str) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(30);
    let scene = Scene::new(world, LIMIT)?;
    let port = ports::free()?;
    let file = scene.path("stats");
    let (setting, pair) = (format!("PRELOOP_STATS={}", file.display()), programs::find("tcp-pair")?);
    let address = format!("127.0.0.1:{port}");
    let server = scene.server("env").arg(&setting).arg(&pair).args(["serve", &address, "--once"]).listen(port)?;
    scene.client("env").arg(&setting).arg(&pair).args(["pingpong", &address, "--seconds", "0.2"]).run()?;
    server.success()?;

    let text = fs::read_to_string(&file).context("the library wrote nothing")?;
    let ends: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("begin ")?.split(' ').next()).collect();
    let expected = if world == World::Both { 2 } else { 1 };
    ensure!(ends.len() == expected, "{text}");
    for end in ends {
        let of_end = |line: &&str| line.split(' ').nth(1) == Some(end);
        let events: Vec<_> = text.lines().filter(of_end).filter_map(|line| line.split(' ').next()).collect();
        let place = |event| events.iter().position(|it| *it == event);
        let all = [place("begin"), place(fate), place("end")];
        ensure!(all[0] == Some(0) && all[1] > all[0] && all[2] > all[1], "{end}: {events:?}\n{text}");
    }
    Ok(())
}
