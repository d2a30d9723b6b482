//! Programs as a compiler makes them here: linked with the C library, without it, and one that loads a library with
//! RTLD_DEEPBIND.

use anyhow::{Result, ensure};
use preloop_tests::ports;
use preloop_tests::world::World;

use crate::talk::{self, ROUNDS};

crate::tests!(linked, whole, deep);

fn linked() -> Result<()> {
    built("", &[], 1)
}

/// Statically linked: the launcher says that it cannot be preloaded.
fn whole() -> Result<()> {
    built("-static", &["talk: is statically linked, nothing can be preloaded: runs on TCP"], 0)
}

fn built(options: &str, warning: &[&str], moving: usize) -> Result<()> {
    let scene = talk::scene(World::ServerOnly)?;
    let port = ports::free()?;
    let talk = talk::compile(&scene, "gcc", options, &["talk.c"], "talk")?;
    let server = talk::echo_server(&scene, &[], port)?;
    let moved = talk::talks(&scene, &talk, &[port.to_string(), ROUNDS.to_owned()], warning)?;
    ensure!(moved == moving && talk::end(server)? == moving, "{moved} connections, not {moving}, moved");
    Ok(())
}

/// The connection of the library's own stays on TCP, for its calls go to the C library; the program's moves.
fn deep() -> Result<()> {
    let scene = talk::scene(World::ServerOnly)?;
    let port = ports::free()?;
    let plugin = talk::compile(&scene, "gcc", "-shared -fPIC -DPLUGIN", &["talk.c"], "plugin.so")?;
    let program = talk::compile(&scene, "gcc", "-DPLUGIN", &["talk.c", "deepbind.c"], "deepbind")?;
    let server = talk::echo_server(&scene, &[], port)?;
    let plugin = plugin.display().to_string();
    let moved = talk::talks(&scene, &program, &[plugin, port.to_string(), ROUNDS.to_owned()], &[])?;
    ensure!(moved == 1 && talk::end(server)? == 1, "{moved} connections, not 1, moved");
    Ok(())
}
