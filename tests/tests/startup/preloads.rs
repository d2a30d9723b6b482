//! Other preloaded libraries: allocators, and libraries that stand in front of some of the same functions.

use anyhow::{Context, Result, ensure};
use preloop_tests::world::World;
use preloop_tests::{ports, programs};

use crate::talk;

crate::tests!(jemalloc, tcmalloc, eatmydata, faketime, stdbuf);

/// As `redis-server` is linked with.
fn jemalloc() -> Result<()> {
    beside("libjemalloc.so.2", "MALLOC_CONF=background_thread:true")
}

fn tcmalloc() -> Result<()> {
    beside("libtcmalloc_minimal.so.4", "TCMALLOC_RELEASE_RATE=10")
}

fn eatmydata() -> Result<()> {
    beside("libeatmydata.so", "EATMYDATA=yes")
}

/// It stands in front of poll, select and epoll_wait.
fn faketime() -> Result<()> {
    beside("libfaketime.so.1", "FAKETIME=-10d x2")
}

fn stdbuf() -> Result<()> {
    beside("libstdbuf.so", "_STDBUF_O=L")
}

/// Both ends have the other library too, before this one and after it; connections move.
fn beside(other: &str, setting: &str) -> Result<()> {
    let (own, other) = (talk::library()?, programs::find(other)?);
    for order in [format!("{}:{own}", other.display()), format!("{own}:{}", other.display())] {
        let settings = [setting.to_owned(), format!("LD_PRELOAD={order}")];
        works(&settings).with_context(|| order)?;
    }
    Ok(())
}

fn works(settings: &[String]) -> Result<()> {
    let scene = talk::scene(World::Tcp)?;
    let port = ports::free()?;
    let server = talk::echo_server(&scene, settings, port)?;
    let client = talk::python(scene.client("env"), settings, "hostile/ping.py")?;
    let client = client.args([&port.to_string(), talk::ROUNDS]).run()?;
    ensure!(client.stdout == format!("verified {}\n", talk::ROUNDS), "{client:?}");
    ensure!(talk::moved(&client, &[])? == 1, "it did not move: {client:?}");
    ensure!(talk::end(server)? == 1, "the server did not notice");
    Ok(())
}
