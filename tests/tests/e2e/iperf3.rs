//! iperf3: bulk streams in either direction or both, and exact counts.

use anyhow::{Result, ensure};
use preloop_tests::ports;
use preloop_tests::scene::Scene;
use preloop_tests::tools::iperf3::{self, Report, Transfer};

in_every_world!(plain, reverse, both_directions, four_streams, exact_bytes, exact_bytes_in_reverse);

/// What may be under way when a test ends: iperf3 stops without reading it.
const IN_FLIGHT: u64 = 32 << 20;

fn plain(scene: &Scene) -> Result<()> {
    check(run(scene, "-t 1", 1)?.forth()?)
}

fn reverse(scene: &Scene) -> Result<()> {
    check(run(scene, "-t 1 -R", 1)?.forth()?)
}

fn both_directions(scene: &Scene) -> Result<()> {
    let report = run(scene, "-t 1 --bidir -l 16K", 2)?;
    check(report.forth()?)?;
    check(report.back()?)
}

fn four_streams(scene: &Scene) -> Result<()> {
    let report = run(scene, "-t 1 -P 4 -l 16K", 4)?;
    let streams = report.streams()?;
    ensure!(streams.len() == 4 && streams.iter().all(|&bytes| bytes > 0), "a stream starved: {streams:?}");
    check(report.forth()?)
}

fn exact_bytes(scene: &Scene) -> Result<()> {
    exactly(scene, "")
}

fn exact_bytes_in_reverse(scene: &Scene) -> Result<()> {
    exactly(scene, "-R")
}

/// Sends a number of bytes that is a multiple of iperf3's block: the sender must count that and no other. It may be
/// over before `smcss` sees the stream.
fn exactly(scene: &Scene, direction: &str) -> Result<()> {
    const BYTES: u64 = 1 << 30;
    let transfer = run(scene, &format!("-n {BYTES} {direction}"), 0)?.forth()?;
    ensure!(transfer.sent == BYTES, "{transfer:?}");
    check(transfer)
}

fn run(scene: &Scene, options: &str, streams: usize) -> Result<Report> {
    let port = ports::free()?;
    let observer = scene.observe(port)?;
    let server = iperf3::server(scene, port).listen(port)?;
    let client = iperf3::client(scene, port, options).run()?;
    server.success()?;
    observer.expect(streams)?;
    Report::parse(&client)
}

fn check(transfer: Transfer) -> Result<()> {
    let Transfer { sent, received } = transfer;
    ensure!(received > 0 && received <= sent && sent - received <= IN_FLIGHT, "{transfer:?}");
    Ok(())
}
