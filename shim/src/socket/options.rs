//! Options and questions that change once a connection has moved.

use crate::socket::back::ask;
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::rx;
use crate::socket::sock::flag;
use crate::socket::tx;
use preloop_shm::counted::Counted;
use preloop_sys::call::SIOCATMARK;
use preloop_sys::{Errno, Fd};
use preloop_uapi::sync::Ordering;

/// What the kernel's socket alone can do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// With what comes and goes from now on.
    WhatFollows,
    /// With what is unread, too.
    Everything,
}

/// Options that shared memory cannot carry: they pin a connection to TCP, and one that has moved changes back.
/// (TCP_REPAIR 19, TCP_MD5SIG 14, TCP_ULP 31, TCP_MD5SIG_EXT 32, TCP_INQ 36, TCP_AO_* 38 to 40; SO_PEEK_OFF 42;
/// SO_TIMESTAMP 29 and 63, SO_TIMESTAMPNS 35 and 64, SO_TIMESTAMPING 37 and 65, SO_ATTACH_FILTER 26, SO_ATTACH_BPF 50.)
/// Programs set SO_ZEROCOPY to learn whether it is there: it takes its effect with the first MSG_ZEROCOPY, see `tx`.
fn wish(level: i32, name: i32) -> Option<Wish> {
    match (level, name) {
        (libc::IPPROTO_TCP, 14 | 19 | 31 | 32 | 36 | 38..=40) | (libc::SOL_SOCKET, 42) => Some(Wish::Everything),
        (libc::SOL_SOCKET, 26 | 29 | 35 | 37 | 50 | 63 | 64 | 65) => Some(Wish::WhatFollows),
        _ => None,
    }
}

fn pin(file: &Counted<OpenFile>, wish: Wish) -> Result<(), Errno> {
    let is_pinned = match wish {
        Wish::WhatFollows => ask::pin_what_follows(file),
        Wish::Everything => ask::pin(file),
    };
    if is_pinned { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// Before setsockopt(2).
///
/// # Errors
/// EOPNOTSUPP when the option comes too late, and the connection does not change back.
pub fn before_set(file: &Counted<OpenFile>, level: i32, name: i32) -> Result<(), Errno> {
    wish(level, name).map_or(Ok(()), |wish| pin(file, wish))
}

/// After the kernel took an `int` option.
pub fn after_set(file: &OpenFile, level: i32, name: i32, value: i32) {
    if (level, name) == (libc::SOL_SOCKET, libc::SO_RCVLOWAT) {
        file.sock.low_water.store(value.max(0) as u32, Ordering::Relaxed);
    }
}

/// Before getsockopt(2): TCP_ZEROCOPY_RECEIVE (35) maps pages of the kernel's socket.
///
/// # Errors
/// As [`before_set`].
pub fn before_get(file: &Counted<OpenFile>, level: i32, name: i32) -> Result<(), Errno> {
    if (level, name) == (libc::IPPROTO_TCP, 35) { pin(file, Wish::Everything) } else { Ok(()) }
}

/// After the kernel took a time-out that begins with these seconds: old options and new ones (66, 67).
pub fn after_timeout(file: &OpenFile, name: i32, seconds: i64) {
    let passed = match name {
        libc::SO_RCVTIMEO | 66 => flag::RX_AT_ONCE,
        libc::SO_SNDTIMEO | 67 => flag::TX_AT_ONCE,
        _ => return,
    };
    file.sock.put(passed, seconds < 0);
}

/// Before fcntl(F_SETFL) or ioctl(FIOASYNC) asks for signals: the kernel sends none for what comes through shared memory.
///
/// # Errors
/// As [`before_set`].
pub fn before_signals(file: &Counted<OpenFile>) -> Result<(), Errno> {
    pin(file, Wish::WhatFollows)
}

/// After fcntl(F_SETFL) or ioctl(FIONBIO).
pub fn set_nonblocking(file: &OpenFile, nonblocking: bool) {
    file.sock.put(flag::NONBLOCK, nonblocking);
}

/// ioctl(2) with an `int` answer that the kernel cannot know any more; `None` when it does.
pub fn int_ioctl(file: &OpenFile, fd: Fd, request: libc::c_ulong) -> Option<Result<usize, Errno>> {
    if !matches!(request, libc::FIONREAD | libc::TIOCOUTQ | SIOCATMARK) || !clc::has_moved(file) {
        return None;
    }
    match request {
        libc::FIONREAD => Some(rx::queued(file, fd)),
        SIOCATMARK if rx::is_before_mark(file, fd) => Some(Ok(0)),
        libc::TIOCOUTQ if file.sock.tx_in_ring() => {
            let link = file.link()?;
            let _held = tx::lock(file);
            if !file.sock.tx_in_ring() {
                return None;
            }
            Some(Ok(file.sock.sender.unread(&link.peer().rx).unwrap_or(0) as usize))
        }
        _ => None,
    }
}
