//! TCP sockets that are attached to a mux.

use super::csock::KcmSock;
use super::entered::Entered;
use super::lower;
use super::members::{self, Passable};
use super::mux::Mux;
use super::stream::Stream;
use super::{parser, registry};
use crate::fdtable::{self, hint};
use crate::log;
use crate::process;
use crate::socket::file::OpenFile;
use crate::socket::sock::flag;
use crate::socket::{birth, clc, epoll};
use libc::{IPPROTO_TCP, SO_DOMAIN, SO_PROTOCOL, SOL_SOCKET};
use preloop_kcm::id::PsockId;
use preloop_kcm::outside::Region;
use preloop_shm::counted::Counted;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, tcp};
use preloop_uapi::decline::Decline;
use preloop_uapi::kcm::{Attach, Unattach};
use preloop_uapi::sync::Ordering;
use std::sync::atomic::Ordering::Release;
use std::sync::{Arc, Mutex};

/// SIOCKCMATTACH. The checks are made in the kernel's order.
///
/// # Errors
/// ENOENT when `tcp` is no socket; EBADF, EINVAL for the program; EOPNOTSUPP for any socket but TCP's, connected or
/// connecting; EALREADY; ENFILE when the mux has as many as it may; ENOMEM.
pub fn attach(sock: &KcmSock, request: Attach) -> Result<usize, Errno> {
    let (inode, kind) = call::inode(request.fd);
    if kind != libc::S_IFSOCK {
        return Err(Errno::ENOENT);
    }
    let loaded = parser::find(request.bpf_fd)?;
    let state = attachable(request.fd)?;
    let cookie = call::cookie(request.fd)?;
    if is_attached(&registry::all(), cookie) {
        return Err(Errno::EALREADY);
    }
    let file = known(request.fd)?;
    let fd = Inner::from_raw(call::duplicate_high(request.fd)?);
    // Let go of outside of the mux.
    let others;
    let mut entered = sock.mux.enter()?;
    // Taken by who is in a mux, and so free in a forked child.
    let one_at_a_time = ATTACHING.lock().unwrap_or_else(|e| e.into_inner());
    others = registry::all();
    if is_attached(&others, cookie) {
        return Err(Errno::EALREADY);
    }
    // The core sends at once what waits for a TCP socket: it has to find this one.
    let psock = entered.state().next_psock().ok_or(Errno::ENFILE)?;
    let entry = sock.mux.psock(psock);
    let generation = entry.generation.fetch_add(1, Ordering::AcqRel) + 1;
    entry.inode.store(inode, Ordering::Relaxed);
    entry.cookie.store(cookie, Ordering::Release);
    drop(one_at_a_time);
    // What stands before is no change, but that a connect(2) comes through is one.
    let seen = || lower::seen(Stream::new(fd.fd(), Some(&file)), 0);
    let seen = if state == tcp::state::SYN_SENT { state.into() } else { seen() };
    entry.seen.store(seen, Ordering::Relaxed);
    let fd = process::adopt(fd);
    let moved = file.link().is_some().then_some(&file);
    let kept = moved.map_or(Ok(()), |file| {
        file.sock.raise(flag::STAYS);
        birth::kept(file, fd)
    });
    let passable = Passable { tcp: fd, moved, parser: &loaded.1 };
    let usable = kept.and_then(|()| members::put_psock(&sock.mux, psock, generation, passable));
    entry.posts.store(file.sock.posts.load(Ordering::Acquire), Ordering::Release);
    file.mux.store(sock.mux.number(), Release);
    entered.news.changed(file.clone());
    entered.local.add_psock(psock, (fd, generation), Some(file), loaded);
    let attached = usable
        .and_then(|()| entered.watch_psock(psock, fd))
        .and_then(|()| entered.with(|state, outside| state.attach(cookie, outside)).map_err(Errno::new));
    if let Err(error) = attached {
        entry.cookie.store(0, Ordering::Release);
        members::take_out(&entered, &sock.mux, psock, generation);
        entered.forget(psock);
        return Err(error);
    }
    sock.mux.members_changed();
    log::debug_kcm(format_args!("mux {}: TCP socket {} attached as psock-{}", sock.mux.number(), request.fd, psock.0));
    Ok(0)
}

