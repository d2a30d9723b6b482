//! redis and its benchmark.

use anyhow::{Context, Result};

use crate::launch::Launch;
use crate::process::Finished;
use crate::scene::Scene;

/// A server that writes nothing to the disk.
pub fn server(scene: &Scene, port: u16) -> Launch<'_> {
    scene
        .server("redis-server")
        .line(&format!("--port {port} --bind 127.0.0.1 --daemonize no --appendonly no"))
        .args(["--save", ""])
}

/// `redis-benchmark` with options such as `-c 200 -t set,get`.
pub fn benchmark<'a>(scene: &'a Scene, port: u16, options: &str) -> Launch<'a> {
    scene.client("redis-benchmark").line(&format!("-h 127.0.0.1 -p {port} --csv {options}"))
}

/// Requests per second of one of the benchmark's tests, such as `SET`.
///
/// # Errors
/// When it printed none.
pub fn rate(benchmark: &Finished, test: &str) -> Result<f64> {
    let start = format!("\"{test}\",\"");
    let rate = benchmark.stdout.lines().find_map(|line| line.strip_prefix(&start)?.split('"').next()?.parse().ok());
    rate.with_context(|| format!("no rate of {test} in\n{}", benchmark.stdout))
}
