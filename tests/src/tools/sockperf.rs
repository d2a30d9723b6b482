//! sockperf, which measures latency and message rates.

use anyhow::{Context, Result, ensure};

use super::number_after;
use crate::launch::Launch;
use crate::process::Finished;
use crate::scene::Scene;

/// A server.
pub fn server(scene: &Scene, port: u16) -> Launch<'_> {
    scene.server("sockperf").line(&format!("server --tcp -i 127.0.0.1 -p {port}"))
}

/// A client that plays ping-pong and checks what comes back.
pub fn ping_pong(scene: &Scene, port: u16, seconds: u32, bytes: u32) -> Launch<'_> {
    /// Messages a second for which sockperf sets memory aside. Left alone it gives up above 600,000, a round trip of
    /// less than 1.7 us.
    const RATE: u32 = 5_000_000;
    let line = format!("ping-pong --tcp -i 127.0.0.1 -p {port} -t {seconds} -m {bytes} --mps={RATE} --data-integrity");
    scene.client("sockperf").line(&line)
}

/// A client that sends as fast as possible.
pub fn throughput(scene: &Scene, port: u16, seconds: u32, bytes: u32) -> Launch<'_> {
    scene.client("sockperf").line(&format!("throughput --tcp -i 127.0.0.1 -p {port} -t {seconds} -m {bytes}"))
}

/// Half a round trip in microseconds; no message may be lost, doubled or out of order.
///
/// # Errors
/// When one is.
pub fn latency(client: &Finished) -> Result<f64> {
    let counts = "# dropped messages = 0; # duplicated messages = 0; # out-of-order messages = 0";
    ensure!(client.stdout.contains(counts), "messages were lost:\n{}", client.stdout);
    number_after(&client.stdout, "Summary: Latency is")
}

/// Throughput in MB/s, where sockperf's M is 2 to the 20th.
///
/// # Errors
/// When the client printed none.
pub fn bandwidth(client: &Finished) -> Result<f64> {
    number_after(&client.stdout, "BandWidth is")
}

/// Messages that the throughput client has sent after its warm-up.
///
/// # Errors
/// When it printed none.
pub fn sent(client: &Finished) -> Result<u64> {
    Ok(number_after(&client.stdout, "Total of")? as u64)
}

/// Messages that the server has received, once it was interrupted.
///
/// # Errors
/// When it printed none.
pub fn received(server: &Finished) -> Result<u64> {
    let line = server.stdout.lines().find(|line| line.contains("messages received"));
    Ok(number_after(line.with_context(|| format!("no total in\n{}", server.stdout))?, "Total")? as u64)
}
