//! One connection of a client to an echo server: what was sent comes back, and is compared.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use preloop_tests::stream::fill;

/// First byte of a connection that the server may close at any time.
pub(crate) const SERVER_MAY_CLOSE: u8 = b'c';
/// First byte of one that it may not.
const SERVER_STAYS: u8 = b's';
const LARGEST_READ: usize = 1 << 16;

/// Where a client says that it goes on.
pub(crate) struct Progress {
    file: File,
    count: AtomicU64,
}

impl Progress {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, count: AtomicU64::new(0) })
    }

    fn step(&self) -> io::Result<()> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.file.write_all_at(&count.to_le_bytes(), 0)
    }
}

/// A connection and how far it has come.
pub(crate) struct Talk<'a> {
    stream: TcpStream,
    number: u64,
    may_close: bool,
    sent: AtomicU64,
    heard: AtomicU64,
    progress: &'a Progress,
}

impl<'a> Talk<'a> {
    /// Connects; the stream's contents follow from `number`.
    pub(crate) fn open(port: u16, number: u64, may_close: bool, progress: &'a Progress) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, number, may_close, sent: AtomicU64::new(0), heard: AtomicU64::new(0), progress })
    }

    fn contents(&self, start: u64, out: &mut [u8]) {
        fill(self.number, start, out);
        if start == 0
            && let Some(first) = out.first_mut()
        {
            *first = if self.may_close { SERVER_MAY_CLOSE } else { SERVER_STAYS };
        }
    }

    /// Sends so many bytes.
    pub(crate) fn say(&self, bytes: usize) -> io::Result<()> {
        let mut buffer = vec![0; bytes];
        self.contents(self.sent.load(Ordering::Relaxed), &mut buffer);
        (&self.stream).write_all(&buffer)?;
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Receives so many bytes, or up to the end, and compares them; how many came.
    fn hear(&self, bytes: usize) -> io::Result<usize> {
        let mut buffer = vec![0; bytes.min(LARGEST_READ)];
        let count = (&self.stream).read(&mut buffer)?;
        let start = self.heard.fetch_add(count as u64, Ordering::Relaxed);
        let mut expected = vec![0; count];
        self.contents(start, &mut expected);
        match (0..count).find(|&at| buffer[at] != expected[at]) {
            Some(at) => Err(io::Error::new(ErrorKind::InvalidData, format!("a wrong byte at {}", start + at as u64))),
            None => self.progress.step().map(|()| count),
        }
    }

    /// Receives all these bytes.
    pub(crate) fn hear_all(&self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            match self.hear(bytes.min(LARGEST_READ as u64) as usize)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => bytes -= count as u64,
            }
        }
        Ok(())
    }

    /// A message to and fro.
    pub(crate) fn exchange(&self, bytes: usize) -> io::Result<()> {
        self.say(bytes)?;
        self.hear_all(bytes as u64)
    }

    /// Sends no more, and hears what is missing and the end.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.hear_all(self.sent.load(Ordering::Relaxed) - self.heard.load(Ordering::Relaxed))?;
        match self.hear(LARGEST_READ)? {
            0 => Ok(()),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "more came than was sent")),
        }
    }

    /// Whether an end such as this is the server's right.
    pub(crate) fn allows(&self, error: &io::Error) -> bool {
        let ends =
            [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::NotConnected];
        self.may_close && ends.contains(&error.kind())
    }
}
