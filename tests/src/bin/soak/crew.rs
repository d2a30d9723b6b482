//! The clients: a fixed number of places, each of which has a client of one kind at any time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use preloop_tests::process::Process;
use preloop_tests::scene::Scene;
use preloop_tests::{procfs, programs};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

/// Kinds of clients, how many processes there are of each, and of the connections of a run which share in a hundred such
/// a process holds (more than a hundred in all, for they take their time to open them); 0 for kinds that hold one or a few.
const KINDS: &[(&str, usize, usize)] = &[
    ("crowd", 10, 9),
    ("epoll", 5, 6),
    ("dialogues", 6, 0),
    ("short", 4, 0),
    ("bulk", 3, 0),
    ("half", 3, 0),
    ("forks", 3, 0),
];
/// Kinds that are Python's.
const SCRIPTS: [&str; 2] = ["epoll", "forks"];
/// A client that is not answered for so long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Place {
    kind: &'static str,
    connections: usize,
    report: PathBuf,
    client: Option<Process>,
    answers: u64,
    since: Instant,
}

/// All clients.
pub(crate) struct Crew<'a> {
    scene: &'a Scene,
    ports: [u16; 2],
    random: SmallRng,
    places: Vec<Place>,
    /// Clients so far, those that were killed, and answers that all had.
    pub(crate) started: u64,
    pub(crate) killed: u64,
    pub(crate) answers: u64,
}

impl<'a> Crew<'a> {
    /// No client yet.
    pub(crate) fn new(scene: &'a Scene, ports: [u16; 2], seed: u64, connections: usize) -> Self {
        let kinds = KINDS.iter().flat_map(|&(kind, count, share)| std::iter::repeat_n((kind, share), count));
        let place = |(number, (kind, share)): (usize, (&'static str, usize))| Place {
            kind,
            connections: (connections * share / 100).max(1),
            report: scene.path(&format!("answers-{number}")),
            client: None,
            answers: 0,
            since: Instant::now(),
        };
        let places = kinds.enumerate().map(place).collect();
        Self { scene, ports, random: SmallRng::seed_from_u64(seed), places, started: 0, killed: 0, answers: 0 }
    }

    /// Fills empty places, and looks how the clients are.
    ///
    /// # Errors
    /// When one failed or hangs.
    pub(crate) fn tend(&mut self, servers: [u32; 2]) -> Result<()> {
        for at in 0..self.places.len() {
            if self.places[at].client.is_none() {
                self.start(at)?;
            }
            self.look(at, servers)?;
        }
        Ok(())
    }

    fn start(&mut self, at: usize) -> Result<()> {
        let (port, seed) = (self.ports[self.random.random_range(0..2)], self.random.random::<u32>());
        let place = &mut self.places[at];
        let launch = if SCRIPTS.contains(&place.kind) {
            self.scene.client("python3").arg("-B").arg(programs::script("soak/client.py")).arg(place.kind)
        } else {
            self.scene.client("env").arg(crate::own_path()?).args(["client", place.kind])
        };
        // Of the one before.
        let _ = std::fs::remove_file(&place.report);
        let launch = launch.args([port.to_string(), seed.to_string()]).arg(&place.report);
        place.client = Some(launch.arg(place.connections.to_string()).start()?);
        (place.answers, place.since) = (0, Instant::now());
        self.started += 1;
        Ok(())
    }

    fn look(&mut self, at: usize, servers: [u32; 2]) -> Result<()> {
        let place = &mut self.places[at];
        let Some(client) = &mut place.client else { return Ok(()) };
        let bytes = std::fs::read(&place.report).unwrap_or_default();
        let answers = bytes.try_into().map_or(0, u64::from_le_bytes);
        if answers > place.answers {
            self.answers += answers - place.answers;
            (place.answers, place.since) = (answers, Instant::now());
        }
        if client.has_ended()? {
            place.client.take().map(Process::success).transpose().context(place.kind)?;
        } else if place.since.elapsed() > PATIENCE {
            for pid in procfs::members(client.pid()).into_iter().chain(servers) {
                // Without a debugger there still is what the kernel says.
                let stacks = procfs::backtraces(pid);
                eprintln!("{}", if stacks.is_empty() { procfs::describe(pid) } else { stacks });
            }
            bail!("{} hangs after {answers} answers\n{}", place.kind, client.output());
        }
        Ok(())
    }

    /// Kills a client.
    ///
    /// # Errors
    /// When it had failed by itself.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let at = self.random.random_range(0..self.places.len());
        let Some(client) = self.places[at].client.take() else { return Ok(()) };
        self.killed += 1;
        let ended = client.signal(Signal::KILL)?;
        ensure!(ended.status.code().is_none_or(|code| code == 0), "{}: {ended:?}", self.places[at].kind);
        Ok(())
    }

    /// When the next client is to be killed.
    pub(crate) fn next_kill(&mut self) -> Instant {
        Instant::now() + Duration::from_millis(self.random.random_range(50..600))
    }

    /// Kills all clients at once.
    pub(crate) fn end(&mut self) {
        self.places.iter_mut().for_each(|place| place.client = None);
    }
}
