//! One run of a suite, with the library or without.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use preloop_tests::procfs;
use rustix::process::{Pid, Signal, kill_process};

use crate::connections::Connections;
use crate::outcome::{self, Outcomes};
use crate::scratch::Scratch;
use crate::suite::{Part, Results, Suite, TEST_LIMIT};

/// How a run differs from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum World {
    /// Without the library.
    Bare,
    /// Under `smc_run`.
    Smc,
    /// Under `smc_run`, each connection moves as soon as it can, through small rings, and no wait inside the library has a bound
    /// of its own.
    Early,
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Smc => "smc_run",
            Self::Early => "early",
        })
    }
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) outcomes: Outcomes,
    pub(crate) connections: Connections,
}

/// Runs all parts of a suite one after the other.
pub(crate) fn run(suite: &Suite, scratch: &Scratch, smc_run: &Path, world: World, serial: usize) -> Result<()> {
    let files = Files::of(suite, scratch, world, serial);
    // Of an earlier run.
    let _ = fs::remove_dir_all(&files.dir);
    fs::create_dir_all(files.path("work"))?;
    let start = Instant::now();
    for part in suite.parts(scratch, &files.path("results"))? {
        let finished = start_part(&part, &files, smc_run, world).and_then(|child| finish(child, part.limit))?;
        if !finished {
            eprintln!("  not finished after {:?}: {}", part.limit, part.line.join(" "));
        }
    }
    eprintln!("  {world}: {:.0?}", start.elapsed());
    Ok(())
}

/// What a run left.
pub(crate) fn read(suite: &Suite, scratch: &Scratch, world: World, serial: usize) -> Run {
    let files = Files::of(suite, scratch, world, serial);
    let read = |name| fs::read(files.path(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let outcomes = match suite.results() {
        Results::Lines => outcome::from_json_lines(&read("results").unwrap_or_default()),
        Results::Cargo => outcome::from_cargo(&read("output").unwrap_or_default()),
    };
    eprintln!("  {world}: {}", outcome::count(&outcomes));
    Run { outcomes, connections: Connections::read(&read("stats").unwrap_or_default()) }
}

/// The files of a run.
struct Files {
    dir: PathBuf,
}

impl Files {
    fn of(suite: &Suite, scratch: &Scratch, world: World, serial: usize) -> Self {
        Self { dir: scratch.path("runs").join(suite.name).join(format!("{serial}-{world}")) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn start_part(part: &Part, files: &Files, smc_run: &Path, world: World) -> Result<Child> {
    let preloaded = world != World::Bare;
    // Started in the background of a shell, this program has SIGINT ignored, and suites inherit that and fail.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,QUIT");
    if preloaded && !part.by_cargo {
        command.arg(smc_run);
    }
    command.args(&part.line);
    let output = File::options().create(true).append(true).open(files.path("output"))?;
    command
        .env_remove("LD_PRELOAD")
        .env("PYTHONPATH", preloop_tests::programs::script("suites"))
        .env("SUITE_RESULTS", files.path("results"))
        .env("SUITE_LIMIT", TEST_LIMIT.to_string())
        .current_dir(part.dir.clone().unwrap_or_else(|| files.path("work")))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    if preloaded {
        command.env("PRELOOP_STATS", files.path("stats"));
        let early = if world == World::Early { "1" } else { "0" };
        // Some tests make their buffers small and have 256 KiB fill them; others want 100 KiB to fit.
        let ring = if world == World::Early { "128k" } else { "0" };
        command.env("PRELOOP_EARLY_HANDSHAKE", early).env("PRELOOP_UNBOUNDED_WAITS", early);
        command.env("SMC_RCVBUF", ring).env("SMC_SNDBUF", ring);
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", smc_run);
    }
    command.spawn().with_context(|| format!("{command:?}"))
}

/// Waits for the end of a command, or ends it and all that it started when its time is over: `false`.
fn finish(mut child: Child, limit: Duration) -> Result<bool> {
    const PERIOD: Duration = Duration::from_millis(50);
    let start = Instant::now();
    let finished = loop {
        if child.try_wait()?.is_some() {
            break true;
        }
        if start.elapsed() > limit {
            break false;
        }
        sleep(PERIOD);
    };
    let group = Pid::from_child(&child);
    let left = procfs::members(group).into_iter().chain(procfs::descendants(child.id()));
    for pid in left {
        if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    child.wait()?;
    Ok(finished)
}