/// A TCP socket as the library is to know it, in epoll sets too.
fn known(fd: Fd) -> Result<Counted<OpenFile>, Errno> {
    let file = birth::attached(fd).ok_or(Errno::ENOMEM)?;
    let is_alone = file.descriptors.load(Ordering::Relaxed) == 1;
    let fds = if is_alone { vec![fd] } else { fdtable::fds_of(&file) };
    if fds.iter().any(|fd| fdtable::has_hint(*fd, hint::IN_SET)) {
        epoll::take_over(&file, &fds);
    }
    Ok(file)
}

/// Held from the look whether a TCP socket is attached until it is.
static ATTACHING: Mutex<()> = Mutex::new(());

fn is_attached(muxes: &[Arc<Mux>], cookie: u64) -> bool {
    muxes.iter().any(|mux| find(mux, cookie).is_some())
}

/// The state of a TCP socket that may be attached.
fn attachable(fd: Fd) -> Result<u8, Errno> {
    let option = |name| call::int_option(fd, SOL_SOCKET, name);
    let is_inet = matches!(option(SO_DOMAIN), Ok(libc::AF_INET | libc::AF_INET6));
    if !is_inet || option(SO_PROTOCOL) != Ok(IPPROTO_TCP) || fdtable::kcm(fd).is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    let state = tcp::state_of(fd).map_err(|_| Errno::EOPNOTSUPP)?;
    if matches!(state, tcp::state::LISTEN | tcp::state::CLOSE) {
        return Err(Errno::EOPNOTSUPP);
    }
    // One that has not moved stays where it is.
    let is_unusable = |file: &OpenFile| !clc::pin(file, Decline::OPTION) && file.link().is_none();
    if fdtable::get(fd).is_some_and(|file| is_unusable(&file)) {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(state)
}

/// The psock of a TCP socket.
fn find(mux: &Mux, cookie: u64) -> Option<PsockId> {
    let psocks = mux.header().psocks.iter().zip(0..=u8::MAX);
    let mut found = psocks.filter(|(entry, _)| entry.cookie.load(Ordering::Acquire) == cookie);
    found.next().map(|(_, n)| PsockId(n))
}

/// Takes the error off that is posted on a TCP socket which this process knows by its mux alone: none if there is none.
pub fn take_error(fd: Fd) -> Option<Errno> {
    let cookie = call::cookie(fd).ok()?;
    let (mux, psock) = registry::all().into_iter().find_map(|mux| find(&mux, cookie).map(|psock| (mux, psock)))?;
    let error = mux.enter().ok()?.state().take_error(psock);
    (error != 0).then(|| Errno::new(error))
}

/// SIOCKCMUNATTACH.
///
/// # Errors
/// ENOENT when it is not attached to this mux.
pub fn unattach(sock: &KcmSock, request: Unattach) -> Result<usize, Errno> {
    let cookie = call::cookie(request.fd).map_err(|_| Errno::ENOENT)?;
    let mut entered = sock.mux.enter()?;
    let psock = find(&sock.mux, cookie).ok_or(Errno::ENOENT)?;
    take_away(&mut entered, psock)
}

/// Takes a psock out of its mux. The TCP socket is as it would be without KCM.
///
/// # Errors
/// ENOENT when it is not attached.
pub fn take_away(entered: &mut Entered<'_>, psock: PsockId) -> Result<usize, Errno> {
    let detached = entered.with(|state, outside| {
        let detached = state.unattach(psock, outside);
        outside.memory.release(Region::Psock(psock));
        detached
    });
    let error = detached.map_err(Errno::new)?.posted;
    if error != 0 {
        entered.post(psock, error);
    }
    let mux = entered.mux();
    let entry = mux.psock(psock);
    entry.cookie.store(0, Ordering::Release);
    let generation = entry.generation.fetch_add(1, Ordering::AcqRel);
    members::take_out(entered, &mux, psock, generation);
    entered.forget(psock);
    mux.members_changed();
    log::debug_kcm(format_args!("mux {}: psock-{} unattached", mux.number(), psock.0));
    Ok(0)
}
