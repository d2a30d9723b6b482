//! How the programs that the tests and benchmarks run are started, and what they print.

pub mod iperf3;
pub mod nginx;
pub mod redis;
pub mod sockperf;
pub mod tcp_pair;
pub mod wrk;

use anyhow::{Context, Result};

/// The number that follows `label` in a program's output.
fn number_after(text: &str, label: &str) -> Result<f64> {
    let parse = || {
        let rest = text.split_once(label)?.1.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    parse().with_context(|| format!("no number after {label:?} in\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::number_after;

    #[test]
    fn numbers_are_found() {
        let text = "sockperf: Summary: BandWidth is 5733.215 MBps (45865.723 Mbps)";
        assert_eq!(number_after(text, "BandWidth is").unwrap(), 5733.215);
        assert!(number_after(text, "Latency is").is_err());
        assert_eq!(number_after("rate: 7", "rate:").unwrap(), 7.0);
    }
}
