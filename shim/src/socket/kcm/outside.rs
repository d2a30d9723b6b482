//! The core's view of TCP, through this process's descriptors.

use super::local::Local;
use preloop_kcm::errno::Errno as CoreErrno;
use preloop_kcm::id::PsockId;
use preloop_kcm::outside::Tcp;
use preloop_kcm::straight::Source;
use preloop_parsers::{Fields, Verdict};
use preloop_shm::copy::Buffers;
use preloop_sys::probe::Access;
use preloop_sys::{Errno, Fd, call, tcp};

/// Whether nothing comes any more.
fn has_ended(fd: Fd) -> bool {
    tcp::state_of(fd).is_ok_and(|state| state == tcp::state::CLOSE || tcp::state::has_fin(state))
}

fn core_errno(errno: Errno) -> CoreErrno {
    errno.into_raw()
}

/// The buffers of a call that sends.
#[derive(Debug)]
pub struct Gathered<'a>(pub Buffers<'a>);

impl Source<Local> for Gathered<'_> {
    fn write(&mut self, psock: PsockId, tcp: &mut Local) -> Result<usize, CoreErrno> {
        let fd = tcp.to_write(psock)?;
        // The kernel would send what stands before a bad address.
        if !self.0.allow(Access::Read, self.0.len()) {
            return Err(preloop_kcm::errno::EFAULT);
        }
        self.0.send(fd, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).map_err(core_errno)
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
    fn peek(&mut self, psock: PsockId, into: &mut [u8]) -> Result<usize, CoreErrno> {
        let Some(fd) = self.tcp(psock) else { return Err(preloop_kcm::errno::EAGAIN) };
        match call::recv(fd, into, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            // The program has shut this direction down: bytes that come nevertheless are received.
            Ok(0) if !into.is_empty() && !has_ended(fd) => Err(preloop_kcm::errno::EAGAIN),
            peeked => peeked.map_err(core_errno),
        }
    }

    fn take(&mut self, psock: PsockId, mut n: usize) {
        let Some(fd) = self.tcp(psock) else { return };
        while n > 0 {
            match call::discard(fd, n) {
                Ok(taken) if taken > 0 => n -= taken.min(n),
                _ => break,
            }
        }
    }

    fn available(&mut self, psock: PsockId) -> usize {
        let Some(fd) = self.tcp(psock) else { return 0 };
        call::int_ioctl(fd, libc::FIONREAD).map_or(0, |bytes| bytes.max(0) as usize)
    }

    fn write(&mut self, psock: PsockId, parts: &[&[u8]]) -> Result<usize, CoreErrno> {
        call::send_parts(self.to_write(psock)?, parts, 0).map_err(core_errno)
    }

    fn read_position(&mut self, psock: PsockId) -> Option<u64> {
        tcp::read_position(self.tcp(psock)?)
    }

    fn write_position(&mut self, psock: PsockId) -> Option<u64> {
        tcp::write_position(self.tcp(psock)?)
    }

    fn receive_limit(&mut self, psock: PsockId) -> u32 {
        let Some(fd) = self.tcp(psock) else { return 0 };
        call::int_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF).map_or(0, |bytes| bytes.max(0) as u32)
    }

    fn receive_time(&mut self, psock: PsockId) -> u64 {
        let Some(fd) = self.tcp(psock) else { return 0 };
        let time = call::timeout_option(fd, libc::SO_RCVTIMEO);
        self.has_deadlines |= time > 0;
        time
    }

    fn parse(&mut self, psock: PsockId, bytes: &[u8]) -> i32 {
        let Some(program) = self.program(psock) else { return 0 };
        match Verdict::of(program.run(bytes, &Fields::ZERO)) {
            Verdict::NeedMore => 0,
            Verdict::Length(length) => i32::try_from(length).unwrap_or(i32::MAX),
            Verdict::Error(error) => 0i32.wrapping_sub_unsigned(error),
        }
    }
}
