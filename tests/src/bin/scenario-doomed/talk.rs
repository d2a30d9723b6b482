//! The conversation: requests and replies, then both sides stream without end. Every eight bytes say where they stand.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use preloop_tests::stream::fill;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Which end of the connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Client,
    Server,
}

/// How a conversation ended for the one who survived.
pub(crate) struct Outcome {
    received: u64,
    end: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "received {}, then {}", self.received, self.end)
    }
}

/// Requests and replies before the streams, during which a connection can move: so many that a kill meets this part too.
/// In one of four conversations there are none.
fn rounds(seed: u64) -> u64 {
    if seed.is_multiple_of(4) { 0 } else { 40 }
}

/// Longest request, reply, write and read.
const LARGEST_MESSAGE: u64 = 300;
const LARGEST_WRITE: usize = 1 << 16;

/// Talks until the other end is gone. `report` is told how much was written after each write that returned.
pub(crate) fn talk(stream: &TcpStream, role: Role, seed: u64, report: &(dyn Fn(u64) -> Result<()> + Sync)) -> Outcome {
    let received = AtomicU64::new(0);
    let hear = Hear { stream, number: seed * 2 + u64::from(role == Role::Client), received: &received };
    let mut say = Say { stream, number: seed * 2 + u64::from(role == Role::Server), written: 0, report };
    let end = converse(role, seed, &hear, &mut say).and_then(|()| {
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sizes = SmallRng::seed_from_u64(seed ^ role as u64);
                while say.once(sizes.random_range(1..LARGEST_WRITE)).is_ok() {}
            });
            let mut sizes = SmallRng::seed_from_u64(!seed ^ role as u64);
            let end = loop {
                if let Err(end) = hear.once(sizes.random_range(1..LARGEST_WRITE)) {
                    break end;
                }
            };
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Err(end)
        })
    });
    let end = end.map_or_else(|error| describe(&error), |()| "nothing".to_owned());
    Outcome { received: received.into_inner(), end }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "the end".to_owned(),
        ErrorKind::ConnectionReset => "a reset".to_owned(),
        ErrorKind::BrokenPipe => "a broken pipe".to_owned(),
        _ => error.to_string(),
    }
}

fn converse(role: Role, seed: u64, hear: &Hear<'_>, say: &mut Say<'_>) -> io::Result<()> {
    let mut sizes = SmallRng::seed_from_u64(seed);
    for _ in 0..rounds(seed) {
        let [request, reply] = [(); 2].map(|()| sizes.random_range(1..=LARGEST_MESSAGE));
        match role {
            Role::Client => say.all(request).or_else(|error| hear.rest(error))?,
            Role::Server => hear.all(request)?,
        }
        match role {
            Role::Client => hear.all(reply)?,
            Role::Server => say.all(reply).or_else(|error| hear.rest(error))?,
        }
    }
    Ok(())
}

struct Say<'a> {
    stream: &'a TcpStream,
    number: u64,
    written: u64,
    report: &'a (dyn Fn(u64) -> Result<()> + Sync),
}

impl Say<'_> {
    fn once(&mut self, size: usize) -> io::Result<usize> {
        let mut buffer = vec![0; size];
        fill(self.number, self.written, &mut buffer);
        let mut stream = self.stream;
        let count = stream.write(&buffer)?;
        self.written += count as u64;
        (self.report)(self.written).map_err(io::Error::other)?;
        Ok(count)
    }

    fn all(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            bytes -= self.once(bytes as usize)? as u64;
        }
        Ok(())
    }
}

struct Hear<'a> {
    stream: &'a TcpStream,
    number: u64,
    received: &'a AtomicU64,
}

impl Hear<'_> {
    fn once(&self, size: usize) -> io::Result<usize> {
        let mut buffer = vec![0; size];
        let mut stream = self.stream;
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let start = self.received.load(Ordering::Relaxed);
        let mut expected = vec![0; count];
        fill(self.number, start, &mut expected);
        if let Some(at) = (0..count).find(|&at| buffer[at] != expected[at]) {
            return Err(io::Error::other(format!("a wrong byte at {}", start + at as u64)));
        }
        self.received.store(start + count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn all(&self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            bytes -= self.once(bytes as usize)? as u64;
        }
        Ok(())
    }

    /// After a write that failed: what the other end had written before it went is still there.
    fn rest(&self, failed: io::Error) -> io::Result<()> {
        loop {
            if let Err(end) = self.once(LARGEST_WRITE) {
                return Err(if end.kind() == ErrorKind::UnexpectedEof { failed } else { end });
            }
        }
    }
}
