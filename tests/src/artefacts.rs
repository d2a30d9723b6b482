//! Where `cargo build --release` left the library and its tools.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The directory with the release artefacts: `libpreloop.so`, `smc_run`, `smcss` and this crate's own programs.
#[derive(Clone, Debug)]
pub struct Artefacts {
    dir: PathBuf,
}

impl Artefacts {
    /// The `release` directory beside the one that holds the running program, which is right under every target
    /// directory that cargo was told to use.
    ///
    /// # Errors
    /// When the running program does not lie in a target directory.
    pub fn locate() -> Result<Self> {
        let exe = std::env::current_exe().context("where this program lies")?;
        let profile = exe
            .ancestors()
            .skip(1)
            .find(|dir| dir.file_name().is_some_and(|name| name != "deps"))
            .and_then(Path::parent)
            .with_context(|| format!("{} is not in a target directory", exe.display()))?;
        Ok(Self { dir: profile.join("release") })
    }

    /// Cargo's target directory.
    pub fn target_dir(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// The path of one artefact.
    ///
    /// # Errors
    /// When it was not built.
    pub fn get(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if !path.is_file() {
            bail!("{} is missing: run `cargo build --release` first", path.display());
        }
        if let Some(source) = newer_source(&path) {
            eprintln!("warning: {} is older than {source}: run `cargo build --release`", path.display());
        }
        Ok(path)
    }
}

/// A source file changed since the artefact was built, from the list cargo leaves beside it.
fn newer_source(artefact: &Path) -> Option<String> {
    let built = artefact.metadata().and_then(|meta| meta.modified()).ok()?;
    let list = std::fs::read_to_string(artefact.with_extension("d")).ok()?;
    let sources = list.split_once(": ")?.1;
    sources
        .split_whitespace()
        .find(|source| Path::new(source).metadata().and_then(|meta| meta.modified()).is_ok_and(|time| time > built))
        .map(str::to_owned)
}
