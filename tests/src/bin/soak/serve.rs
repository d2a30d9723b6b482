//! The echo server with a thread for each connection. A connection whose first byte is [`talk::SERVER_MAY_CLOSE`] is
//! closed at random.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::talk;

/// Of the reads of a connection that may be closed, one in so many is its last.
const READS: u32 = 200;
const STACK: usize = 1 << 18;

pub(crate) fn serve(port: &str) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).context("listening")?;
    for (number, stream) in (0..).zip(listener.incoming()) {
        let stream = stream.context("accepting")?;
        let threads = std::thread::Builder::new().stack_size(STACK);
        // How a connection ends is the client's to judge.
        threads.spawn(move || drop(echo(&stream, number))).context("a thread")?;
    }
    Ok(())
}

fn echo(mut stream: &TcpStream, seed: u64) -> io::Result<()> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut buffer = vec![0; 1 << 16];
    let mut may_close = None;
    stream.set_nodelay(true)?;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let may_close = *may_close.get_or_insert(buffer[0] == talk::SERVER_MAY_CLOSE);
        if may_close && random.random_range(0..READS) == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}
