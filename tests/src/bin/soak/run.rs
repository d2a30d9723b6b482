//! A run: the servers, the clients, and what is looked at meanwhile and at the end.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use preloop_tests::artefacts::Artefacts;
use preloop_tests::process::Process;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{ports, programs, wait};

use crate::crew::Crew;
use crate::leftovers::Sample;

/// Between two looks at the clients.
const TICK: Duration = Duration::from_millis(50);
/// Between two samples.
const PERIOD: Duration = Duration::from_secs(5);
/// How long clients play before the servers are taken as they should be again at the end.
const WARM_UP: Duration = Duration::from_secs(8);

/// The C library gives freed memory back at once, so that what is resident is in use.
const FRUGAL: [&str; 2] = ["MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=16384"];

struct Server {
    name: &'static str,
    process: Process,
    port: u16,
}

impl Server {
    fn pid(&self) -> u32 {
        self.process.pid().as_raw_nonzero().get().cast_unsigned()
    }
}

struct Run<'a> {
    scene: &'a Scene,
    smcss: PathBuf,
    servers: [Server; 2],
}

/// Plays for so long.
///
/// # Errors
/// When a client hangs, hears something wrong or fails, or a server fails or has more at the end than early.
pub(crate) fn run(world: World, time: Duration, seed: u64, connections: usize) -> Result<()> {
    let scene = Scene::new(world, time + Duration::from_secs(300))?;
    let [first, second] = [ports::free()?, ports::free()?];
    let threads = scene.server("env").args(FRUGAL).arg(crate::own_path()?).args(["serve", &first.to_string()]);
    let script = programs::script("soak/epoll_server.py");
    let epoll =
        scene.server("env").args(FRUGAL).arg(programs::find("python3")?).arg("-B").arg(script).arg(second.to_string());
    let servers = [
        Server { name: "threads", process: threads.listen(first)?, port: first },
        Server { name: "epoll", process: epoll.listen(second)?, port: second },
    ];
    let mut run = Run { scene: &scene, smcss: Artefacts::locate()?.get("smcss")?, servers };
    let early = run.play(WARM_UP.min(time), seed, connections).context("the first seconds")?;
    let late = run.play(time, seed + 1, connections)?;
    for (server, (early, late)) in run.servers.iter().zip(early.iter().zip(&late)) {
        late.is_as(early)
            .with_context(|| format!("{}, early: {early}\n{}, late:  {late}", server.name, server.name))?;
    }
    println!("as in the first seconds: passed");
    Ok(())
}

impl Run<'_> {
    /// Clients play; what the servers have when all are gone.
    fn play(&mut self, time: Duration, seed: u64, connections: usize) -> Result<Vec<Sample>> {
        let ports = self.servers.each_ref().map(|server| server.port);
        let pids = self.servers.each_ref().map(Server::pid);
        let mut crew = Crew::new(self.scene, ports, seed, connections);
        let start = Instant::now();
        let (mut next_sample, mut next_kill) = (start + PERIOD, crew.next_kill());
        while start.elapsed() < time {
            crew.tend(pids)?;
            for server in &mut self.servers {
                ensure!(!server.process.has_ended()?, "a server died\n{}", server.process.output());
            }
            let now = Instant::now();
            if now >= next_kill {
                crew.kill()?;
                next_kill = crew.next_kill();
            }
            if now >= next_sample {
                next_sample = now + PERIOD;
                self.report(start.elapsed())?;
                println!("        {} clients, {} killed, {} answers", crew.started, crew.killed, crew.answers);
            }
            sleep(TICK);
        }
        crew.end();
        self.alone()
    }

    fn samples(&self) -> Result<Vec<Sample>> {
        self.servers.iter().map(|server| Sample::take(&self.smcss, server.pid(), server.port)).collect()
    }

    fn report(&self, at: Duration) -> Result<()> {
        for (server, sample) in self.servers.iter().zip(self.samples()?) {
            println!("{:4} s {:>7}: {sample}", at.as_secs(), server.name);
        }
        Ok(())
    }

    /// Waits until the servers have noticed that all clients are gone; then one more comes to each, by which the library
    /// forgets what it kept for the others.
    fn alone(&mut self) -> Result<Vec<Sample>> {
        const LIMIT: Duration = Duration::from_secs(30);
        let all_gone = || Ok(self.samples()?.iter().all(Sample::is_alone));
        wait::until("the servers let all connections go", LIMIT, all_gone)?;
        self.report(Duration::ZERO)?;
        for server in &self.servers {
            let client = self.scene.client("python3").arg("-B").arg(programs::script("hostile/ping.py"));
            client.args([server.port.to_string(), "50".to_owned()]).run()?;
        }
        wait::until("the last connection is over", LIMIT, all_gone)?;
        self.report(Duration::ZERO)?;
        self.samples()
    }
}
