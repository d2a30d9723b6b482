//! Sending for a KCM mux, which never waits, and may be asked how far it came.

use super::{Sending, Source, enter_kernel, leave_kernel, lock, put, room_soon, try_to_move};
use crate::socket::file::OpenFile;
use crate::socket::rx;
use crate::socket::sock::tx_state;
use preloop_sys::{Errno, Fd, tcp};
use preloop_uapi::sync::Ordering;

/// Sends what there is room for on a connection that has moved, or is about to; `kernel` sends on its TCP socket, without
/// waiting. No cancellation point. After EAGAIN, and when not all was sent, the waiters hear of room.
///
/// # Errors
/// EAGAIN, EPIPE without a signal, those of the connection: nothing was sent then.
pub fn send_now(
    file: &OpenFile,
    fd: Fd,
    source: &mut dyn Source,
    kernel: impl Fn() -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let (sock, Some(link)) = (file.sock, file.link()) else { return kernel() };
    if !sock.tx_in_ring() {
        try_to_move(file, fd);
    }
    if !sock.tx_in_ring() && enter_kernel(file) {
        let answer = kernel();
        leave_kernel(sock, answer.is_ok_and(|sent| sent > 0));
        return answer;
    }
    let (mut sent, mut heeds) = (0, true);
    loop {
        let stopped = match put(file, link, fd, source, &mut sent, heeds) {
            Ok(Sending::Done) => return Ok(sent),
            // TCP answers what it answers then.
            Ok(Sending::PeerClosed) if sent == 0 => return kernel(),
            Ok(Sending::PeerClosed) => return Ok(sent),
            // It is refused: a mux stays where it is.
            Ok(Sending::Asked) => {
                heeds = false;
                rx::heed(file, fd);
                continue;
            }
            Ok(Sending::Back) if sent == 0 => return kernel(),
            Ok(Sending::Back) => return Ok(sent),
            Ok(Sending::Full) => match room_soon(file, link) {
                Ok(true) => continue,
                Ok(false) => Errno::EAGAIN,
                Err(errno) => errno,
            },
            Err(errno) => errno,
        };
        return if sent > 0 { Ok(sent) } else { Err(stopped) };
    }
}

/// How far the stream was written, in bytes from its beginning, while nobody writes; `None` where that is not known.
pub fn position(file: &OpenFile, fd: Fd) -> Option<u64> {
    let link = file.link()?;
    let _held = lock(file);
    match file.sock.tx_state.load(Ordering::Acquire) {
        tx_state::RING => {}
        tx_state::BACK => return tcp::written(fd, file.is_active())?.checked_add(file.sock.sender.sent()),
        _ => return tcp::written(fd, file.is_active()),
    }
    let over_tcp = link.own().tx.switch_at.load(Ordering::Acquire).checked_sub(1)?;
    over_tcp.checked_add(file.sock.sender.sent())
}
