//! 32-bit programs on a 64-bit machine: the launcher says that they cannot be preloaded, and runs them.

use anyhow::{Result, ensure};
use preloop_tests::ports;
use preloop_tests::world::World;

use crate::talk::{self, ROUNDS};

crate::tests!(dynamic, whole, from_a_shell);

fn dynamic() -> Result<()> {
    is_refused("-m32")
}

fn whole() -> Result<()> {
    is_refused("-m32 -static")
}

/// A preloaded shell runs it: the library is left out of what the loader is told.
fn from_a_shell() -> Result<()> {
    talk::runs_from_a_shell("gcc", "-m32")
}

fn is_refused(options: &str) -> Result<()> {
    let scene = talk::scene(World::ServerOnly)?;
    let port = ports::free()?;
    let talk = talk::compile(&scene, "gcc", options, &["talk.c"], "talk")?;
    let server = talk::echo_server(&scene, &[], port)?;
    let warning = "is a 32-bit program for ELF machine 3, which the library is not: runs on TCP";
    let moved = talk::talks(&scene, &talk, &[port.to_string(), ROUNDS.to_owned()], &[warning])?;
    ensure!(moved == 0 && talk::end(server)? == 0, "{moved} connections moved");
    Ok(())
}
