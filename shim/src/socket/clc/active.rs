//! The active side of the handshake: it proposes, finds who offers, and takes the offer.

use super::{addresses, age, calls, established, give_up};
use crate::policy;
use crate::process;
use crate::socket::file::OpenFile;
use crate::socket::group::{Group, Peer};
use crate::socket::link::Link;
use crate::socket::sock::{flag, phase};
use crate::socket::unseen;
use crate::stats;
use preloop_smc::clc::{self, MESSAGE_MAX, Message, NAME_MAX};
use preloop_sys::process::Masked;
use preloop_sys::unix::{self, Inner};
use preloop_sys::{Errno, Fd, call, clock, tcp};
use preloop_uapi::decline::Decline;
use preloop_uapi::sync::Ordering;

/// Strangers that are dismissed from a mailbox in one call.
const STRANGERS: usize = 3;
/// Places in a mailbox's queue: one is for the peer.
const BACKLOG: i32 = 4;

pub(super) fn propose(file: &OpenFile, fd: Fd, sends: bool) {
    let (sent, received) = calls(file.sock);
    if !policy::should_propose(if sends { sent } else { 0 }, received) {
        return;
    }
    // Not connected yet: no addresses, no proposal.
    let Some((local, peer)) = addresses(fd) else { return };
    if policy::is_self_connect(local, peer) {
        return give_up(file, Decline::CONFIGURATION);
    }
    if unseen::waits(fd) {
        return give_up(file, Decline::OPTION);
    }
    let Ok(cookie) = call::cookie(fd) else { return give_up(file, Decline::INTERNAL) };
    let mut name = [0; NAME_MAX];
    let len = clc::mailbox_name(local, peer, cookie, &mut name);
    match unix::mailbox(&name[..len], BACKLOG) {
        Ok(mailbox) => {
            file.mailbox.store(process::adopt(mailbox), Ordering::Relaxed);
            file.sock.listing.cookie.store(cookie, Ordering::Relaxed);
            file.sock.began.store(sent + received, Ordering::Relaxed);
            file.sock.began_at.store(clock::now(), Ordering::Relaxed);
            file.sock.phase.store(phase::PROPOSED, Ordering::Release);
            stats::proposed(file.sock);
        }
        // Somebody squats the name, or descriptors are exhausted.
        Err(Errno::EADDRINUSE) => give_up(file, Decline::SYNCHRONISATION),
        Err(_) => give_up(file, Decline::MEMORY),
    }
}

pub(super) fn look_into_mailbox(file: &OpenFile, fd: Fd) {
    let sock = file.sock;
    let (sent, received) = calls(sock);
    let waited = (sent + received).wrapping_sub(sock.began.load(Ordering::Relaxed));
    if policy::proposal_failed(sock.answers.load(Ordering::Relaxed), waited, age(sock)) {
        return give_up(file, Decline::PEER_NO_SMC);
    }
    if !policy::should_look_in_mailbox(waited) {
        return;
    }
    for _ in 0..STRANGERS {
        let waiting = file.clc.swap(-1, Ordering::Relaxed);
        let next = if waiting >= 0 {
            Ok(process::take_back(waiting))
        } else {
            unix::accept(file.mailbox.load(Ordering::Relaxed))
        };
        let Ok(socket) = next else { return };
        match answer(file, fd, &socket) {
            // It connected but has not written yet: at the next call.
            Err(Answer::Later) => {
                file.clc.store(process::adopt(socket), Ordering::Relaxed);
                return;
            }
            Err(Answer::Stranger) => {}
            Err(Answer::Decline(why)) => {
                let mut message = [0; MESSAGE_MAX];
                let len = clc::encode(&Message::Decline(why), &mut message);
                let _ = unix::send(&socket, &message[..len], &[]);
                // The peer may offer again, with a group made anew.
                if why != Decline::SYNCHRONISATION {
                    give_up(file, why);
                    return;
                }
            }
            Err(Answer::Declined(why)) => {
                sock.listing.peer_decline.store(why.0, Ordering::Relaxed);
                return give_up(file, Decline::PEER_DECLINED);
            }
            Ok(()) => return established(file),
        }
    }
}

/// Why an answer in the mailbox does not make a connection.
enum Answer {
    Later,
    Stranger,
    Decline(Decline),
    Declined(Decline),
}

/// The active side's checks, mapping, and Confirm.
fn answer(file: &OpenFile, fd: Fd, socket: &Inner) -> Result<(), Answer> {
    let cred = unix::peer(socket).map_err(|_| Answer::Stranger)?;
    let mut bytes = [0; MESSAGE_MAX];
    let (len, memory) = match unix::receive(socket, &mut bytes, 0) {
        Ok((0, _)) => return Err(Answer::Stranger),
        Ok((len, [memory, ..])) => (len, memory),
        Err(Errno::EAGAIN) => return Err(Answer::Later),
        Err(_) => return Err(Answer::Stranger),
    };
    let (local, peer) = addresses(fd).ok_or(Answer::Stranger)?;
    // The other end of exactly this connection belongs to whoever answers, and is the socket it says it is.
    let end = process::find_end(peer, local).filter(|end| end.state == tcp::state::ESTABLISHED);
    let owner = end.filter(|end| end.uid == cred.uid && end.uid != policy::OVERFLOW_UID).ok_or(Answer::Stranger)?;
    let accept = match clc::decode(&bytes[..len]) {
        Ok(Message::Accept(accept)) if accept.cookie == owner.cookie => accept,
        Ok(Message::Accept(_)) => return Err(Answer::Stranger),
        Ok(Message::Decline(why)) => return Err(Answer::Declined(why)),
        Err(why) => return Err(Answer::Decline(why)),
    };
    let from = Peer { pid: cred.pid as u32, uid: cred.uid };
    let group = match (Group::find_offered(from, accept.group), memory) {
        (Some(group), _) => group,
        (None, Some(memory)) => Group::meet(from, &accept, memory).map_err(Answer::Decline)?,
        (None, None) => return Err(Answer::Decline(Decline::SYNCHRONISATION)),
    };
    let link = Link::offered(group, &accept).map_err(Answer::Decline)?;
    // A signal handler that has the connection stay on TCP runs before the look at the flag, or after the move.
    let _masked = Masked::begin();
    if file.sock.has(flag::UNCOUNTED) || !link.take_offer() {
        // Withdrawn: by a fork or an exec, after which it may come again.
        return Err(Answer::Stranger);
    }
    file.prepare(Some(link));
    Ok(())
}
