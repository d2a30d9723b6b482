//! iperf3, which measures throughput.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::launch::Launch;
use crate::process::Finished;
use crate::scene::Scene;

/// A server that ends after one test.
pub fn server(scene: &Scene, port: u16) -> Launch<'_> {
    scene.server("iperf3").line(&format!("--server --one-off --port {port}"))
}

/// A client, with more options such as `-R`.
pub fn client<'a>(scene: &'a Scene, port: u16, options: &str) -> Launch<'a> {
    scene.client("iperf3").line(&format!("--client 127.0.0.1 --port {port} --json {options}"))
}

/// What the client reports.
#[derive(Debug)]
pub struct Report(Value);

/// Bytes of one direction as both ends counted them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// What the sender has written.
    pub sent: u64,
    /// What the receiver had read when the test ended.
    pub received: u64,
}

impl Report {
    /// Reads the client's output.
    ///
    /// # Errors
    /// When it is not a report, or reports an error.
    pub fn parse(client: &Finished) -> Result<Self> {
        let report: Value = serde_json::from_str(&client.stdout).context("iperf3's report")?;
        ensure!(report["error"].is_null(), "iperf3: {}", report["error"]);
        Ok(Self(report))
    }

    /// The direction that was asked for: to the server, or from it with `-R`.
    pub fn forth(&self) -> Result<Transfer> {
        Ok(Transfer { sent: self.sum("sum_sent")?, received: self.sum("sum_received")? })
    }

    /// The other direction of `--bidir`.
    pub fn back(&self) -> Result<Transfer> {
        Ok(Transfer { sent: self.sum("sum_sent_bidir_reverse")?, received: self.sum("sum_received_bidir_reverse")? })
    }

    /// Number of streams, and the bytes their receivers counted, one by one.
    pub fn streams(&self) -> Result<Vec<u64>> {
        let streams = self.0["end"]["streams"].as_array().context("streams")?;
        streams.iter().map(|stream| stream["receiver"]["bytes"].as_u64().context("bytes of a stream")).collect()
    }

    /// Throughput as the receiver saw it.
    pub fn gigabits_per_second(&self) -> Result<f64> {
        Ok(self.0["end"]["sum_received"]["bits_per_second"].as_f64().context("bits_per_second")? / 1e9)
    }

    fn sum(&self, name: &str) -> Result<u64> {
        self.0["end"][name]["bytes"].as_u64().with_context(|| format!("{name} in iperf3's report"))
    }
}
