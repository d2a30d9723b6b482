//! The handshake (CLC), one step at a call of the program's: no thread, no daemon, and no call ever waits for it.
//!
//! ```text
//! active (called connect)                       passive (called accept)
//! -----------------------                       -----------------------
//! ELIGIBLE                                      ELIGIBLE
//! propose: a mailbox named by the 4-tuple
//!   and its own cookie            PROPOSED
//!                                               look: sock_diag tells the cookie; connect to that name;
//!                                                 send Accept and the group's memory       OFFERED
//! look into the mailbox: check who offers,
//!   map, ACCEPTED -> CONFIRMED    SMC
//!                                               see CONFIRMED                              SMC
//! ```
//! The word in shared memory alone decides. Who gives up first (a fork, a close, an option that shared memory cannot
//! carry) compare-exchanges it to WITHDRAWN, or is too late and goes on through shared memory.

use crate::log;
use crate::policy;
use crate::process;
use crate::socket::file::{OpenFile, Watcher};
use crate::socket::group::{Group, Link, Peer};
use crate::socket::sock::{Sock, phase};
use preloop_smc::clc::{self, MESSAGE_MAX, Message, NAME_MAX};
use preloop_sys::unix::{self, Inner};
use preloop_sys::{Errno, Fd, call, tcp};
use preloop_uapi::decline::Decline;
use preloop_uapi::listing::mode;
use preloop_uapi::sync::Ordering;

/// Strangers that the active side dismisses from its mailbox in one call.
const STRANGERS: usize = 3;
/// Places in a mailbox's queue: one is for the peer.
const BACKLOG: i32 = 4;

/// One step, before a call sends or receives on a connection that has not moved.
pub fn step(file: &OpenFile, fd: Fd, sends: bool) {
    let sock = file.sock;
    if sock.holders.load(Ordering::Acquire) != 1 {
        return;
    }
    // Another thread is at it: this call need not wait.
    let Some(held) = sock.handshake.try_lock() else { return };
    if held.owner_died {
        give_up(file, Decline::INTERNAL);
        return;
    }
    match (sock.phase(), file.is_active()) {
        (phase::ELIGIBLE, true) => propose(file, fd, sends),
        (phase::PROPOSED, _) => look_into_mailbox(file, fd),
        (phase::ELIGIBLE, false) => look_for_proposal(file, fd, sends),
        (phase::OFFERED, _) => look_at_offer(file),
        _ => {}
    }
}

fn calls(sock: &Sock) -> (u32, u32) {
    (sock.sends.load(Ordering::Relaxed), sock.receives.load(Ordering::Relaxed))
}

fn addresses(fd: Fd) -> Option<(core::net::SocketAddr, core::net::SocketAddr)> {
    Some((call::local_addr(fd)?, call::peer_addr(fd)?))
}

fn propose(file: &OpenFile, fd: Fd, sends: bool) {
    let (sent, received) = calls(file.sock);
    if !policy::should_propose(if sends { sent } else { 0 }, received) {
        return;
    }
    // Not connected yet: no addresses, no proposal.
    let Some((local, peer)) = addresses(fd) else { return };
    if policy::is_self_connect(local, peer) {
        return give_up(file, Decline::CONFIGURATION);
    }
    let Ok(cookie) = call::cookie(fd) else { return give_up(file, Decline::INTERNAL) };
    let mut name = [0; NAME_MAX];
    let len = clc::mailbox_name(local, peer, cookie, &mut name);
    match unix::mailbox(&name[..len], BACKLOG) {
        Ok(mailbox) => {
            file.mailbox.store(process::adopt(mailbox), Ordering::Relaxed);
            file.sock.listing.cookie.store(cookie, Ordering::Relaxed);
            file.sock.began.store(sent + received, Ordering::Relaxed);
            file.sock.phase.store(phase::PROPOSED, Ordering::Release);
        }
        // Somebody squats the name, or descriptors are exhausted.
        Err(Errno::EADDRINUSE) => give_up(file, Decline::SYNCHRONISATION),
        Err(_) => give_up(file, Decline::MEMORY),
    }
}

