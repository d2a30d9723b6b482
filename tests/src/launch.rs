//! Starting a program, under `smc_run` or not.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::process::{Finished, Process};
use crate::scene::{Scene, User};
use crate::world::Side;
use crate::{procfs, programs, wait};

/// A program about to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    scene: &'a Scene,
    side: Side,
    program: String,
    args: Vec<OsString>,
    core: Option<usize>,
    input: Stdio,
    variables: Vec<(String, OsString)>,
}

impl<'a> Launch<'a> {
    pub(crate) fn new(scene: &'a Scene, side: Side, program: &str) -> Self {
        let (program, variables) = (program.to_owned(), Vec::new());
        Self { scene, side, program, args: Vec::new(), core: None, input: Stdio::null(), variables }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Adds the arguments that a line of text names, parted by blanks.
    #[must_use]
    pub fn line(self, args: &str) -> Self {
        self.args(args.split_whitespace())
    }

    /// Runs it on one core only, or on all with `None`.
    #[must_use]
    pub fn on_core(mut self, core: Option<usize>) -> Self {
        self.core = core;
        self
    }

    /// Gives it a pipe to read from, see [`Process::input`].
    #[must_use]
    pub fn piped(mut self) -> Self {
        self.input = Stdio::piped();
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the program, or what it takes to preload it, is missing.
    pub fn start(self) -> Result<Process> {
        let preloaded = self.scene.world().preloads(self.side);
        let mut line = Vec::new();
        if let Some(core) = self.core {
            line.extend([programs::find("taskset")?.into(), "-c".into(), OsString::from(core.to_string())]);
        }
        if preloaded {
            line.push(self.scene.artefact("smc_run")?.into());
        }
        line.push(programs::find(&self.program)?.into());
        line.extend(self.args);

        let serial = self.scene.next_serial();
        let log = |stream| self.scene.path(&format!("{serial}-{}.{stream}", self.program));
        let (out, err): (PathBuf, PathBuf) = (log("out"), log("err"));
        let mut command = Command::new(&line[0]);
        command
            .args(&line[1..])
            .env_remove("LD_PRELOAD")
            .envs(self.variables)
            .current_dir(self.scene.dir())
            .stdin(self.input)
            .stdout(File::create(&out).context("a file for the output")?)
            .stderr(File::create(&err).context("a file for the messages")?)
            .process_group(0);
        if let Some(User { uid, gid }) = self.scene.user() {
            command.uid(uid).gid(gid).env("HOME", self.scene.dir());
        }
        let die_with_us = || Ok(set_parent_process_death_signal(Some(Signal::TERM))?);
        // SAFETY: the closure makes one system call and touches no memory.
        unsafe { command.pre_exec(die_with_us) };
        let child = command.spawn().with_context(|| format!("starting {}", self.program))?;
        Process::new(child, self.program, [out, err], self.scene.groups())
    }

    /// Starts it and waits until it listens on the port.
    ///
    /// # Errors
    /// When it ends before, or takes too long.
    pub fn listen(self, port: u16) -> Result<Process> {
        /// Longer than the slowest, RabbitMQ, which takes ten seconds.
        const LIMIT: Duration = Duration::from_secs(60);
        let mut process = self.start()?;
        let what = format!("{} listens on port {port}", process.name());
        wait::until(&what, LIMIT, || {
            if process.has_ended()? {
                bail!("it ended early:\n{}", process.output());
            }
            Ok(procfs::listens(process.pid(), port))
        })?;
        Ok(process)
    }

    /// Runs it to its end, which must be a success.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(self) -> Result<Finished> {
        self.start()?.success()
    }
}
