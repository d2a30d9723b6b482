//! wrk, which loads a web server.

use anyhow::{Result, ensure};

use super::number_after;
use crate::launch::Launch;
use crate::process::Finished;
use crate::scene::Scene;

/// A client with options such as `-t2 -c50 -d1s`.
pub fn client<'a>(scene: &'a Scene, options: &str, url: &str) -> Launch<'a> {
    scene.client("wrk").line(options).arg(url)
}

/// Asks that the server close the connection after each request.
pub fn closing(launch: Launch<'_>) -> Launch<'_> {
    launch.args(["-H", "Connection: close"])
}

/// Requests per second; none may have failed. On a loaded machine some may have taken longer than wrk likes.
///
/// # Errors
/// When one has failed.
pub fn rate(client: &Finished) -> Result<f64> {
    let errors = client.stdout.lines().map(str::trim_start).find(|line| line.starts_with("Socket errors"));
    let none = errors.is_none_or(|line| line.contains("connect 0, read 0, write 0,"));
    ensure!(none && !client.stdout.contains("Non-2xx"), "requests failed:\n{}", client.stdout);
    number_after(&client.stdout, "Requests/sec:")
}
