//! The subjects of `tests/syscall`, which say in facts what system calls answer on TCP connections.

pub mod report;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

use crate::programs;
use crate::world::Side;

/// Where the subjects' sources are.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("syscall")
}

/// What all subjects are linked with.
pub const COMMON: [&str; 2] = ["facts.c", "ends.c"];

/// A compiled subject.
#[derive(Debug)]
pub struct Program {
    dir: PathBuf,
    subject: String,
}

impl Program {
    /// Compiles a subject in this directory, unless its program is newer than its sources.
    ///
    /// # Errors
    /// When the compiler has an error or a warning to report, or is not there.
    pub fn compile(dir: &Path, subject: &str) -> Result<Self> {
        static BUILDING: Mutex<()> = Mutex::new(());
        let program = Self { dir: dir.to_owned(), subject: subject.to_owned() };
        let [header, inner, passing, source] =
            ["facts.h", "ends.h", "passing.h", &format!("{subject}.c")].map(|name| sources().join(name));
        std::fs::create_dir_all(dir).context("a directory for the subjects")?;
        let [facts, ends] = COMMON.map(|name| dir.join(name).with_extension("o"));
        {
            // The first of several threads does it.
            let _one = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (name, object) in COMMON.iter().zip([&facts, &ends]) {
                let source = sources().join(name);
                build(object, &[&source, &header, &inner], &["-c".as_ref(), &source])?;
            }
        }
        build(&program.path(), &[&source, &header, &passing, &facts, &ends], &[&source, &facts, &ends])?;
        Ok(program)
    }

    /// The program's path.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.subject)
    }

    /// Leaves the facts of plain TCP for people to read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self, acting: Side, facts: &str) -> Result<()> {
        let role = if acting == Side::Server { "server" } else { "client" };
        let path = self.dir.join(format!("{}.{role}.facts", self.subject));
        std::fs::write(&path, facts).with_context(|| path.display().to_string())
    }
}

fn build(target: &Path, sources: &[&Path], arguments: &[&Path]) -> Result<()> {
    let time = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    if let Some(built) = time(target)
        && sources.iter().all(|source| time(source).is_some_and(|changed| changed < built))
    {
        return Ok(());
    }
    let mut command = Command::new(programs::find("cc")?);
    command.args("-std=gnu11 -O1 -g -Wall -Wextra -Werror -Wno-unused-result -Wno-stringop-overflow -Wno-nonnull -Wno-deprecated-declarations -pthread".split(' '));
    let result = command.args(arguments).arg("-o").arg(target).output().context("starting cc")?;
    ensure!(result.status.success(), "cc: {}", String::from_utf8_lossy(&result.stderr));
    Ok(())
}
