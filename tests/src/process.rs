//! A running program and what it printed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::watchdog::Groups;
use crate::{procfs, wait};

/// A running program, the leader of its own process group. The whole group ends with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    /// Where its standard output and standard error go.
    logs: [PathBuf; 2],
    groups: Arc<Groups>,
    reaped: bool,
}

/// What a program left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Process {
    pub(crate) fn new(child: Child, name: String, logs: [PathBuf; 2], groups: Arc<Groups>) -> Result<Self> {
        let process = Self { child, name, logs, groups, reaped: false };
        process.groups.add(process.pid());
        Ok(process)
    }

    /// Name of the program.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, which is its group's as well.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Time that its threads and its children's have spent on a CPU.
    pub fn cpu_time(&self) -> Duration {
        procfs::cpu_time(self.pid())
    }

    /// Writes to its standard input, which must be a pipe.
    ///
    /// # Errors
    /// When it does not read.
    pub fn input(&mut self, bytes: &[u8]) -> Result<()> {
        let pipe = self.child.stdin.as_mut().context("it was not started with a pipe")?;
        pipe.write_all(bytes).with_context(|| format!("writing to {}", self.name))
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// What it has printed so far, cut to its end.
    pub fn output(&self) -> String {
        let [out, err] = self.logs.each_ref().map(|path| tail(&read(path)));
        format!("--- output of {}\n{out}\n--- its messages\n{err}", self.name)
    }

    /// Waits until it has printed a line that starts so.
    ///
    /// # Errors
    /// When it ends before, by itself or because the scene's deadline passes.
    pub fn wait_for_line(&mut self, start: &str) -> Result<()> {
        /// Longer than any scene.
        const LIMIT: Duration = Duration::from_secs(3600);
        wait::until(&format!("{} prints {start:?}", self.name), LIMIT, || {
            let ended = self.has_ended()?;
            let printed = self.stdout().lines().any(|line| line.starts_with(start));
            ensure!(printed || !ended, "it ended early:\n{}", self.output());
            Ok(printed)
        })
    }

    /// What it has written to its standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.logs[0])
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// When the kernel does not know it.
    pub fn has_ended(&mut self) -> Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(self.reaped || waitid(WaitId::Pid(self.pid()), options)?.is_some())
    }

    /// Sends it a signal and waits for its end.
    ///
    /// # Errors
    /// When the scene's deadline passes before.
    pub fn signal(self, signal: Signal) -> Result<Finished> {
        kill_process(self.pid(), signal).with_context(|| format!("a signal to {}", self.name))?;
        self.finish()
    }

    /// Waits for its end, whatever it is.
    ///
    /// # Errors
    /// When the scene's deadline passes before.
    pub fn finish(mut self) -> Result<Finished> {
        let status = self.reap()?;
        let [stdout, stderr] = self.logs.each_ref().map(|path| read(path));
        Ok(Finished { status, stdout, stderr })
    }

    /// Waits for its end, which must be a success.
    ///
    /// # Errors
    /// When it fails, or the scene's deadline passes before.
    pub fn success(mut self) -> Result<Finished> {
        let status = self.reap()?;
        ensure!(status.success(), "{}: {status}\n{}", self.name, self.output());
        self.finish()
    }

    fn reap(&mut self) -> Result<ExitStatus> {
        self.end_input();
        if !self.reaped {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            rustix::io::retry_on_intr(|| waitid(WaitId::Pid(self.pid()), options))?;
            self.groups.end(self.pid());
            self.reaped = true;
        }
        let status = self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        if self.groups.expired() {
            bail!("{} was killed because its time was over\n{}", self.name, self.output());
        }
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            self.groups.end(self.pid());
            // It was killed: there is nothing to learn from how it ended.
            let _ = self.child.wait();
        }
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The last lines of a text.
fn tail(text: &str) -> String {
    const LINES: usize = 40;
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
