//! Workers that share a mux are killed at random moments under load, and replaced (`tests/kcm-killed`): their siblings'
//! connections live on, nothing comes twice, and no more is lost than one message of a kill.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::c;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;

/// How long workers are killed. By hand: `kcm_run -p u32be@0+4 killed 30`.
const SECONDS: &str = "3";

/// As `tests/kcm-killed` makes them.
const CONNECTIONS: usize = 4;

#[test]
fn connections_outlive_workers() -> Result<()> {
    play("kcm", "killed")
}

#[test]
fn connections_in_shared_memory_outlive_workers() -> Result<()> {
    play("smc,kcm", "killed-moved")
}

fn play(serves: &str, name: &str) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    c::compile(&["kcm-killed"], "-O1", &program)?;
    let scene = Scene::new(World::Both, LIMIT)?;
    let counts = scene.path("counts");
    let launch = scene.client("env").env("PRELOOP_STATS", &counts);
    let launch = launch.arg(format!("PRELOOP_SERVES={serves}")).arg("KCM_PARSER=u32be@0+4");
    launch.arg(&program).arg(SECONDS).run()?;
    let counts = std::fs::read_to_string(counts).context("the library counts nothing")?;
    let moved = counts.lines().filter(|line| line.starts_with("moved ")).count();
    let ends = if serves.contains("smc") { 2 * CONNECTIONS } else { 0 };
    ensure!(moved == ends, "{moved} ends of connections have moved:\n{counts}");
    Ok(())
}
