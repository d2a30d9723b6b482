//! A TCP connection, for tests.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// The end that connected, and the one that was accepted.
pub fn pair() -> std::io::Result<[TcpStream; 2]> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let active = TcpStream::connect(listener.local_addr()?)?;
    Ok([active, listener.accept()?.0])
}
