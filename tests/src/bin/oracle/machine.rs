//! Emulated machines, and what they wrote to their serial ports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use preloop_tests::{programs, wait};

/// A machine that takes longer hangs: one run needs about two minutes.
const LIMIT: Duration = Duration::from_secs(600);

/// What one machine left behind.
pub(crate) struct Record {
    /// The kernel's name, release and version.
    pub(crate) version: String,
    pub(crate) facts: String,
    /// Lines of its log that tell of faults in the kernel itself.
    pub(crate) warnings: Vec<String>,
}

/// Runs machines at the same time, each with a directory of its own for its ports, until all have switched themselves
/// off. Every other one has two processors: facts that hang on who runs first show themselves.
///
/// # Errors
/// When one does not come to its end in time.
pub(crate) fn run_all(kernel: &Path, initramfs: &Path, groups: &[String], dirs: &[PathBuf]) -> Result<Vec<Record>> {
    let mut machines = Vec::new();
    for (number, dir) in dirs.iter().enumerate() {
        fs::create_dir_all(dir)?;
        let processors = 1 + number % 2;
        machines.push(Machine { process: boot(kernel, initramfs, groups, dir, processors)?, dir });
    }
    for machine in &mut machines {
        let process = &mut machine.process;
        wait::until("the machine is off", LIMIT, || Ok(process.try_wait()?.is_some()))?;
    }
    machines.iter().map(Machine::record).collect()
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

fn boot(kernel: &Path, initramfs: &Path, groups: &[String], dir: &Path, processors: usize) -> Result<Child> {
    let port = |name| format!("file:{}", dir.join(name).display());
    let options = format!("console=ttyS0 loglevel=5 panic=-1 -- {}", groups.join(" "));
    let mut qemu = Command::new(programs::find("qemu-system-x86_64")?);
    qemu.args([
        "-accel",
        "tcg,thread=multi",
        "-smp",
        &processors.to_string(),
        "-m",
        "512",
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
    ]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs).args(["-append", &options]);
    qemu.args(["-serial", &port("console"), "-serial", &port("facts")]);
    qemu.stdin(Stdio::null()).spawn().context("starting qemu")
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
