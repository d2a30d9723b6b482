//! The server's side of every mode.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};

use crate::exchange::{Role, exchange};
use crate::protocol::Request;

/// Serves connections, each in its own thread; with `once` the first one, whose failure is then the program's.
pub(crate) fn serve(address: SocketAddr, once: bool) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    for stream in listener.incoming() {
        let stream = stream.context("accepting")?;
        if once {
            return answer(stream);
        }
        std::thread::spawn(move || {
            if let Err(error) = answer(stream) {
                eprintln!("tcp-pair: {error:#}");
            }
        });
    }
    Ok(())
}

fn answer(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    match Request::receive(&stream)? {
        Request::Stream => count(stream),
        Request::PingPong { size } => echo(stream, size as usize),
        Request::Exchange(plan) => exchange(&stream, Role::Server, plan, None),
    }
}

fn count(mut stream: TcpStream) -> Result<()> {
    const BUFFER: usize = 1 << 17;
    let mut buffer = vec![0; BUFFER];
    let mut total = 0_u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            count => total += count as u64,
        }
    }
    Ok(stream.write_all(&total.to_le_bytes())?)
}

fn echo(mut stream: TcpStream, size: usize) -> Result<()> {
    let mut message = vec![0; size];
    let mut have = 0;
    loop {
        match stream.read(&mut message[have..])? {
            0 => return Ok(()),
            count => have += count,
        }
        if have == size {
            stream.write_all(&message)?;
            have = 0;
        }
    }
}
