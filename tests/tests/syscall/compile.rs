//! Compiling the subjects.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use preloop_tests::programs;
use preloop_tests::world::Side;

/// Where the subjects' sources are.
pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("syscall")
}

/// What all subjects are linked with.
pub(crate) const COMMON: [&str; 2] = ["facts.c", "ends.c"];

/// Where their programs go.
fn output() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("syscall")
}

/// A compiled subject.
pub(crate) struct Program {
    subject: String,
}

impl Program {
    /// Compiles a subject, unless its program is newer than its sources.
    ///
    /// # Errors
    /// When the compiler has an error or a warning to report, or is not there.
    pub(crate) fn compile(subject: &str) -> Result<Self> {
        static BUILDING: Mutex<()> = Mutex::new(());
        let program = Self { subject: subject.to_owned() };
        let [header, inner, passing, source] =
            ["facts.h", "ends.h", "passing.h", &format!("{subject}.c")].map(|name| sources().join(name));
        std::fs::create_dir_all(output()).context("a directory for the subjects")?;
        let [facts, ends] = COMMON.map(|name| output().join(name).with_extension("o"));
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
    pub(crate) fn path(&self) -> PathBuf {
        output().join(&self.subject)
    }

    /// Leaves the facts of plain TCP for people to read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn keep(&self, acting: Side, facts: &str) -> Result<()> {
        let role = if acting == Side::Server { "server" } else { "client" };
        let path = output().join(format!("{}.{role}.facts", self.subject));
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