fn look_into_mailbox(file: &OpenFile, fd: Fd) {
    let sock = file.sock;
    let (sent, received) = calls(sock);
    let waited = (sent + received).wrapping_sub(sock.began.load(Ordering::Relaxed));
    if policy::proposal_failed(sock.answers.load(Ordering::Relaxed), waited) {
        return give_up(file, Decline::PEER_NO_SMC);
    }
    if !policy::should_look_in_mailbox(waited) {
        return;
    }
    for _ in 0..STRANGERS {
        let waiting = file.clc.swap(-1, Ordering::Relaxed);
        let next = if waiting >= 0 {
            Ok(Inner::from_raw(waiting))
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
                let _ = unix::send(&socket, &message[..len], None);
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
            Ok(()) => {
                established(file);
                // Whoever sleeps on T alone must be in the waiters of the memory that is now in use. (The passive side
                // told its own when it made the offer.)
                return tell_watchers(file);
            }
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
    let (len, memory) = match unix::receive(socket, &mut bytes) {
        Ok((0, _)) => return Err(Answer::Stranger),
        Ok(received) => received,
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
        (None, Some(memory)) => Group::meet(from, &accept, memory.into_raw()).map_err(Answer::Decline)?,
        (None, None) => return Err(Answer::Decline(Decline::SYNCHRONISATION)),
    };
    let link = Link::offered(group, &accept).map_err(Answer::Decline)?;
    file.prepare(Some(link.clone()));
    if link.take_offer() {
        return Ok(());
    }
    file.prepare(None);
    Err(Answer::Declined(Decline::SYNCHRONISATION))
}

fn look_for_proposal(file: &OpenFile, fd: Fd, sends: bool) {
    let sock = file.sock;
    let (sent, received) = calls(sock);
    if !policy::should_look(sends, sent, received) {
        return;
    }
    match offer(file, fd) {
        Ok(()) => {}
        // Nobody listens under that name: not yet, or never.
        Err(None) => {
            let looks = sock.looks.fetch_add(1, Ordering::Relaxed) + 1;
            if policy::looked_enough(looks, sent, received) {
                give_up(file, Decline::PEER_NO_SMC);
            }
        }
        Err(Some(why)) => give_up(file, why),
    }
}

/// The passive side's checks, group and Accept. `Err(None)`: there is no proposal.
fn offer(file: &OpenFile, fd: Fd) -> Result<(), Option<Decline>> {
    let (local, peer) = addresses(fd).ok_or(None)?;
    let end = process::find_end(peer, local).filter(|end| end.state == tcp::state::ESTABLISHED).ok_or(None)?;
    let mut name = [0; NAME_MAX];
    let len = clc::mailbox_name(peer, local, end.cookie, &mut name);
    let socket = match unix::connect(&name[..len]) {
        Ok(socket) => socket,
        Err(Errno::ECONNREFUSED) => return Err(None),
        // Its backlog is full of strangers; or descriptors are exhausted here.
        Err(Errno::EAGAIN | Errno::EPERM | Errno::EACCES) => return Err(Some(Decline::SYNCHRONISATION)),
        Err(_) => return Err(Some(Decline::MEMORY)),
    };
    let cred = unix::peer(&socket).map_err(|_| Some(Decline::INTERNAL))?;
    if cred.uid != end.uid || end.uid == policy::OVERFLOW_UID {
        return Err(Some(Decline::CONFIGURATION));
    }
    let cookie = call::cookie(fd).map_err(|_| Some(Decline::INTERNAL))?;
    let from = Peer { pid: cred.pid as u32, uid: cred.uid };
    let group = match Group::find_to_offer(from) {
        Some(group) => group,
        None => Group::make(from).map_err(Some)?,
    };
    let link = Link::offer(group).map_err(Some)?;
    let mut message = [0; MESSAGE_MAX];
    let memory = link.group.to_pass();
    let len = clc::encode(&Message::Accept(link.describe(cookie, memory.is_some())), &mut message);
    file.prepare(Some(link.clone()));
    if unix::send(&socket, &message[..len], memory).is_err() {
        link.withdraw();
        file.prepare(None);
        return Err(Some(Decline::SYNCHRONISATION));
    }
    let (sent, received) = calls(file.sock);
    file.clc.store(process::adopt(socket), Ordering::Relaxed);
    file.sock.listing.cookie.store(cookie, Ordering::Relaxed);
    file.sock.began.store(sent + received, Ordering::Relaxed);
    file.sock.phase.store(phase::OFFERED, Ordering::Release);
    // A reader that sleeps on T since before must be in the waiters of the new memory when the peer confirms.
    tell_watchers(file);
    Ok(())
}

/// Looks whether the peer confirmed meanwhile.
pub fn notice(file: &OpenFile) {
    if file.prepared().is_some_and(|link| link.is_confirmed()) {
        let Some(_held) = file.sock.handshake.try_lock() else { return };
        if file.sock.phase() == phase::OFFERED {
            established(file);
        }
    }
}

/// Whether the connection runs through shared memory, be it that this end has yet to notice: for calls that take no
/// step of the handshake themselves.
pub fn has_moved(file: &OpenFile) -> bool {
    if file.sock.phase() == phase::OFFERED {
        learn_outcome(file);
    }
    file.sock.phase() == phase::SMC
}

/// As [`notice`], when the answer matters now: waits for a thread that is taking a step. Called without locks.
pub fn learn_outcome(file: &OpenFile) {
    let _held = file.sock.handshake.lock();
    if file.sock.phase() == phase::OFFERED && file.prepared().is_some_and(|link| link.is_confirmed()) {
        established(file);
    }
}

/// The passive side waits for its Accept to be confirmed.
fn look_at_offer(file: &OpenFile) {
    let Some(link) = file.prepared() else { return };
    if link.is_confirmed() {
        return established(file);
    }
    let sock = file.sock;
    let (sent, received) = calls(sock);
    let waited = (sent + received).wrapping_sub(sock.began.load(Ordering::Relaxed));
    let clc_fd = file.clc.load(Ordering::Relaxed);
    let mut bytes = [0; MESSAGE_MAX];
    let declined = match call::recv(clc_fd, &mut bytes, libc::MSG_DONTWAIT) {
        Ok(0) => Some(Decline::NONE),
        Ok(len) => match clc::decode(&bytes[..len]) {
            Ok(Message::Decline(why)) => Some(why),
            _ => Some(Decline::SYNCHRONISATION),
        },
        Err(Errno::EAGAIN) => None,
        Err(_) => Some(Decline::NONE),
    };
    if declined.is_none() && waited <= policy::ACCEPT_PATIENCE {
        return;
    }
    if !link.withdraw() {
        return established(file);
    }
    file.prepare(None);
    process::disown(file.clc.swap(-1, Ordering::Relaxed));
    let why = declined.unwrap_or(Decline::TIMEOUT);
    if why == Decline::SYNCHRONISATION && sock.looks.fetch_add(1, Ordering::Relaxed) + 1 < policy::LOOKS {
        // The peer forgot the group: it gets a new one at the next look.
        Group::forget(link.group.token);
        sock.phase.store(phase::ELIGIBLE, Ordering::Release);
        return;
    }
    sock.listing.peer_decline.store(why.0, Ordering::Relaxed);
    give_up(file, if declined.is_some() { Decline::PEER_DECLINED } else { Decline::TIMEOUT });
}

fn established(file: &OpenFile) {
    let sock = file.sock;
    let Some(link) = file.prepared() else { return };
    link.group.is_met();
    sock.sender.reset();
    sock.receiver.reset();
    let listing = &sock.listing;
    listing.group.store(link.group.address(), Ordering::Relaxed);
    listing.conn.store(link.conn as u32, Ordering::Relaxed);
    listing.side.store(link.side() as u32, Ordering::Relaxed);
    listing.ring[0].store(link.tx_ring().size(), Ordering::Relaxed);
    listing.ring[1].store(link.rx_ring().size(), Ordering::Relaxed);
    listing.token.store(link.group.token, Ordering::Relaxed);
    listing.mode.store(mode::SMCD, Ordering::Relaxed);
    file.confirm();
    sock.phase.store(phase::SMC, Ordering::Release);
    hang_up(file);
    log::debug(format_args!("connection {:#x} runs on SMC-D", listing.cookie.load(Ordering::Relaxed)));
}

fn hang_up(file: &OpenFile) {
    process::disown(file.mailbox.swap(-1, Ordering::Relaxed));
    process::disown(file.clc.swap(-1, Ordering::Relaxed));
}

/// Wakes threads and sets of this process that wait for the connection: it has memory to be watched now.
pub fn tell_watchers(file: &OpenFile) {
    for watcher in file.watchers_now() {
        match watcher {
            Watcher::Thread(bell) => bell.ring(),
            Watcher::Set(set, entry) => set.reconsider(entry),
        }
    }
}

/// Stays TCP for good. Under the handshake's lock.
fn give_up(file: &OpenFile, why: Decline) {
    hang_up(file);
    file.prepare(None);
    file.sock.decline(why);
    log::debug(format_args!("connection stays on TCP: {:08x}", why.0));
}

/// Something happens that shared memory cannot carry: the connection is pinned to TCP. `false` when it has moved
/// already, and the caller's wish cannot be fulfilled.
pub fn pin(file: &OpenFile, why: Decline) -> bool {
    let _held = file.sock.handshake.lock();
    match file.sock.phase() {
        phase::SMC => return false,
        phase::TCP => return true,
        phase::OFFERED if file.prepared().is_some_and(|link| !link.withdraw()) => {
            established(file);
            return false;
        }
        _ => {}
    }
    give_up(file, why);
    true
}

/// Before fork: a handshake that is under way is put off until one process holds the connection again.
pub fn put_off(file: &OpenFile) {
    let _held = file.sock.handshake.lock();
    match file.sock.phase() {
        phase::PROPOSED => {}
        phase::OFFERED => {
            if file.prepared().is_some_and(|link| !link.withdraw()) {
                return established(file);
            }
            file.prepare(None);
        }
        _ => return,
    }
    hang_up(file);
    file.sock.answers.store(0, Ordering::Relaxed);
    file.sock.phase.store(phase::ELIGIBLE, Ordering::Release);
}
