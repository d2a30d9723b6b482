//! Ports for the servers of tests.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt::set_socket_reuseaddr};

/// Below the range from which the kernel gives clients their ports, so that no client of another test takes one.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A TCP port that nobody listens on and that this process has not handed out before.
///
/// # Errors
/// When all are taken.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at the same time start at different places.
    let start = (std::process::id() % u32::from(COUNT / 100)) as u16 * 100;
    for _ in 0..COUNT {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if is_free(port)? {
            return Ok(port);
        }
    }
    bail!("no free TCP port between {FIRST} and {}", FIRST + COUNT)
}

/// Binds without listening, so as not to be in the way of another test's server.
fn is_free(port: u16) -> Result<bool> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    Ok(bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let port = free().unwrap();
        assert!(is_free(port).unwrap());
        let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(!is_free(port).unwrap());
    }
}
