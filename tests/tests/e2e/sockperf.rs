//! sockperf: small messages to and fro, large ones in one direction.

use anyhow::{Result, ensure};
use preloop_tests::ports;
use preloop_tests::scene::Scene;
use preloop_tests::tools::sockperf;
use rustix::process::Signal;

in_every_world!(ping_pong, throughput);

fn ping_pong(scene: &Scene) -> Result<()> {
    let port = ports::free()?;
    let observer = scene.observe(port)?;
    let _server = sockperf::server(scene, port).listen(port)?;
    let client = sockperf::ping_pong(scene, port, 1, 14).run()?;
    observer.expect(1)?;
    let latency = sockperf::latency(&client)?;
    ensure!(latency > 0.0, "{}", client.stdout);
    Ok(())
}

fn throughput(scene: &Scene) -> Result<()> {
    let port = ports::free()?;
    let observer = scene.observe(port)?;
    let server = sockperf::server(scene, port).listen(port)?;
    let client = sockperf::throughput(scene, port, 1, 64_000).run()?;
    observer.expect(1)?;
    let server = server.signal(Signal::INT)?;
    let (sent, received) = (sockperf::sent(&client)?, sockperf::received(&server)?);
    ensure!(sent > 0 && received == sent, "{received} of {sent} messages were received");
    Ok(())
}
