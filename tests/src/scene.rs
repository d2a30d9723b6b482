//! A scene: the world in which programs run, their files, and their deadline.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::artefacts::Artefacts;
use crate::launch::Launch;
use crate::observer::Observer;
use crate::watchdog::{Groups, Watchdog};
use crate::world::{Side, World};

/// Programs that run together. When it is dropped, or its deadline passes, all of them are gone.
#[derive(Debug)]
pub struct Scene {
    world: World,
    artefacts: Artefacts,
    watchdog: Watchdog,
    serial: AtomicUsize,
    dir: TempDir,
    user: Option<User>,
}

/// Whom programs run as.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group, the only one.
    pub gid: u32,
}

impl Scene {
    /// An empty scene that may last `limit`.
    ///
    /// # Errors
    /// When the library or its tools are not built and the world needs them, or without a temporary directory.
    pub fn new(world: World, limit: Duration) -> Result<Self> {
        let artefacts = Artefacts::locate()?;
        if world != World::Tcp {
            for name in ["libpreloop.so", "smc_run", "smcss"] {
                artefacts.get(name)?;
            }
        }
        let dir = tempfile::Builder::new().prefix("preloop-").tempdir().context("a temporary directory")?;
        Ok(Self { world, artefacts, watchdog: Watchdog::start(limit), serial: AtomicUsize::new(0), dir, user: None })
    }

    /// Which sides run under `smc_run`.
    pub fn world(&self) -> World {
        self.world
    }

    /// Runs every program from now on as this user, who gets the scene's directory. Only root may.
    ///
    /// # Errors
    /// When the directory cannot be given away.
    pub fn run_as(&mut self, user: User) -> Result<()> {
        chown(self.dir(), Some(user.uid), Some(user.gid)).context("giving away the scene's directory")?;
        self.user = Some(user);
        Ok(())
    }

    /// Leaves the scene's directory where it is when the scene ends, for whoever wants to see why it failed.
    pub fn keep_files(&mut self) {
        self.dir.disable_cleanup(true);
    }

    /// A program that accepts connections.
    pub fn server(&self, program: &str) -> Launch<'_> {
        Launch::new(self, Side::Server, program)
    }

    /// A program that opens connections.
    pub fn client(&self, program: &str) -> Launch<'_> {
        Launch::new(self, Side::Client, program)
    }

    /// Watches, from now on, the mode of every connection that touches the port.
    pub fn observe(&self, port: u16) -> Result<Observer> {
        self.observe_all(&[port])
    }

    /// Watches, from now on, the mode of every connection that touches one of the ports.
    pub fn observe_all(&self, ports: &[u16]) -> Result<Observer> {
        Observer::start(self.world, self.artefacts.clone(), ports)
    }

    /// The scene's own directory, which is also where its programs run.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Path of a file in the scene's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub(crate) fn artefact(&self, name: &str) -> Result<PathBuf> {
        self.artefacts.get(name)
    }

    pub(crate) fn user(&self) -> Option<User> {
        self.user
    }

    pub(crate) fn groups(&self) -> Arc<Groups> {
        Arc::clone(&self.watchdog.groups)
    }

    pub(crate) fn next_serial(&self) -> usize {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }
}
