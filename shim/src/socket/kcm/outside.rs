//! The core's view of TCP, through this process's descriptors.

use super::local::Local;
use super::stream::Stream;
use preloop_kcm::errno::Errno as CoreErrno;
use preloop_kcm::id::PsockId;
use preloop_kcm::outside::{Parse, Tcp};
use preloop_kcm::straight::Source;
use preloop_parsers::spec::Spec;
use preloop_parsers::{Fields, Program, Verdict};
use preloop_shm::copy::Buffers;
use preloop_sys::probe::Access;
use preloop_sys::{Errno, Fd, call};
use std::sync::Arc;

fn core_errno(errno: Errno) -> CoreErrno {
    errno.into_raw()
}

/// The buffers of a call that sends.
#[derive(Debug)]
pub struct Gathered<'a>(pub Buffers<'a>);

impl Source<Local> for Gathered<'_> {
    fn write(&mut self, psock: PsockId, tcp: &mut Local) -> Result<usize, CoreErrno> {
        let stream = tcp.to_write(psock)?;
        // The kernel would send what stands before a bad address.
        if !self.0.allow(Access::Read, self.0.len()) {
            return Err(preloop_kcm::errno::EFAULT);
        }
        stream.send(&self.0).map_err(core_errno)
    }

    fn copy(&mut self, into: &mut [u8]) -> Result<(), CoreErrno> {
        if !self.0.allow(Access::Read, into.len()) {
            return Err(preloop_kcm::errno::EFAULT);
        }
        self.0.gather(0, into);
        Ok(())
    }
}

impl Tcp for Local {
    type Parser = Reader;

    fn peek(&mut self, psock: PsockId, into: &mut [u8]) -> Result<usize, CoreErrno> {
        self.stream(psock).ok_or(preloop_kcm::errno::EAGAIN)?.peek(into).map_err(core_errno)
    }

    fn take(&mut self, psock: PsockId, n: usize) {
        if let Some(stream) = self.stream(psock) {
            stream.discard(n);
        }
    }

    fn available(&mut self, psock: PsockId) -> usize {
        self.stream(psock).map_or(0, Stream::available)
    }

    fn write(&mut self, psock: PsockId, parts: &[&[u8]]) -> Result<usize, CoreErrno> {
        self.to_write(psock)?.write(parts).map_err(core_errno)
    }

    fn read_position(&mut self, psock: PsockId) -> Option<u64> {
        self.stream(psock)?.read_position()
    }

    fn write_position(&mut self, psock: PsockId) -> Option<u64> {
        self.stream(psock)?.write_position()
    }

    fn receive_limit(&mut self, psock: PsockId) -> u32 {
        self.stream(psock).map_or(0, Stream::limit)
    }

    fn receive_time(&mut self, psock: PsockId) -> u64 {
        let Some(fd) = self.tcp(psock) else { return 0 };
        let time = call::timeout_option(fd, libc::SO_RCVTIMEO);
        self.has_deadlines |= time > 0;
        time
    }

    fn room(&mut self, psock: PsockId) -> u32 {
        self.stream(psock).map_or(u32::MAX, Stream::room)
    }

    fn parser(&mut self, psock: PsockId) -> Reader {
        Reader(self.program(psock).map(|(program, fields)| (program.spec(), Arc::clone(program), *fields)))
    }
}

/// A TCP socket that was lent, with the parser of its psock, as far as reading asks for it.
#[derive(Debug)]
pub struct Borrowed<'a> {
    stream: Stream<'a>,
    reader: &'a Reader,
}

impl<'a> Borrowed<'a> {
    /// It is the library's `fd`, whose connection has not moved to shared memory.
    pub fn new(fd: Fd, reader: &'a Reader) -> Self {
        Self { stream: Stream::new(fd, None), reader }
    }
}

impl Tcp for Borrowed<'_> {
    type Parser = Reader;

    fn peek(&mut self, _: PsockId, into: &mut [u8]) -> Result<usize, CoreErrno> {
        self.stream.peek(into).map_err(core_errno)
    }

    fn take(&mut self, _: PsockId, n: usize) {
        self.stream.discard(n);
    }

    fn available(&mut self, _: PsockId) -> usize {
        self.stream.available()
    }

    fn write(&mut self, _: PsockId, _: &[&[u8]]) -> Result<usize, CoreErrno> {
        Err(preloop_kcm::errno::EAGAIN)
    }

    fn read_position(&mut self, _: PsockId) -> Option<u64> {
        None
    }

    fn write_position(&mut self, _: PsockId) -> Option<u64> {
        None
    }

    fn receive_limit(&mut self, _: PsockId) -> u32 {
        self.stream.limit()
    }

    fn receive_time(&mut self, _: PsockId) -> u64 {
        0
    }

    fn parser(&mut self, _: PsockId) -> Reader {
        self.reader.clone()
    }
}

/// A psock's program, and what it reads besides the bytes. A spec stands beside its program, where it is quickly at hand.
#[derive(Clone, Debug)]
pub struct Reader(Option<(Option<Spec>, Arc<Program>, Fields)>);

impl Parse for Reader {
    #[inline(always)]
    fn parse(&mut self, bytes: &[u8]) -> i32 {
        let Some((spec, program, fields)) = &self.0 else { return 0 };
        let answer = match spec {
            Some(spec) => Ok(spec.run(bytes)),
            None => program.interpret(bytes, fields),
        };
        match Verdict::of(answer) {
            Verdict::NeedMore => 0,
            Verdict::Length(length) => i32::try_from(length).unwrap_or(i32::MAX),
            Verdict::Error(error) => 0i32.wrapping_sub_unsigned(error),
        }
    }
}
