//! The bundled client and server: pseudo-random bytes both ways at once, in chunks of random sizes, verified at every
//! offset while the connection changes over.

use anyhow::Result;
use preloop_tests::ports;
use preloop_tests::scene::Scene;
use preloop_tests::tools::tcp_pair;

in_every_world!(gigabyte_at_once, gigabyte_after_a_dialogue, many_short_ones);

/// Each way, so that both together are 1 GiB.
const HALF: u64 = 1 << 29;

fn gigabyte_at_once(scene: &Scene) -> Result<()> {
    exchange(scene, 0)
}

fn gigabyte_after_a_dialogue(scene: &Scene) -> Result<()> {
    exchange(scene, 8)
}

fn exchange(scene: &Scene, dialogue: u64) -> Result<()> {
    let port = ports::free()?;
    let observer = scene.observe(port)?;
    let server = tcp_pair::server(scene, port, true).listen(port)?;
    let options = format!("--bytes {HALF} --seed {} --dialogue {dialogue} --hold", 11 + dialogue);
    let mut client = tcp_pair::client(scene, port, "exchange", &options).piped().start()?;
    client.wait_for_line("verified")?;
    observer.wait_for(1)?;
    client.success()?;
    server.success()?;
    observer.expect(1)
}

/// Each with another seed and another number of messages before the bulk, so that the change-over falls elsewhere.
fn many_short_ones(scene: &Scene) -> Result<()> {
    const CONNECTIONS: u64 = 40;
    let port = ports::free()?;
    let observer = scene.observe(port)?;
    let _server = tcp_pair::server(scene, port, false).listen(port)?;
    for seed in 0..CONNECTIONS {
        let options = format!("--bytes {} --seed {seed} --dialogue {}", 4 << 20, seed % 6);
        tcp_pair::client(scene, port, "exchange", &options).run()?;
    }
    observer.expect(0)
}
