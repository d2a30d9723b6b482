//! nginx with a configuration of its own.

use std::path::PathBuf;

use anyhow::Result;

use crate::checksum::random_file;
use crate::process::Process;
use crate::scene::Scene;

/// Bytes of `/page`, as long as nginx's own first page.
const PAGE: u64 = 612;
/// Bytes of `/body`.
const BODY: u64 = 20_000_000;

/// A web server with two files.
#[derive(Debug)]
pub struct Nginx {
    /// The master process.
    pub process: Process,
    /// Where it listens, `http://127.0.0.1:PORT`.
    pub url: String,
    /// SHA-256 of `/page`, 612 bytes.
    pub page: String,
    /// SHA-256 of `/body`, 20 MB.
    pub body: String,
}

impl Nginx {
    /// Starts it with so many workers.
    ///
    /// # Errors
    /// When it is missing or does not start.
    pub fn start(scene: &Scene, port: u16, workers: usize) -> Result<Self> {
        let file = |name: &str| -> PathBuf { scene.path(name) };
        let page = random_file(&file("page"), PAGE, 612)?;
        let body = random_file(&file("body"), BODY, 20)?;
        let configuration = file("nginx.conf");
        std::fs::write(&configuration, text(port, workers))?;
        let launch = scene.server("nginx").arg("-p").arg(scene.dir()).arg("-c").arg(configuration);
        let process = launch.line("-e stderr").listen(port)?;
        Ok(Self { process, url: format!("http://127.0.0.1:{port}"), page, body })
    }
}

/// The configuration. Paths are relative to the scene's directory, which belongs to whoever runs the tests: as root
/// the workers must stay root to read it.
fn text(port: u16, workers: usize) -> String {
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let spool = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let spools: String = spool.iter().map(|kind| format!("    {kind}_temp_path spool-{kind};\n")).collect();
    format!(
        "{user}
daemon off;
worker_processes {workers};
pid nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
{spools}    access_log off;
    sendfile on;
    keepalive_requests 100000000;
    default_type application/octet-stream;
    server {{ listen 127.0.0.1:{port}; root .; }}
}}
"
    )
}
