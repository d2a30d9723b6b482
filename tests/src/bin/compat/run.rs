//! One application in one direction.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use preloop_tests::launch::Launch;
use preloop_tests::observer::{Observer, Tally};
use preloop_tests::process::Finished;
use preloop_tests::scene::{Scene, User};
use preloop_tests::world::World;
use preloop_tests::{ports, programs};

use crate::application::Application;
use crate::outcome::{self, Row};

/// A run takes a few seconds; on a slow machine it may take ten times that.
const LIMIT: Duration = Duration::from_secs(120);

/// Whom programs run as that refuse to run as root: Debian's `daemon`, which owns nothing and is on every system.
const DAEMON: User = User { uid: 1, gid: 1 };

/// What an application needs while it is exercised. Programs run in a directory of their own, which is empty at first.
#[derive(Debug)]
pub(crate) struct Run {
    scene: Scene,
    observers: RefCell<Vec<Observer>>,
}

impl Run {
    /// Ports that nobody listens on. Connections to them are watched from now on.
    pub(crate) fn ports<const N: usize>(&self) -> Result<[u16; N]> {
        let found = self.unwatched_ports()?;
        self.observers.borrow_mut().push(self.scene.observe_all(&found)?);
        Ok(found)
    }

    /// Ports for connections of helpers on one side among themselves, which do not count.
    pub(crate) fn unwatched_ports<const N: usize>(&self) -> Result<[u16; N]> {
        let mut found = [0; N];
        for port in &mut found {
            *port = ports::free()?;
        }
        Ok(found)
    }

    /// A program of the server's side.
    pub(crate) fn server(&self, program: &str) -> Launch<'_> {
        self.scene.server(program)
    }

    /// A program of the client's side.
    pub(crate) fn client(&self, program: &str) -> Launch<'_> {
        self.scene.client(program)
    }

    /// The scene underneath.
    pub(crate) fn scene(&self) -> &Scene {
        &self.scene
    }

    /// The path of a file in the run's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scene.path(name)
    }

    /// The run's directory, as configurations want it.
    pub(crate) fn dir(&self) -> String {
        self.scene.dir().display().to_string()
    }

    /// Makes a file in the run's directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    fn new(application: &Application, world: World) -> Result<Self> {
        let mut scene = Scene::new(world, LIMIT)?;
        if application.unprivileged && rustix::process::geteuid().is_root() {
            scene.run_as(DAEMON)?;
        }
        Ok(Self { scene, observers: RefCell::default() })
    }

    fn count(&self) -> Result<Tally> {
        let mut sum = Tally::default();
        for observer in self.observers.take() {
            let Tally { seen, moved, stayed } = observer.count()?;
            sum.seen += seen;
            sum.moved += moved;
            for (code, count) in stayed {
                *sum.stayed.entry(code).or_default() += count;
            }
        }
        Ok(sum)
    }
}

/// Runs an application in one direction.
///
/// # Errors
/// When it does not work, or its connections are not where they should be. Its files are kept then, and the error says
/// where; and whether it works on plain TCP.
pub(crate) fn play(application: &Application, world: World) -> Result<Row> {
    let mut run = Run::new(application, world)?;
    let played = (application.exercise)(&run).and_then(|()| outcome::judge(application, world, &run.count()?));
    let error = match played {
        Ok(row) => {
            println!("{row}");
            return Ok(row);
        }
        Err(error) => error,
    };
    fs::write(run.path("failure"), format!("{error:?}\n")).context("keeping the error")?;
    run.scene.keep_files();
    let kept = run.dir();
    drop(run);
    let control = Run::new(application, World::Tcp).and_then(|run| (application.exercise)(&run));
    let control = match control {
        Ok(()) => "on plain TCP it works".to_owned(),
        Err(error) => format!("on plain TCP it fails too: {error:#}"),
    };
    Err(anyhow!("{error:#}\n{control}\nits files and output are in {kept}"))
}

/// The path of a script that belongs to these applications.
pub(crate) fn script(name: &str) -> PathBuf {
    programs::script("compat").join(name)
}

/// The program's last line must be this.
pub(crate) fn expect_line(finished: &Finished, expected: &str) -> Result<()> {
    let last = finished.stdout.lines().last().unwrap_or_default().trim();
    ensure!(last == expected, "it printed {last:?} instead of {expected:?}:\n{}{}", finished.stdout, finished.stderr);
    Ok(())
}
