//! Machines that qemu emulates in software, with Debian's kernel, and what they wrote to their serial ports.
//!
//! The script that runs there as process 1 writes to the second port, so that the kernel's messages on the first never mix
//! with it: a line `VERSION` and what `uname -srv` says, what is to be found out, and `END`.

pub mod initramfs;
pub mod kernel;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::{programs, wait};

/// What machines are made of.
#[derive(Debug)]
pub struct Build<'a> {
    /// The kernel's image.
    pub kernel: &'a Path,
    /// The file system's archive.
    pub initramfs: &'a Path,
    /// Megabytes.
    pub memory: u32,
    /// Arguments of process 1.
    pub words: &'a [String],
    /// A machine that takes longer hangs.
    pub limit: Duration,
}

/// What one machine left behind.
#[derive(Debug)]
pub struct Record {
    /// The kernel's name, release and version.
    pub version: String,
    /// What stood between that and the end.
    pub facts: String,
    /// Lines of its log that tell of faults in the kernel itself.
    pub warnings: Vec<String>,
}

struct Machine<'a> {
    process: Child,
    dir: &'a Path,
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Build<'_> {
    /// Runs machines at the same time, each with so many processors and a directory of its own for its ports, until all have
    /// switched themselves off.
    ///
    /// # Errors
    /// When one does not come to its end in time.
    pub fn run(&self, machines: &[(usize, PathBuf)]) -> Result<Vec<Record>> {
        let mut running = Vec::new();
        for (processors, dir) in machines {
            fs::create_dir_all(dir)?;
            running.push(Machine { process: self.boot(dir, *processors)?, dir });
        }
        for machine in &mut running {
            let process = &mut machine.process;
            wait::until("the machine is off", self.limit, || Ok(process.try_wait()?.is_some()))?;
        }
        running.iter().map(Machine::record).collect()
    }

    fn boot(&self, dir: &Path, processors: usize) -> Result<Child> {
        let port = |name| format!("file:{}", dir.join(name).display());
        let options = format!("console=ttyS0 loglevel=5 panic=-1 -- {}", self.words.join(" "));
        let mut qemu = Command::new(programs::find("qemu-system-x86_64")?);
        qemu.args(["-accel", "tcg,thread=multi", "-nodefaults", "-no-reboot", "-display", "none"]);
        qemu.args(["-smp", &processors.to_string(), "-m", &self.memory.to_string()]);
        qemu.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs).args(["-append", &options]);
        qemu.args(["-serial", &port("console"), "-serial", &port("facts")]);
        qemu.stdin(Stdio::null()).spawn().context("starting qemu")
    }
}

impl Machine<'_> {
    fn record(&self) -> Result<Record> {
        let console = String::from_utf8_lossy(&fs::read(self.dir.join("console"))?).into_owned();
        let facts = String::from_utf8_lossy(&fs::read(self.dir.join("facts"))?).into_owned();
        let Some((version, facts)) = facts.split_once('\n') else {
            bail!("the machine said nothing: see {}", self.dir.join("console").display());
        };
        let facts = facts.strip_suffix("END\n");
        let facts = facts.with_context(|| format!("the machine ended early: see {}", self.dir.display()))?;
        let version = version.strip_prefix("VERSION ").context("the kernel's version")?;
        ensure!(!facts.is_empty(), "no facts: is there such a group?");
        let faults = ["WARNING:", "BUG:", "Oops", "general protection"];
        let warnings = console.lines().filter(|line| faults.iter().any(|word| line.contains(word)));
        Ok(Record {
            version: version.to_owned(),
            facts: facts.to_owned(),
            warnings: warnings.map(str::to_owned).collect(),
        })
    }
}
