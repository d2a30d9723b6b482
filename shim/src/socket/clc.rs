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
use crate::socket::group::{Group, Peer};
use crate::socket::link::Link;
use crate::socket::sock::{Sock, phase};
use crate::socket::users;
use crate::{stats, streams};
use preloop_shm::lock::Held;
use preloop_smc::clc::{self, MESSAGE_MAX, Message, NAME_MAX};
use preloop_sys::unix::{self, Inner};
use preloop_sys::{Errno, Fd, addr, call, clock, tcp};
use preloop_uapi::decline::Decline;
use preloop_uapi::listing::mode;
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

/// Strangers that the active side dismisses from its mailbox in one call.
const STRANGERS: usize = 3;
/// Places in a mailbox's queue: one is for the peer.
const BACKLOG: i32 = 4;

/// One step, before a call sends or receives on a connection that has not moved.
pub fn step(file: &OpenFile, fd: Fd, sends: bool) {
    let sock = file.sock;
    let alone = || sock.holders.load(Ordering::Acquire) == 1;
    if !alone() {
        let (sent, received) = calls(sock);
        if (sent + received).is_power_of_two() {
            users::count_out_the_dead(sock);
        }
        return;
    }
    if streams::may_use(file) {
        return;
    }
    // Another thread is at it: this call need not wait.
    let Some(held) = sock.handshake.try_lock() else { return };
    under_lock(file, held, |owner_died| {
        if owner_died {
            return if withdraw(file) { give_up(file, Decline::INTERNAL) } else { established(file) };
        }
        // A fork that began meanwhile has counted its child before it put the handshake off.
        if !alone() {
            return;
        }
        // Who accepted it may have left it to a child.
        sock.listing.pid.store(process::pid(), Ordering::Relaxed);
        sock.listing.fd.store(fd, Ordering::Relaxed);
        match (sock.phase(), file.is_active()) {
            (phase::ELIGIBLE | phase::PROPOSED, _) if process::is_confined() => give_up(file, Decline::CONFIGURATION),
            (phase::ELIGIBLE, true) => propose(file, fd, sends),
            (phase::PROPOSED, _) => look_into_mailbox(file, fd),
            (phase::ELIGIBLE, false) => look_for_proposal(file, fd, sends),
            (phase::OFFERED, _) => look_at_offer(file),
            _ => {}
        }
    });
}

/// Does something to the handshake, and afterwards, without the lock, what follows for those who wait. Whoever sleeps on T
/// alone must be in the waiters of the memory before it is used. And memory whose offer was withdrawn goes once nobody of
/// this process is among its waiters, for its block is used again.
fn under_lock<R>(file: &OpenFile, held: Held<'_>, act: impl FnOnce(bool) -> R) -> R {
    let before = file.prepared();
    let result = act(held.owner_died);
    drop(held);
    let after = file.prepared();
    let same = before.as_ref().map(Arc::as_ptr) == after.as_ref().map(Arc::as_ptr);
    if !same {
        tell_watchers(file);
    }
    if let Some(withdrawn) = before.filter(|_| !same) {
        withdrawn.leave(true);
    }
    result
}

fn calls(sock: &Sock) -> (u32, u32) {
    (sock.sends.load(Ordering::Relaxed), sock.receives.load(Ordering::Relaxed))
}

/// Nanoseconds that the peer has had so far.
fn age(sock: &Sock) -> u64 {
    clock::now().saturating_sub(sock.began_at.load(Ordering::Relaxed))
}

fn addresses(fd: Fd) -> Option<(core::net::SocketAddr, core::net::SocketAddr)> {
    Some((addr::local(fd)?, addr::peer(fd)?))
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
            file.sock.began_at.store(clock::now(), Ordering::Relaxed);
            file.sock.phase.store(phase::PROPOSED, Ordering::Release);
            stats::proposed(file.sock);
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
    if !link.take_offer() {
        // Withdrawn: by a fork or an exec, after which it may come again.
        return Err(Answer::Stranger);
    }
    file.prepare(Some(link));
    Ok(())
}

fn look_for_proposal(file: &OpenFile, fd: Fd, sends: bool) {
    let sock = file.sock;
    let (sent, received) = calls(sock);
    let looks = sock.looks.load(Ordering::Relaxed);
    if !policy::should_look(sends, sent, received, looks, || age(sock) >= policy::PATIENCE) {
        return;
    }
    match offer(file, fd) {
        Ok(()) => {}
        // Nobody listens under that name: not yet, or never.
        Err(None) => {
            let looks = sock.looks.fetch_add(1, Ordering::Relaxed) + 1;
            if policy::looked_enough(looks, sent, received, age(sock)) {
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
    if unix::send(&socket, &message[..len], memory.as_slice()).is_err() {
        link.withdraw();
        link.leave(true);
        return Err(Some(Decline::SYNCHRONISATION));
    }
    file.prepare(Some(link));
    let (sent, received) = calls(file.sock);
    file.clc.store(process::adopt(socket), Ordering::Relaxed);
    file.sock.listing.cookie.store(cookie, Ordering::Relaxed);
    file.sock.began.store(sent + received, Ordering::Relaxed);
    file.sock.phase.store(phase::OFFERED, Ordering::Release);
    stats::offered(file.sock);
    Ok(())
}

/// Looks whether the peer confirmed meanwhile. (Nobody need be told: who waits has been in the waiters of the memory since
/// the offer.) Sets are locked when it is called, so nothing under this lock may lock a set.
pub fn notice(file: &OpenFile) {
    let is_confirmed =
        || file.sock.phase() == phase::OFFERED && file.prepared().is_some_and(|link| link.is_confirmed());
    if is_confirmed() {
        let _held = file.sock.handshake.lock();
        if is_confirmed() {
            established(file);
        }
    }
}

/// Whether the connection runs through shared memory, be it that this end has yet to notice: for calls that take no
/// step of the handshake themselves.
pub fn has_moved(file: &OpenFile) -> bool {
    notice(file);
    file.sock.phase() == phase::SMC
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
        link.group.retire();
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
    stats::agreed(sock);
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
    file.sock.decline(why);
    log::debug(format_args!("connection stays on TCP: {:08x}", why.0));
}

/// Something happens that shared memory cannot carry: the connection is pinned to TCP. `false` when it has moved
/// already, and the caller's wish cannot be fulfilled.
pub fn pin(file: &OpenFile, why: Decline) -> bool {
    under_lock(file, file.sock.handshake.lock(), |_| match file.sock.phase() {
        phase::SMC => false,
        phase::TCP => true,
        phase::OFFERED if !withdraw(file) => {
            established(file);
            false
        }
        _ => {
            give_up(file, why);
            true
        }
    })
}

/// Takes an offer back; `false` when the peer has confirmed it.
fn withdraw(file: &OpenFile) -> bool {
    let Some(link) = file.prepared() else { return true };
    let withdrawn = link.withdraw();
    if withdrawn {
        file.prepare(None);
    }
    withdrawn
}

/// Before fork: a handshake that is under way is put off until one process holds the connection again.
pub fn put_off(file: &OpenFile) {
    if matches!(file.sock.phase(), phase::SMC | phase::TCP) {
        return;
    }
    under_lock(file, file.sock.handshake.lock(), |_| {
        match file.sock.phase() {
            phase::PROPOSED => {}
            phase::OFFERED if withdraw(file) => {}
            phase::OFFERED => return established(file),
            _ => return,
        }
        hang_up(file);
        file.sock.answers.store(0, Ordering::Relaxed);
        file.sock.phase.store(phase::ELIGIBLE, Ordering::Release);
    });
}
