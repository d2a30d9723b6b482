//! The bundled client and server.

use anyhow::Result;

use super::number_after;
use crate::launch::Launch;
use crate::process::Finished;
use crate::scene::Scene;

/// A server; with `once` it ends after the first connection and fails when that does.
pub fn server(scene: &Scene, port: u16, once: bool) -> Launch<'_> {
    let launch = scene.server("tcp-pair").line(&format!("serve 127.0.0.1:{port}"));
    if once { launch.arg("--once") } else { launch }
}

/// A client in one of its modes, `stream`, `pingpong` or `exchange`, with that mode's options.
pub fn client<'a>(scene: &'a Scene, port: u16, mode: &str, options: &str) -> Launch<'a> {
    scene.client("tcp-pair").line(&format!("{mode} 127.0.0.1:{port} {options}"))
}

/// Throughput in Gbit/s.
///
/// # Errors
/// When the client printed none.
pub fn gigabits_per_second(client: &Finished) -> Result<f64> {
    Ok(number_after(&client.stdout, "stream:")? * 8.0)
}

/// Half a round trip in microseconds, as sockperf counts.
///
/// # Errors
/// When the client printed none.
pub fn latency(client: &Finished) -> Result<f64> {
    Ok(number_after(&client.stdout, "pingpong:")? / 2.0)
}
