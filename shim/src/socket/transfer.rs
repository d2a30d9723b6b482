//! sendfile(2) and splice(2) between files, pipes and rings.

use crate::socket::calls::{Answer, Kernel};
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::rx::{self, Drained};
use crate::socket::sock::phase;
use crate::socket::tx::{self, Source};
use preloop_shm::copy::{Ring, Store};
use preloop_shm::counted::Counted;
use preloop_smc::ring::Span;
use preloop_sys::sleep::{self, SignalMask};
use preloop_sys::{Errno, Fd, call, event};
use preloop_uapi::decline::Decline;

/// A file or pipe that is sent from. The kernel reads it straight into the ring.
struct FileSource {
    file: Fd,
    /// Where to read, or `None` for the file's own position.
    offset: Option<i64>,
    len: usize,
}

impl Source for FileSource {
    fn len(&self) -> usize {
        self.len
    }

    fn fill(&mut self, ring: &Ring, span: Span, _done: usize, _store: Store) -> Result<usize, Errno> {
        let mut filled = 0;
        for (at, len) in span.pieces() {
            if len == 0 {
                continue;
            }
            let got = match ring.fill_from_file(at, len, self.file, self.offset) {
                Ok(got) => got,
                Err(_) if filled > 0 => break,
                Err(errno) => return Err(errno),
            };
            if let Some(offset) = &mut self.offset {
                *offset += got as i64;
            }
            filled += got;
            if got < len {
                break;
            }
        }
        Ok(filled)
    }
}

/// sendfile(2) towards a connection. `offset` is advanced by what was sent.
pub fn sendfile(
    out: &Counted<OpenFile>,
    fd: Fd,
    file: Fd,
    offset: &mut Option<i64>,
    len: usize,
    kernel: Kernel<'_>,
) -> Answer {
    // A pipe or terminal would have to be waited for with the connection's lock held; the kernel refuses them, too.
    if offset.is_none() && !call::is_seekable(file) && clc::has_moved(out) {
        return Answer::Ours(Err(Errno::EINVAL));
    }
    let mut source = FileSource { file, offset: *offset, len: len.min(0x7fff_f000) };
    let answer = tx::send(out, fd, &mut source, 0, kernel);
    if matches!(answer, Answer::Ours(_)) {
        *offset = source.offset;
    }
    answer
}

/// splice(2) from a pipe to a connection.
pub fn splice_in(
    out: &Counted<OpenFile>,
    fd: Fd,
    pipe: Fd,
    len: usize,
    nonblocking: bool,
    kernel: Kernel<'_>,
) -> Answer {
    // Also while it may yet move: this call can be the one that moves it.
    let may_move = !matches!(out.sock.phase(), phase::INIT | phase::TCP) && len > 0;
    let flags = if nonblocking { libc::MSG_DONTWAIT } else { 0 };
    loop {
        if may_move && !nonblocking {
            // The pipe is waited for here: inside, the connection's lock is held.
            let mut entry = [libc::pollfd { fd: pipe, events: libc::POLLIN, revents: 0 }];
            if let Err(errno) = sleep::poll(&mut entry, None, SignalMask::NONE, &mut || {}) {
                return Answer::Ours(Err(errno));
            }
        } else if may_move && event::poll_now(pipe, libc::POLLIN) == 0 {
            return Answer::Ours(Err(Errno::EAGAIN));
        }
        // One read of the pipe: a second one could find it empty.
        let mut source = PipeSource { pipe, len, emptied: false };
        let answer = tx::send(out, fd, &mut source, flags, kernel);
        // Somebody else has read what was there.
        if nonblocking || !source.emptied {
            return answer;
        }
    }
}

struct PipeSource {
    pipe: Fd,
    len: usize,
    /// The pipe had nothing to read.
    emptied: bool,
}

impl Source for PipeSource {
    fn len(&self) -> usize {
        self.len
    }

    fn fill(&mut self, ring: &Ring, span: Span, _done: usize, _store: Store) -> Result<usize, Errno> {
        let (at, len) = span.first;
        let got = ring.fill_from_pipe(at, len, self.pipe);
        self.emptied = got == Err(Errno::EAGAIN);
        let got = got?;
        self.len = self.len.min(got);
        Ok(got)
    }
}

/// splice(2) from a connection to a pipe.
pub fn splice_out(input: &Counted<OpenFile>, pipe: Fd, len: usize, nonblocking: bool, kernel: Kernel<'_>) -> Answer {
    if input.sock.phase() != phase::SMC && clc::pin(input, Decline::OPTION) {
        return Answer::Kernel(kernel());
    }
    let mut from_kernel = |from, limit| call::splice(from, pipe, limit);
    let mut from_ring = |ring: &Ring, span| to_pipe(ring, span, pipe, nonblocking);
    Answer::Ours(rx::drain_to(input, len, nonblocking, pipe, &mut from_kernel, &mut from_ring))
}

/// Writes a span to a pipe, as far as it takes it without waiting.
fn to_pipe(ring: &Ring, span: Span, pipe: Fd, nonblocking: bool) -> Drained {
    let mut written = 0;
    for (offset, len) in span.pieces() {
        let mut at = 0;
        while at < len {
            // A pipe with POLLOUT has room for a page.
            if event::poll_now(pipe, libc::POLLOUT) & libc::POLLOUT == 0 {
                return if written > 0 || nonblocking { Drained::Bytes(written) } else { Drained::Full };
            }
            match ring.drain_to_file(offset + at, (len - at).min(4096), pipe) {
                Ok(count) => {
                    at += count;
                    written += count;
                }
                Err(_) if written > 0 => return Drained::Bytes(written),
                Err(errno) => return Drained::Failed(errno),
            }
        }
    }
    Drained::Bytes(written)
}
