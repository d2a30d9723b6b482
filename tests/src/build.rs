//! Building the release artefacts from a program of this crate.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The cargo that runs this program, or the one in PATH.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds the library, its tools and the bundled client and server.
///
/// # Errors
/// When that fails; cargo has said why.
pub fn release() -> Result<()> {
    build(&["-p", "preloop", "-p", "preloop-launcher", "-p", "preloop-tests", "--lib", "--bins"])
}

/// Builds the library and its tools.
///
/// # Errors
/// When that fails; cargo has said why.
pub fn library() -> Result<()> {
    build(&["-p", "preloop", "-p", "preloop-launcher"])
}

fn build(what: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.args(["build", "--release", "--quiet"]).args(what);
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().context("starting cargo")?;
    ensure!(status.success(), "cargo build failed");
    Ok(())
}
