//! Urgent data (MSG_OOB) is TCP's: the sender's own direction changes back, and only that one.
//!
//! For its own direction an end needs nobody: it marks where its bytes in the ring end. So an FTP client can interrupt a server
//! that is busy with something else than this connection. The kernel tells the peer at once, by SIGURG and POLLPRI, even of
//! urgent data behind bytes that it has yet to read from the ring.

use super::{End, ask, finish, give_direction_back, may_change_back};
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::sock::{phase, tx_state};
use crate::socket::{rx, tx};
use preloop_shm::counted::Counted;
use preloop_uapi::sync::Ordering;

/// Has what this end sends go over TCP from now on. `false`: it does not, and urgent data cannot be sent. For hooks, without
/// locks.
pub fn send_over_tcp_again(file: &Counted<OpenFile>) -> bool {
    let sock = file.sock;
    let Some(link) = file.link().cloned() else { return sock.phase() == phase::TCP };
    if !may_change_back(file) {
        return false;
    }
    let held = (rx::lock(file), tx::lock(file));
    let state = sock.tx_state.load(Ordering::Acquire);
    // Who has read from the ring knows where it begins. Others have to count what came over TCP before, which the kernel does
    // not tell beside urgent data; a peer that is asked does so before it answers.
    let is_known = state == tx_state::KERNEL || link.peer().rx.cons.load(Ordering::Acquire) != 0;
    if state != tx_state::BACK && is_known {
        give_direction_back(sock, &link, file.fd());
        finish(file, &link, file.fd(), End::Asker);
    }
    drop(held);
    if state == tx_state::BACK {
        return true;
    }
    if !is_known {
        return ask::pin(file);
    }
    link.notify();
    clc::tell_watchers(file);
    true
}
