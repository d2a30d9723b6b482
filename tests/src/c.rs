//! Programs of this crate that are written in C.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::programs;

/// A file of this crate.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compiles all C files of some folders of this crate to one program, with every warning an error and
/// the headers that users get.
///
/// # Errors
/// When there is no C compiler, or it has something to say.
pub fn compile(folders: &[&str], optimise: &str, to: &Path) -> Result<()> {
    let mut sources = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(source(folder)).with_context(|| (*folder).to_owned())? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "c") {
                sources.push(path);
            }
        }
    }
    sources.sort();
    let mut command = Command::new(std::env::var_os("CC").map_or_else(|| programs::find("cc"), |cc| Ok(cc.into()))?);
    command
        .args(["-std=gnu11", optimise, "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(to)
        .arg("-I")
        .arg(source("../compat/include"))
        .args(&sources);
    ensure!(command.status().context("starting the C compiler")?.success(), "{folders:?} does not compile");
    Ok(())
}
