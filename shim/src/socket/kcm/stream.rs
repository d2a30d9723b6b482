//! A psock's byte stream: the kernel's TCP socket, or a connection that has moved to shared memory.

use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::sock::flag;
use crate::socket::{options, rx, tx};
use preloop_shm::copy::{Buffers, show};
use preloop_sys::{Errno, Fd, call, tcp};
use preloop_uapi::sync::Ordering;

/// See the module's text. No call waits.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    fd: Fd,
    moved: Option<(&'a OpenFile, &'a Link)>,
}

impl<'a> Stream<'a> {
    /// The stream of a TCP socket that the library has at `fd`. `file` is the program's socket, where this process has it.
    pub fn new(fd: Fd, file: Option<&'a OpenFile>) -> Self {
        Self { fd, moved: file.and_then(|file| Some((file, &**file.link()?))) }
    }

    /// The TCP socket.
    pub fn fd(self) -> Fd {
        self.fd
    }

    /// The connection, if it has moved.
    pub fn moved(self) -> Option<(&'a OpenFile, &'a Link)> {
        self.moved
    }

    /// Whether a connection that has moved may have ended in either direction: a look, without a system call.
    pub fn may_have_ended(self) -> bool {
        self.moved.is_some_and(|(file, link)| {
            let is_shut = link.peer().tx.shut.load(Ordering::Acquire) != 0;
            is_shut || file.sock.has(flag::FIN | flag::ERROR | flag::BROKEN)
        })
    }

    /// Whether the end of the peer may not come while this end waits for room: see [`crate::socket::stuck`].
    pub fn may_miss_end(self) -> bool {
        self.moved.is_some_and(|(file, _)| !file.sock.rx_in_ring())
    }

    /// As `Tcp::peek`.
    ///
    /// # Errors
    /// EAGAIN; those of the connection.
    pub fn peek(self, into: &mut [u8]) -> Result<usize, Errno> {
        match self.moved {
            Some((file, _)) => rx::peek(file, self.fd, into),
            None => match call::recv(self.fd, into, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
                // The program has shut this direction down: bytes that come nevertheless are received.
                Ok(0) if !into.is_empty() && !has_ended(self.fd) => Err(Errno::EAGAIN),
                peeked => peeked,
            },
        }
    }

    /// As `Tcp::take`.
    pub fn discard(self, mut n: usize) {
        if let Some((file, _)) = self.moved {
            return rx::discard(file, self.fd, n);
        }
        while n > 0 {
            match call::discard(self.fd, n) {
                Ok(taken) if taken > 0 => n -= taken.min(n),
                _ => break,
            }
        }
    }

    /// As `Tcp::available`.
    pub fn available(self) -> usize {
        match self.moved {
            Some((file, _)) => rx::queued(file, self.fd).unwrap_or(0),
            None => self.in_kernel(libc::FIONREAD),
        }
    }

    /// As `Tcp::receive_limit`.
    pub fn limit(self) -> u32 {
        call::int_option(self.fd, libc::SOL_SOCKET, libc::SO_RCVBUF).map_or(0, |bytes| bytes.max(0) as u32)
    }

    /// As `Tcp::room`. A sender that waits for space in a ring may leave the rest of it empty.
    pub fn room(self) -> u32 {
        self.moved.map_or(u32::MAX, |(_, link)| u32::try_from(link.rx_ring().size() / 2).unwrap_or(u32::MAX))
    }

    /// SIOCOUTQ: bytes that the peer has not taken.
    pub fn unsent(self) -> usize {
        let moved = self.moved.and_then(|(file, _)| options::int_ioctl(file, self.fd, libc::TIOCOUTQ));
        moved.map_or_else(|| self.in_kernel(libc::TIOCOUTQ), |unsent| unsent.unwrap_or(0))
    }

    fn in_kernel(self, queue: libc::c_ulong) -> usize {
        call::int_ioctl(self.fd, queue).map_or(0, |bytes| bytes.max(0) as usize)
    }

    /// Sends what is in a program's buffers, or the first part of it.
    ///
    /// # Errors
    /// As [`tx::send_now`].
    pub fn send(self, data: &Buffers<'_>) -> Result<usize, Errno> {
        let kernel = || data.send(self.fd, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        match self.moved {
            Some((file, _)) => tx::send_now(file, self.fd, &mut &*data, kernel),
            None => kernel(),
        }
    }

    /// As `Tcp::write`.
    ///
    /// # Errors
    /// As [`tx::send_now`].
    pub fn write(self, parts: &[&[u8]]) -> Result<usize, Errno> {
        match self.moved {
            Some(_) => show(parts, |data| self.send(&data)),
            None => call::send_parts(self.fd, parts, 0),
        }
    }

    /// As `Tcp::read_position`.
    pub fn read_position(self) -> Option<u64> {
        self.moved.map_or_else(|| tcp::read_position(self.fd), |(file, _)| rx::position(file, self.fd))
    }

    /// As `Tcp::write_position`.
    pub fn write_position(self) -> Option<u64> {
        self.moved.map_or_else(|| tcp::write_position(self.fd), |(file, _)| tx::position(file, self.fd))
    }
}

/// Whether nothing comes any more.
fn has_ended(fd: Fd) -> bool {
    tcp::state_of(fd).is_ok_and(|state| state == tcp::state::CLOSE || tcp::state::has_fin(state))
}
