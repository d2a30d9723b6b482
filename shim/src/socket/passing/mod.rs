//! Passing a connection that has moved to another process, in a message of a Unix socket (SCM_RIGHTS).
//!
//! In place of the TCP socket a *parcel* goes: an end of a pair of Unix sockets, in whose queue lies a message with the TCP
//! socket, the memory of the connection, and a [`note`] on what is where. The hook of recvmsg(2) opens it ([`open`]), and
//! puts the TCP socket where the parcel stood. So
//!
//! - the kernel keeps all of it while it is under way, whatever becomes of the sender. When it is dropped (nobody receives
//!   it; there is no room for it) the TCP socket goes with it, and if no other process holds it, the peer sees its end;
//! - a program without the library finds a socket where it reads an end of file and cannot write. Nothing is lost in a TCP
//!   socket that nobody reads, for the program does not have it;
//! - taking the message out of the queue is what makes a receiver the holder. The kernel lets one do that, once.
//!
//! Nevertheless a message is sent only where who receives it seems to be able to go on: see [`receiver`].
//!
//! The message under way counts among the socket's holders like a process, see [`crate::socket::users::Stake`].

pub mod note;
pub mod open;
pub mod pack;
mod receiver;
pub mod tenant;

use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::users::{self, Place};
use preloop_shm::arena;
use preloop_uapi::sync::Ordering;

/// One holder and user less that was no process: a message was not sent, or came to where the socket is known already.
fn count_out(file: &OpenFile, link: &Link, place: Option<Place>) {
    let sock = file.sock;
    if let Some(place) = place {
        users::unlist_message(sock, place, false);
    }
    if sock.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
        link.own().wait.closed.store(1, Ordering::Release);
        link.notify();
    }
    if sock.users.fetch_sub(1, Ordering::AcqRel) == 1 {
        link.leave(true);
        arena::give_back(sock);
    }
}
