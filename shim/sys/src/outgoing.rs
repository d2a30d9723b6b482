//! Handing bytes to a TCP socket that has to take them at once.

use crate::call::{self, Answer, raw};
use crate::{Errno, Fd};
use core::ffi::c_int;

/// SO_LINGER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linger {
    /// Whether a close waits, or resets.
    pub on: bool,
    /// For how many seconds.
    pub seconds: u32,
}

impl Linger {
    /// A close, and the end of the process, resets the connection.
    pub const RESET: Self = Self { on: true, seconds: 0 };

    /// What a socket has.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(fd: Fd) -> Result<Self, Errno> {
        let mut linger = libc::linger { l_onoff: 0, l_linger: 0 };
        let mut len = size_of::<libc::linger>() as libc::socklen_t;
        raw!(getsockopt, fd, libc::SOL_SOCKET, libc::SO_LINGER, &raw mut linger, &raw mut len)?;
        Ok(Self { on: linger.l_onoff != 0, seconds: linger.l_linger.max(0) as u32 })
    }

    /// Sets it.
    pub fn set(self, fd: Fd) {
        let linger = libc::linger { l_onoff: c_int::from(self.on), l_linger: self.seconds as c_int };
        let _ = raw!(setsockopt, fd, libc::SOL_SOCKET, libc::SO_LINGER, &raw const linger, size_of::<libc::linger>());
    }
}

/// Bytes that the socket takes without waiting, at least, unless the whole system is short of memory for TCP. The kernel
/// counts half of SO_SNDBUF for its own needs, too (socket(7)).
pub fn surely_takes(fd: Fd) -> usize {
    let room = call::int_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF).map_or(0, |bytes| bytes.max(0) as usize / 2);
    let queued = call::int_ioctl(fd, libc::TIOCOUTQ).map_or(usize::MAX, |bytes| bytes.max(0) as usize);
    room.saturating_sub(queued)
}

/// While it lives the socket takes what its send buffer has room for, although it is to hold little that is not sent yet
/// (TCP_NOTSENT_LOWAT).
#[derive(Debug)]
pub struct Unlimited(Fd, c_int);

impl Unlimited {
    /// From now on.
    pub fn begin(fd: Fd) -> Self {
        let before = call::int_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT).unwrap_or(0);
        let _ = call::set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, c_int::MAX);
        Self(fd, before)
    }
}

impl Drop for Unlimited {
    fn drop(&mut self) {
        let _ = call::set_int_option(self.0, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, self.1);
    }
}

/// `send(2)` from an address that the caller vouches for, without waiting and without SIGPIPE.
///
/// # Safety
/// `len` bytes at `address` must be readable.
pub unsafe fn send_now_at(fd: Fd, address: *const u8, len: usize) -> Answer {
    raw!(sendto, fd, address, len, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL, 0, 0)
}

/// Resets a connection at once: both ends learn of it as of an error.
pub fn reset(fd: Fd) {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let _ = raw!(connect, fd, &raw const nowhere, size_of::<libc::sockaddr>());
}

#[cfg(test)]
mod tests {
    use super::{Linger, Unlimited, reset, surely_takes};
    use crate::call;
    use crate::pair::pair;
    use std::io::Read;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_it_surely_takes_it_takes() -> std::io::Result<()> {
        for buffer in [None, Some(1), Some(20_000), Some(100_000)] {
            let [a, _b] = pair()?;
            let fd = a.as_raw_fd();
            if let Some(buffer) = buffer {
                call::set_int_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, buffer).unwrap();
            }
            call::set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, 1).unwrap();
            let takes = surely_takes(fd);
            assert!(takes > 1000);
            let unlimited = Unlimited::begin(fd);
            assert_eq!(call::send(fd, &vec![b'.'; takes], libc::MSG_DONTWAIT), Ok(takes), "{buffer:?}");
            drop(unlimited);
            assert_eq!(call::int_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT), Ok(1));
        }
        Ok(())
    }

    #[test]
    fn a_reset_is_an_error_at_the_other_end() -> std::io::Result<()> {
        let [a, mut b] = pair()?;
        let linger = Linger { on: true, seconds: 7 };
        linger.set(a.as_raw_fd());
        assert_eq!(Linger::of(a.as_raw_fd()), Ok(linger));
        reset(a.as_raw_fd());
        let mut byte = [0];
        assert_eq!(b.read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        Ok(())
    }
}
