//! What `smcss --json` says about the connections of preloaded processes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// How a connection carries its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mode {
    /// Through shared memory.
    Smcd,
    /// Through TCP, with the decline code, which is 0 while nothing is decided.
    Tcp(u32),
}

/// The decline code for a peer that does not answer the proposal.
pub const PEER_NO_SMC: u32 = 0x0301_0000;
/// Decline code: the program did what shared memory cannot carry, such as shutting down before the move.
pub const OPTION: u32 = 0x0306_0000;
/// Decline code: the peer gave the handshake up, for a reason that its own end has.
pub const PEER_DECLINED: u32 = 0x0500_0000;

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct End {
    /// Process that holds it.
    pub pid: u64,
    /// Its address.
    pub local: SocketAddr,
    /// The other end's address.
    pub peer: SocketAddr,
    /// How it carries its bytes.
    pub mode: Mode,
}

/// Every connection's end in a preloaded process that touches one of the ports.
///
/// # Errors
/// When `smcss` fails or prints something else.
pub fn connections(smcss: &Path, ports: &[u16]) -> Result<Vec<End>> {
    let output = Command::new(smcss).arg("--json").output().context("starting smcss")?;
    ensure!(output.status.success(), "smcss: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text, ports).with_context(|| format!("smcss --json printed {text}"))
}

fn parse(text: &str, ports: &[u16]) -> Result<Vec<End>> {
    let rows: Vec<Value> = serde_json::from_str(text)?;
    let connected = |row: &&Value| row["peer"].is_string() && row["state"] != "LISTEN";
    let ends = rows.iter().filter(connected).map(|row| parse_end(row, ports).with_context(|| row.to_string()));
    ends.filter_map(Result::transpose).collect()
}

/// `None` for a connection that touches none of the ports: whatever it may be, other people's processes are listed, too.
fn parse_end(row: &Value, ports: &[u16]) -> Result<Option<End>> {
    let (local, peer) = (address(&row["local"])?, address(&row["peer"])?);
    if !ports.contains(&local.port()) && !ports.contains(&peer.port()) {
        return Ok(None);
    }
    let mode = match row["mode"].as_str().context("mode")? {
        "SMCD" => Mode::Smcd,
        "UNDECIDED" => Mode::Tcp(0),
        _ => Mode::Tcp(parse_code(row["decline"]["code"].as_str().context("decline code")?)?),
    };
    let pid = row["pid"].as_u64().context("pid")?;
    Ok(Some(End { pid, local, peer, mode }))
}

fn parse_code(text: &str) -> Result<u32> {
    u32::from_str_radix(text.trim_start_matches("0x"), 16).with_context(|| format!("decline code {text}"))
}

/// An address; one that is mapped from IPv4 becomes that, as the other end may say it so.
fn address(value: &Value) -> Result<SocketAddr> {
    let address: SocketAddr = value.as_str().context("address")?.parse()?;
    let ip: IpAddr = address.ip().to_canonical();
    Ok(SocketAddr::new(ip, address.port()))
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smcd => f.write_str("SMCD"),
            Self::Tcp(code) => write!(f, "TCP 0x{code:08x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_and_listeners_left_out() {
        let text = r#"[
            {"pid": 1, "state": "LISTEN", "local": "0.0.0.0:80", "peer": "0.0.0.0:0", "mode": "UNDECIDED", "decline": null},
            {"pid": 1, "state": "INIT", "local": null, "peer": null, "mode": "UNDECIDED", "decline": null},
            {"pid": 2, "state": "ACTIVE", "local": "[::ffff:127.0.0.1]:80", "peer": "[::ffff:127.0.0.1]:4000",
             "mode": "SMCD", "decline": null},
            {"pid": 3, "state": "ACTIVE", "local": "127.0.0.1:4001", "peer": "127.0.0.1:80",
             "mode": "TCP", "decline": {"code": "0x03010000", "text": "the peer has no SMC"}},
            {"pid": 4, "state": "ACTIVE", "local": "127.0.0.1:4002", "peer": "127.0.0.1:4003", "mode": "TCP"}
        ]"#;
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let ends = [
            End { pid: 2, local: address(80), peer: address(4000), mode: Mode::Smcd },
            End { pid: 3, local: address(4001), peer: address(80), mode: Mode::Tcp(PEER_NO_SMC) },
        ];
        assert_eq!(parse(text, &[80]).unwrap(), ends);
        assert!(parse(text, &[4002]).is_err());
        assert!(parse("[{\"peer\": \"127.0.0.1:1\"}]", &[1]).is_err());
        assert!(parse("no JSON", &[1]).is_err());
    }
}
