//! What the kernel knows of a TCP connection's stream: how many bytes went in, how many came out, and its state.
//!
//! The counts are taken from the kernel and not kept by the library because bytes also pass where no hook sees them.

use crate::{Errno, Fd, call, event};
use syscalls::{Sysno, syscall};

/// TCP states as `tcpi_state` numbers them (`include/net/tcp_states.h`).
pub mod state {
    /// Open in both directions.
    pub const ESTABLISHED: u8 = 1;
    /// This end asked for a connection.
    pub const SYN_SENT: u8 = 2;
    /// This end sent FIN.
    pub const FIN_WAIT1: u8 = 4;
    /// This end's FIN was acknowledged.
    pub const FIN_WAIT2: u8 = 5;
    /// Both ends sent FIN, and it is over but for stray segments.
    pub const TIME_WAIT: u8 = 6;
    /// No connection.
    pub const CLOSE: u8 = 7;
    /// The peer sent FIN.
    pub const CLOSE_WAIT: u8 = 8;
    /// The peer sent FIN, and then this end.
    pub const LAST_ACK: u8 = 9;
    /// Accepts connections.
    pub const LISTEN: u8 = 10;
    /// Both ends sent FIN at the same time.
    pub const CLOSING: u8 = 11;

    /// Whether the peer's FIN has come.
    pub const fn has_fin(state: u8) -> bool {
        matches!(state, TIME_WAIT | CLOSE_WAIT | LAST_ACK | CLOSING)
    }
}

