//! SIGKILL of one side at random moments, five hundred times: before, during and after the change-over, in requests and
//! replies and in full flow both ways. The other side ends at once, has everything that the dead one is known to have
//! written, and keeps nothing of the connection.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::process::Process;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{ports, verdict, wait};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-doomed");
/// Survivors, each of which outlives so many others.
const SURVIVORS: u64 = 10;
const ROUNDS: u64 = 25;
/// Groups without a connection that a process may keep for the next one, and the one of the round itself.
const KEPT_GROUPS: u64 = 9;

#[test]
fn servers_outlive_clients() -> ExitCode {
    verdict::of(all_survivors(true))
}

#[test]
fn clients_outlive_servers() -> ExitCode {
    verdict::of(all_survivors(false))
}

fn all_survivors(serves: bool) -> Result<()> {
    for number in 0..SURVIVORS {
        let seed = number * ROUNDS + if serves { 0 } else { 10_000 };
        one_survivor(serves, seed).with_context(|| format!("rounds from {seed} on"))?;
    }
    Ok(())
}

fn one_survivor(serves: bool, first: u64) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let scene = Scene::new(World::Both, LIMIT)?;
    let port = ports::free()?;
    let launch = if serves { scene.server("env") } else { scene.client("env") };
    let how = if serves { "listen" } else { "connect" };
    let mut survivor = launch.args([PROGRAM, "survive", how, &port.to_string()]).piped().start()?;
    survivor.wait_for_line("ready")?;
    let mut descriptors = Vec::new();
    for seed in first..first + ROUNDS {
        let victim_port = if serves { port } else { ports::free()? };
        let round = Round { serves, port: victim_port, seed };
        let left = round.play(&scene, &mut survivor).with_context(|| format!("round {seed}"))?;
        ensure!(left.mapped <= KEPT_GROUPS && left.open <= 1, "{left:?}");
        descriptors.push(left.descriptors);
    }
    // After the first rounds, which make what a process has one of, nothing is added.
    let (early, late) = (descriptors[2], descriptors[descriptors.len() - 1]);
    ensure!(late <= early + KEPT_GROUPS, "descriptors add up: {descriptors:?}");
    survivor.end_input();
    survivor.success()?;
    Ok(())
}

struct Round {
    serves: bool,
    port: u16,
    seed: u64,
}

/// What a connection that is over leaves in the survivor.
#[derive(Debug)]
struct Left {
    mapped: u64,
    open: u64,
    descriptors: u64,
}

impl Round {
    fn play(&self, scene: &Scene, survivor: &mut Process) -> Result<Left> {
        /// How long a survivor may take to notice.
        const NOTICE: Duration = Duration::from_secs(5);
        let mut random = SmallRng::seed_from_u64(self.seed);
        let report = scene.path(&format!("report-{}", self.seed));
        let launch = if self.serves { scene.client("env") } else { scene.server("env") };
        let how = if self.serves { "connect" } else { "listen" };
        let args = [PROGRAM, "die", how, &self.port.to_string(), &self.seed.to_string()];
        let victim = launch.args(args).arg(&report).start()?;
        let order = format!("{} {}\n", self.port, self.seed);
        if self.serves {
            survivor.input(order.as_bytes())?;
            wait::until("the victim is connected", NOTICE, || Ok(report.exists()))?;
        } else {
            wait::until("the victim listens", NOTICE, || Ok(report.exists()))?;
            survivor.input(order.as_bytes())?;
        }
        // The moment of the kill is what is random here; nothing is waited for. Early ones are as common as late ones.
        std::thread::sleep(Duration::from_micros(random.random_range(5.0_f64..15.3).exp2() as u64));
        let ended = victim.signal(Signal::KILL)?;
        ensure!(ended.status.code().is_none(), "the victim ended by itself: {ended:?}");
        let start = format!("round {}: ", self.seed);
        wait::until("the survivor notices", NOTICE, || {
            ensure!(!survivor.has_ended()?, "the survivor died:\n{}", survivor.output());
            Ok(line(survivor, &start).is_some())
        })
        .with_context(|| survivor.output())?;
        let line = line(survivor, &start).context("the round's line")?;
        self.judge(&line, written(&report)?).with_context(|| line.clone())
    }

    fn judge(&self, line: &str, written: u64) -> Result<Left> {
        let numbers: Vec<u64> =
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
        let [_, received, mapped, open, descriptors] = numbers[..] else { anyhow::bail!("an unknown answer") };
        let ends = ["the end;", "a reset;", "a broken pipe;", "nobody;"];
        ensure!(ends.iter().any(|end| line.contains(end)), "a wrong end");
        // A flood from the first byte on may be on TCP, which drops what it has not passed on when it resets.
        let flood = self.seed.is_multiple_of(4);
        ensure!(flood || line.contains("nobody;") || received >= written, "{written} bytes were written");
        Ok(Left { mapped, open, descriptors })
    }
}

fn line(survivor: &Process, start: &str) -> Option<String> {
    survivor.stdout().lines().find(|line| line.starts_with(start) && line.ends_with("descriptors")).map(str::to_owned)
}

/// What the victim stored last; nothing before its first write.
fn written(report: &Path) -> Result<u64> {
    let bytes = std::fs::read(report).context("the report")?;
    Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
}
