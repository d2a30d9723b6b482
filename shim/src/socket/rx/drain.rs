//! Handing bytes to a file instead of to buffers, for splice(2).

use super::kernel::{leave_ended_kernel, leave_unmoved_end, moved_before_end, settle};
use super::ring::{consume, stream_end, tell};
use super::{Drains, lock, wait_for_data};
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::sock::{Sock, flag, rx_state};
use crate::socket::tx::broken;
use crate::socket::wait;
use preloop_shm::copy::Ring;
use preloop_shm::counted::Counted;
use preloop_smc::back;
use preloop_smc::ring::{Broken, Span};
use preloop_sys::sleep::{self, SignalMask};
use preloop_sys::{Errno, Fd, event};
use preloop_uapi::sync::Ordering;

/// What became of ring bytes that were handed to a file.
pub enum Drained {
    /// So many were taken; 0 says that the file takes none now.
    Bytes(usize),
    /// None were taken, and the file must become writable first.
    Full,
    /// The file answered an error.
    Failed(Errno),
}

/// Hands ring bytes to a file, for splice(2): once there are any. What TCP still carries of a connection that is just
/// moving goes through `from_kernel`, which moves at most so many bytes from a descriptor and does not wait.
///
/// # Errors
/// EAGAIN, EINTR, those of the file and of the connection.
pub fn drain_to(
    file: &Counted<OpenFile>,
    len: usize,
    nonblocking: bool,
    to: Fd,
    from_kernel: &mut dyn FnMut(Fd, usize) -> Result<usize, Errno>,
    with: &mut dyn FnMut(&Ring, Span) -> Drained,
) -> Result<usize, Errno> {
    let (sock, Some(link)) = (file.sock, file.link()) else { return Err(Errno::EINVAL) };
    let patient = !nonblocking && !file.nonblocking();
    loop {
        let fd = file.fd();
        let seen = link.peer().tx.prod.load(Ordering::Acquire);
        let held = lock(file);
        settle(file, fd)?;
        if sock.rx_state.load(Ordering::Relaxed) == rx_state::RING {
            let end = stream_end(file, link);
            let data = sock.receiver.data(&link.peer().tx, link.rx_ring().size()).map_err(|Broken| broken(file, fd))?;
            if !data.is_empty() {
                match with(link.rx_ring(), data.take(len)) {
                    Drained::Bytes(0) => return Err(Errno::EAGAIN),
                    Drained::Bytes(count) => {
                        consume(file, link, count);
                        return Ok(count);
                    }
                    Drained::Failed(errno) => return Err(errno),
                    Drained::Full => {
                        drop(held);
                        wait_for_pipe(to)?;
                        continue;
                    }
                }
            }
            if back::is_marked(&link.peer().tx) {
                continue;
            }
            if let Some(end) = end {
                return tell(file, fd, end).map(|()| 0);
            }
            wait::look_at_kernel(file, fd);
            drop(held);
        } else {
            let kernel_only = sock.rx_state.load(Ordering::Relaxed) == rx_state::KERNEL;
            let drains = Drains::start(file);
            let drained = drain_kernel(sock, fd, len, from_kernel);
            drop(held);
            drains.finish();
            match drained {
                Err(Errno::EAGAIN) if patient && event::poll_now(fd, libc::POLLIN) != 0 => {
                    // Not for want of bytes.
                    wait_for_pipe(to)?;
                    continue;
                }
                Err(Errno::EAGAIN) => {}
                Ok(0) if kernel_only => {
                    if !moved_before_end(file) && !has_left_unmoved_end(file, link) {
                        return Ok(0);
                    }
                    continue;
                }
                Ok(0) if sock.rx_in_ring() => continue,
                answer => return answer,
            }
        }
        if !patient {
            return Err(Errno::EAGAIN);
        }
        wait_for_data(file, fd, None, true, seen)?;
    }
}

fn wait_for_pipe(pipe: Fd) -> Result<(), Errno> {
    let mut entry = [libc::pollfd { fd: pipe, events: libc::POLLOUT, revents: 0 }];
    sleep::poll(&mut entry, None, SignalMask::NONE, &mut || {}).map(drop)
}

/// As [`leave_unmoved_end`], without the rx lock.
fn has_left_unmoved_end(file: &OpenFile, link: &Link) -> bool {
    let _held = lock(file);
    leave_unmoved_end(file.sock, link)
}

/// One step of [`drain_to`] while TCP still has bytes.
fn drain_kernel(
    sock: &Sock,
    fd: Fd,
    len: usize,
    move_up_to: &mut dyn FnMut(Fd, usize) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let draining = sock.rx_state.load(Ordering::Relaxed) == rx_state::DRAINING;
    let left = if draining { sock.kernel_left.load(Ordering::Relaxed) as usize } else { usize::MAX };
    // A splice of the kernel's waits for bytes although it was told not to, where the socket is one that waits; and the lock is
    // held.
    if event::poll_now(fd, libc::POLLIN | libc::POLLRDHUP) == 0 {
        return Err(Errno::EAGAIN);
    }
    let moved = move_up_to(fd, len.min(left))?;
    if draining {
        sock.kernel_left.store((left - moved) as u64, Ordering::Relaxed);
        if left == moved {
            sock.rx_state.store(rx_state::RING, Ordering::Release);
        }
    } else if moved == 0
        && sock.rx_state.load(Ordering::Relaxed) == rx_state::DRAINING_TO_END
        && leave_ended_kernel(sock, fd)
    {
        sock.raise(flag::FIN);
    }
    Ok(moved)
}