fn info(fd: Fd) -> Result<(libc::tcp_info, usize), Errno> {
    // SAFETY: tcp_info is plain numbers.
    let mut info: libc::tcp_info = unsafe { core::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` is writable for `len` bytes.
    unsafe {
        syscall!(Sysno::getsockopt, fd, libc::IPPROTO_TCP, libc::TCP_INFO, &raw mut info, &raw mut len)?;
    }
    Ok((info, len as usize))
}

/// The connection's state, see [`state`].
///
/// # Errors
/// The kernel's, when `fd` is no TCP socket.
pub fn state_of(fd: Fd) -> Result<u8, Errno> {
    info(fd).map(|(info, _)| info.tcpi_state)
}

/// Stream bytes written so far, whether sent or still queued, while nobody writes. Two ways to count must agree, for each
/// has cases in which it is wrong: bytes count as sent although the network layer refused the segment, and are then
/// sent again; and what is acknowledged and what is queued are two questions. `None` when they do not agree (now),
/// unless the connection is open in both directions (after this end's FIN neither holds), and on kernels that do not
/// count (before 4.19). `active`: this end opened the connection, and its SYN counts as acknowledged.
pub fn written(fd: Fd, active: bool) -> Option<u64> {
    let (before, len) = info(fd).ok()?;
    let queued = call::int_ioctl(fd, libc::TIOCOUTQ).ok()?;
    let (after, _) = info(fd).ok()?;
    let counted = len >= core::mem::offset_of!(libc::tcp_info, tcpi_bytes_retrans) + 8;
    if !counted || after.tcpi_state != state::ESTABLISHED || before.tcpi_bytes_acked != after.tcpi_bytes_acked {
        return None;
    }
    let sent = after.tcpi_bytes_sent.checked_sub(after.tcpi_bytes_retrans)? + u64::from(after.tcpi_notsent_bytes);
    let acked = (after.tcpi_bytes_acked + queued as u64).checked_sub(u64::from(active))?;
    (sent == acked).then_some(sent)
}

/// Stream bytes that ever arrived, and one more for a FIN. Holds after a reset too: what the reset cut off is missing.
pub fn received(fd: Fd) -> Option<u64> {
    info(fd).ok().map(|(info, _)| info.tcpi_bytes_received)
}

/// Stream bytes the program has taken so far; `None` once a FIN or RST arrived: then the count is off by one, and
/// the socket is to be read until it is empty instead.
pub fn taken(fd: Fd) -> Option<u64> {
    loop {
        let (before, _) = info(fd).ok()?;
        let queued = call::int_ioctl(fd, libc::FIONREAD).ok()?;
        let (after, _) = info(fd).ok()?;
        if !matches!(after.tcpi_state, state::ESTABLISHED | state::FIN_WAIT1 | state::FIN_WAIT2) {
            return None;
        }
        // Two calls agree only when nothing arrived between them.
        if before.tcpi_bytes_received == after.tcpi_bytes_received {
            return after.tcpi_bytes_received.checked_sub(queued as u64);
        }
    }
}

/// How far the stream was read, in bytes since some fixed place of it, while nobody reads: what arrived less what stands
/// in the receive queue. A FIN does not count. `None` where the kernel does not tell: when the connection is closed (then
/// nobody knows whether a FIN was counted), and while there is urgent data, at which SIOCINQ stops counting.
pub fn read_position(fd: Fd) -> Option<u64> {
    let (info, queued) = steady(fd, libc::FIONREAD, |info| info.tcpi_bytes_received)?;
    let fins = match info.tcpi_state {
        state::SYN_SENT | state::ESTABLISHED | state::FIN_WAIT1 | state::FIN_WAIT2 => 0,
        state::CLOSE_WAIT | state::LAST_ACK | state::CLOSING => 1,
        _ => return None,
    };
    let position = info.tcpi_bytes_received.checked_sub(queued + fins)?;
    (event::poll_now(fd, libc::POLLPRI) & libc::POLLPRI == 0).then_some(position)
}

/// How far the stream was written, in bytes since some fixed place of it, while nobody writes: what was acknowledged and
/// what is queued, sent or not. `None` where the kernel does not tell: when the connection cannot be written to (a FIN is
/// queued as a byte).
pub fn write_position(fd: Fd) -> Option<u64> {
    let (info, queued) = steady(fd, libc::TIOCOUTQ, |info| info.tcpi_bytes_acked)?;
    match info.tcpi_state {
        // The SYN will count as acknowledged.
        state::SYN_SENT => Some(1),
        state::ESTABLISHED | state::CLOSE_WAIT => Some(info.tcpi_bytes_acked + queued),
        _ => None,
    }
}

/// The answer of an ioctl that counts bytes in a queue, and what TCP tells beside it, with the same `count` before and
/// after: as what the queue gains or loses is counted there, both are of one moment. It comes to that, for nobody takes
/// what arrives, or adds to what is acknowledged, so that there is an end to either.
fn steady(fd: Fd, queue: libc::c_ulong, count: impl Fn(&libc::tcp_info) -> u64) -> Option<(libc::tcp_info, u64)> {
    let counted = core::mem::offset_of!(libc::tcp_info, tcpi_bytes_received) + 8;
    let (mut before, len) = info(fd).ok()?;
    if len < counted {
        return None;
    }
    loop {
        let queued = call::int_ioctl(fd, queue).ok()?;
        let (after, _) = info(fd).ok()?;
        if count(&before) == count(&after) {
            return Some((after, u64::try_from(queued).ok()?));
        }
        before = after;
    }
}

#[cfg(test)]
mod tests {
    use super::{read_position, write_position};
    use crate::call;
    use crate::pair::pair;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::os::fd::AsRawFd;

    #[test]
    fn positions_count_what_passed_and_no_fin() -> std::io::Result<()> {
        let [mut a, mut b] = pair()?;
        let ends = |a: &TcpStream, b: &TcpStream| [write_position(a.as_raw_fd()), read_position(b.as_raw_fd())];
        let [Some(written), Some(read)] = ends(&a, &b) else { panic!("TCP does not tell") };
        a.write_all(&[b'.'; 1000])?;
        assert_eq!(ends(&a, &b), [Some(written + 1000), Some(read)]);
        let mut some = [0; 400];
        b.read_exact(&mut some)?;
        assert_eq!(ends(&a, &b), [Some(written + 1000), Some(read + 400)]);
        a.shutdown(Shutdown::Write)?;
        assert_eq!(ends(&a, &b), [None, Some(read + 400)]);
        let mut rest = Vec::new();
        b.read_to_end(&mut rest)?;
        assert_eq!(ends(&a, &b), [None, Some(read + 1000)]);
        assert!(write_position(b.as_raw_fd()).is_some(), "the other direction is open");
        Ok(())
    }

    #[test]
    fn with_urgent_data_nobody_knows() -> std::io::Result<()> {
        let [a, b] = pair()?;
        assert_eq!(call::send(a.as_raw_fd(), b"urgent", libc::MSG_OOB), Ok(6));
        assert_eq!(read_position(b.as_raw_fd()), None);
        Ok(())
    }
}
