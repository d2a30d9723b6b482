//! The passive side of the handshake: it looks for a proposal, offers shared memory, and waits for that to be taken.

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
use preloop_sys::unix;
use preloop_sys::{Errno, Fd, call, tcp};
use preloop_uapi::decline::Decline;
use preloop_uapi::sync::{Ordering, fence};

pub(super) fn look_for_proposal(file: &OpenFile, fd: Fd, sends: bool) {
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
    let end = process::find_end(peer, local).filter(|end| end.state == tcp::state::ESTABLISHED);
    let Some(end) = end else {
        return Err(process::kernel_is_silent(local, peer).then_some(Decline::CONFIGURATION));
    };
    let mut name = [0; NAME_MAX];
    let len = clc::mailbox_name(peer, local, end.cookie, &mut name);
    let socket = match unix::connect(&name[..len]) {
        Ok(socket) => socket,
        Err(Errno::ECONNREFUSED) => return Err(None),
        // Its backlog is full of strangers; or descriptors are exhausted here.
        Err(Errno::EAGAIN | Errno::EPERM | Errno::EACCES) => return Err(Some(Decline::SYNCHRONISATION)),
        Err(_) => return Err(Some(Decline::MEMORY)),
    };
    if unseen::waits(fd) {
        return Err(Some(Decline::OPTION));
    }
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
    if let Err(error) = unix::send(&socket, &message[..len], memory.as_slice()) {
        link.withdraw();
        link.leave(true);
        let has_hung_up = matches!(error, Errno::EPIPE | Errno::ECONNRESET);
        return Err(Some(if has_hung_up { Decline::PEER_NO_SMC } else { Decline::SYNCHRONISATION }));
    }
    file.prepare(Some(link));
    let (sent, received) = calls(file.sock);
    file.clc.store(process::adopt(socket), Ordering::Relaxed);
    file.sock.listing.cookie.store(cookie, Ordering::Relaxed);
    file.sock.began.store(sent + received, Ordering::Relaxed);
    file.sock.phase.store(phase::OFFERED, Ordering::Release);
    stats::offered(file.sock);
    fence(Ordering::SeqCst);
    // A signal handler may have had the connection stay on TCP before there was an offer to stop.
    if file.sock.has(flag::UNCOUNTED) {
        file.stop_offer();
    }
    Ok(())
}

/// The passive side waits for its Accept to be confirmed.
pub(super) fn look_at_offer(file: &OpenFile) {
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

/// Takes an offer back; `false` when the peer has confirmed it.
pub(super) fn withdraw(file: &OpenFile) -> bool {
    let Some(link) = file.prepared() else { return true };
    let withdrawn = link.withdraw();
    if withdrawn {
        file.prepare(None);
    }
    withdrawn
}
