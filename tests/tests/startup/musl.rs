//! Programs for another C library: the launcher says that they cannot be preloaded, and runs them.

use anyhow::{Result, ensure};
use preloop_tests::ports;
use preloop_tests::world::World;

use crate::talk::{self, ROUNDS};

crate::tests!(dynamic, whole, from_a_shell);

fn dynamic() -> Result<()> {
    is_refused("", "the library needs glibc: runs on TCP")
}

fn whole() -> Result<()> {
    is_refused("-static", "is statically linked, nothing can be preloaded: runs on TCP")
}

/// A preloaded shell runs it: the library is left out of what the loader is told.
fn from_a_shell() -> Result<()> {
    talk::runs_from_a_shell("musl-gcc", "")
}

fn is_refused(options: &str, warning: &str) -> Result<()> {
    let scene = talk::scene(World::ServerOnly)?;
    let port = ports::free()?;
    let talk = talk::compile(&scene, "musl-gcc", options, &["talk.c"], "talk")?;
    let server = talk::echo_server(&scene, &[], port)?;
    let moved = talk::talks(&scene, &talk, &[port.to_string(), ROUNDS.to_owned()], &[warning])?;
    ensure!(moved == 0 && talk::end(server)? == 0, "{moved} connections moved");
    Ok(())
}
