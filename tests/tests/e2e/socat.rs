//! socat: files to the server, from the server, and both at once.

use anyhow::Result;
use preloop_tests::checksum::{expect_file, random_file};
use preloop_tests::ports;
use preloop_tests::process::Process;
use preloop_tests::scene::Scene;

in_every_world!(to_server, from_server, both_ways);

const BYTES: u64 = 64 << 20;

fn to_server(scene: &Scene) -> Result<()> {
    let port = ports::free()?;
    let server = scene.server("socat").line(&format!("-u TCP-LISTEN:{port},bind=127.0.0.1 CREATE:copy"));
    let server = server.listen(port)?;
    let mut client = scene.client("socat").line(&format!("-u STDIN TCP:127.0.0.1:{port}")).piped().start()?;
    let sent = feed(scene, port, &mut [(&mut client, "original")])?;
    client.success()?;
    server.success()?;
    expect_file(&scene.path("copy"), &sent[0])
}

fn from_server(scene: &Scene) -> Result<()> {
    let port = ports::free()?;
    let server = scene.server("socat").line(&format!("-u STDIN TCP-LISTEN:{port},bind=127.0.0.1")).piped();
    let mut server = server.listen(port)?;
    let client = scene.client("socat").line(&format!("-u TCP:127.0.0.1:{port} CREATE:copy")).start()?;
    let sent = feed(scene, port, &mut [(&mut server, "original")])?;
    server.success()?;
    client.success()?;
    expect_file(&scene.path("copy"), &sent[0])
}

fn both_ways(scene: &Scene) -> Result<()> {
    let port = ports::free()?;
    let server = scene.server("socat").line(&format!("STDIN!!CREATE:at-server TCP-LISTEN:{port},bind=127.0.0.1"));
    let mut server = server.piped().listen(port)?;
    let client = scene.client("socat").line(&format!("STDIN!!CREATE:at-client TCP:127.0.0.1:{port}"));
    let mut client = client.piped().start()?;
    let sent = feed(scene, port, &mut [(&mut client, "from-client"), (&mut server, "from-server")])?;
    client.end_input();
    server.end_input();
    client.success()?;
    server.success()?;
    expect_file(&scene.path("at-server"), &sent[0])?;
    expect_file(&scene.path("at-client"), &sent[1])
}

/// Feeds each process pseudo-random bytes, the last of them once the connection has its mode, and returns the
/// checksums.
fn feed(scene: &Scene, port: u16, sources: &mut [(&mut Process, &str)]) -> Result<Vec<String>> {
    const PIECE: usize = 100_000;
    let observer = scene.observe(port)?;
    let mut sums = Vec::new();
    let mut contents = Vec::new();
    for (seed, (_, name)) in sources.iter().enumerate() {
        sums.push(random_file(&scene.path(name), BYTES, seed as u64)?);
        contents.push(std::fs::read(scene.path(name))?);
    }
    let last = BYTES as usize / PIECE;
    for piece in 0..=last {
        for ((process, _), bytes) in sources.iter_mut().zip(&contents) {
            process.input(&bytes[piece * PIECE..bytes.len().min((piece + 1) * PIECE)])?;
        }
        if piece == last - 10 {
            observer.wait_for(1)?;
        }
    }
    observer.expect(1)?;
    Ok(sums)
}
