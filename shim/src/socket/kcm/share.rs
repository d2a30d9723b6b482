//! A mux in several processes: siblings of a fork, the next program after an exec, and whoever is passed a KCM socket.
//!
//! What siblings add after the fork, they tell each other by the mux's [`Vault`] ([`super::members`]).
//!
//! A KCM socket is recognised by the name that its far end is bound to before it may be passed. Who receives one asks at the
//! mux's *desk*, a listening Unix socket of its own name, which the pumps of all processes that have the mux serve: a
//! process of the same user is given the mux's memory and its vault. A program that starts finds both among its descriptors.
//! Nothing of that travels with the socket: whoever is passed it may be another user. So when all processes that have the mux
//! are gone before somebody asks, the mux is gone too; the socket's own name still tells that it was one.

use super::csock::{self, KcmSock, Sock};
use super::entered::Entered;
use super::local::Ends;
use super::members::{put_csock, put_psock};
use super::mux::Mux;
use super::stream::Stream;
use super::vault::{Member, Vault};
use super::{pump, registry};
use crate::fdtable;
use crate::log;
use crate::process;
use crate::socket::birth;
use crate::socket::handover::next::Next;
use preloop_kcm::Kind;
use preloop_kcm::id::CsockId;
use preloop_shm::mux::MuxMemory;
use preloop_sys::unix::{self, Inner};
use preloop_sys::{Errno, Fd, call, sleep};
use preloop_uapi::mux::MUX_NAME;
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

/// How long a newcomer waits at the desk, in nanoseconds: the pump behind it may be busy, or stopped.
const PATIENCE: u64 = 2_000_000_000;
/// Newcomers that may wait at a desk.
const BACKLOG: i32 = 64;

/// The name of a mux's desk.
pub fn desk_name(id: u64) -> Vec<u8> {
    format!("preloop-kcm-desk.{id:016x}").into_bytes()
}

/// What the far end of a socket is bound to, with [`FAR`] before it, and its own end with [`OWN`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Name {
    mux: u64,
    csock: CsockId,
    generation: u32,
    kind: Kind,
}

const FAR: &str = "preloop-kcm-sock.";
const OWN: &str = "preloop-kcm-end.";

impl Name {
    fn to_bytes(self, prefix: &str) -> Vec<u8> {
        let kind = if self.kind == Kind::Dgram { 'd' } else { 's' };
        format!("{prefix}{:016x}.{}.{}.{kind}", self.mux, self.csock.0, self.generation).into_bytes()
    }

    fn parse(name: &[u8]) -> Option<Self> {
        let mut parts = core::str::from_utf8(name).ok()?.strip_prefix(FAR)?.split('.');
        let mux = u64::from_str_radix(parts.next()?, 16).ok()?;
        let csock = CsockId(parts.next()?.parse().ok()?);
        let generation = parts.next()?.parse().ok()?;
        let kind = if parts.next()? == "d" { Kind::Dgram } else { Kind::SeqPacket };
        Some(Self { mux, csock, generation, kind })
    }
}

/// Whether the mux of a KCM socket has connections that have moved to shared memory: of use only where the library is.
pub fn has_moved(sock: &KcmSock) -> bool {
    sock.mux.enter().is_ok_and(|entered| {
        let mut psocks = entered.local.psocks().into_iter();
        psocks.any(|(psock, _)| entered.local.stream(psock).and_then(Stream::moved).is_some())
    })
}

/// Before a KCM socket goes to somebody who may not have its mux: whoever gets it finds everything.
///
/// # Errors
/// EMFILE and its like; ETOOMANYREFS; EOPNOTSUPP when a connection has moved whose memory this process cannot hand over.
pub fn prepare(sock: &KcmSock) -> Result<(), Errno> {
    let mut entered = sock.mux.enter()?;
    prepare_mux(&mut entered)?;
    give_name(sock)
}

/// Puts everything that is missing into a mux's vault, and opens its desk.
fn prepare_mux(entered: &mut Entered<'_>) -> Result<(), Errno> {
    let mux = entered.mux();
    mux.header().shared.store(1, Ordering::Release);
    mux.header().passed.store(1, Ordering::Release);
    let vault = mux.make_vault()?;
    let there = vault.members();
    if !there.contains(&Member::Kick) {
        vault.put(Member::Kick, &[mux.kick_fd()])?;
    }
    for (csock, generation) in entered.local.csocks() {
        if let Some(far) = entered.local.far_end(csock).filter(|_| !there.contains(&Member::Csock(csock, generation))) {
            put_csock(&mux, csock, far, generation)?;
        }
    }
    for (psock, generation) in entered.local.psocks() {
        if let Some(passable) = entered.local.passable(psock)
            && !there.contains(&Member::Psock(psock, generation))
        {
            put_psock(&mux, psock, generation, passable)?;
        }
    }
    if entered.local.desk().is_none() {
        match unix::mailbox(&desk_name(mux.id()), BACKLOG) {
            Ok(desk) => {
                vault.put(Member::Desk, &[desk.fd()])?;
                entered.open_desk(desk)?;
                mux.members_changed();
            }
            // A sibling's, which this process had no descriptor left for.
            Err(Errno::EADDRINUSE) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Has whoever gets a KCM socket recognise it.
fn give_name(sock: &KcmSock) -> Result<(), Errno> {
    let mux = &sock.mux;
    let generation = mux.csock(sock.id).generation.load(Ordering::Acquire);
    let name = Name { mux: mux.id(), csock: sock.id, generation, kind: sock.kind };
    for (end, prefix) in [(sock.ends.own, OWN), (sock.ends.far, FAR)] {
        match unix::bind_to(end, &name.to_bytes(prefix)) {
            // It has its name already.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Somebody is at the desk: everybody of this user gets the mux.
pub fn serve_desk(entered: &mut Entered<'_>) {
    let mux = entered.mux();
    let Some(vault) = mux.vault() else { return };
    // No more than those who stand there: others may keep coming.
    for _ in 0..BACKLOG {
        let Some(Ok(newcomer)) = entered.local.desk().map(unix::accept) else { break };
        let is_ours = unix::peer(&newcomer).is_ok_and(|peer| peer.uid == preloop_sys::process::euid());
        if is_ours {
            let [put, look] = vault.ends();
            let _ = unix::send(&newcomer, &[1], &[mux.memfd(), put, look]);
        }
    }
}

/// The mux of that name, from the desk of a process that has it.
fn join(id: u64) -> Option<Arc<Mux>> {
    let desk = unix::connect(&desk_name(id)).ok()?;
    if unix::peer(&desk).ok()?.uid != preloop_sys::process::euid() {
        return None;
    }
    let deadline = preloop_sys::clock::now() + PATIENCE;
    sleep::quietly(desk.fd(), libc::POLLIN, deadline);
    let (_, [Some(memfd), Some(put), Some(look), ..]) = unix::receive(&desk, &mut [0], 0).ok()? else { return None };
    let memory = MuxMemory::open(memfd.fd()).ok()?;
    let vault = Vault::of(put.move_high(), look.move_high());
    Mux::open(memory, memfd.move_high(), vault).ok()
}

/// A descriptor has come from somewhere else, by SCM_RIGHTS or exec. If it is a KCM socket, the library serves it from now
/// on. One whose mux is gone fails all calls with ENOTCONN: the pair's end would read as the end of a stream.
pub fn came(fd: Fd) {
    if serve(fd).is_none() && was_kcm(fd) {
        log::debug_kcm(format_args!("descriptor {fd}: whoever passed this KCM socket is gone, and its mux too"));
        let _ = unix::disconnect(fd);
    }
}

fn serve(fd: Fd) -> Option<()> {
    let name = Name::parse(&unix::name(fd, true)?)?;
    let mux = registry::named(name.mux).or_else(|| join(name.mux))?;
    let sock = sock_of(&mux, name, fd)?;
    mux.have_pump();
    // It is held by a descriptor again.
    drop(registry::leave(&mux));
    birth::given_out(fd);
    fdtable::set_kcm(fd, Some(sock));
    Some(())
}

/// Whether a descriptor is the program's end of a socket that nobody has the far end of.
fn was_kcm(fd: Fd) -> bool {
    unix::name(fd, false).is_some_and(|name| name.starts_with(OWN.as_bytes())) && csock::has_hung_up(fd)
}

fn sock_of(mux: &Arc<Mux>, name: Name, fd: Fd) -> Option<Sock> {
    let mut entered = mux.enter().ok()?;
    if mux.csock(name.csock).generation.load(Ordering::Acquire) != name.generation {
        return None;
    }
    let far = entered.local.far_end(name.csock)?;
    // Any user may give a name to a socket. Both ends of a pair are of who made it.
    if unix::owner(fd).ok()? != unix::owner(far).ok()? {
        return None;
    }
    let known = fdtable::find_kcm(|sock| sock.id == name.csock && Arc::ptr_eq(&sock.mux, mux));
    known.or_else(|| {
        let own = process::adopt(Inner::from_raw(call::duplicate_high(fd).ok()?));
        let ends = Ends { own, far };
        entered.local.set_own_end(name.csock, own);
        Some(csock::known(mux, name.csock, name.kind, ends))
    })
}

/// Before another program runs, in a child or in place of this one, that has the KCM sockets which are not close-on-exec: they
/// can be joined there. `next` answers which one; asked only if there is a connection that has moved to shared memory, of
/// which the library alone makes something. Without it such a mux stays here.
pub fn hand_over(next: impl Fn() -> Next) -> Vec<Arc<Mux>> {
    let mut muxes: Vec<Arc<Mux>> = Vec::new();
    // The memory of a child that is not counted, and what is locked in it, may be its parent's, whom nobody would wake.
    if process::is_uncounted() || !registry::any() {
        return muxes;
    }
    let mut socks: Vec<Sock> = Vec::new();
    fdtable::for_each_kcm(|fd, sock| {
        if !call::closes_on_exec(fd) {
            socks.push(sock);
        }
    });
    for sock in socks {
        let is_prepared = muxes.iter().any(|mux| Arc::ptr_eq(mux, &sock.mux));
        if is_prepared || is_ready_for(&sock, &next) {
            let is_named = give_name(&sock).is_ok();
            if is_named && !is_prepared {
                muxes.push(Arc::clone(&sock.mux));
            }
        }
    }
    muxes
}

/// Makes the mux of a socket ready for a program.
fn is_ready_for(sock: &KcmSock, next: impl Fn() -> Next) -> bool {
    if has_moved(sock) && !next().serves_kcm() {
        return false;
    }
    let prepared = sock.mux.enter().and_then(|mut entered| prepare_mux(&mut entered));
    if let Err(error) = prepared {
        log::debug_kcm(format_args!("mux {}: cannot be handed over: {error}", sock.mux.number()));
    }
    prepared.is_ok()
}

/// Muxes whose memory and vault stay open for the next program, and the pump's rest.
#[derive(Debug)]
pub struct Staying {
    muxes: Vec<Arc<Mux>>,
    _pump: Option<pump::Rest>,
}

impl Staying {
    fn set_close_on_exec(&self, closes: bool) {
        for mux in &self.muxes {
            let ends = mux.vault().map(Vault::ends).into_iter().flatten();
            ends.chain([mux.memfd()]).for_each(|fd| call::set_close_on_exec(fd, closes));
        }
    }

    /// There is no next program.
    pub fn exec_failed(self) {
        self.set_close_on_exec(true);
    }
}

/// Before another program takes this process over, with these muxes.
pub fn before_exec(muxes: Vec<Arc<Mux>>) -> Staying {
    let rests = registry::any() && !process::is_uncounted();
    let staying = Staying { muxes, _pump: if rests { pump::rest() } else { None } };
    staying.set_close_on_exec(false);
    staying
}

/// The process ends: its pump is not to be killed inside a mux that others may have.
pub fn process_ends() {
    if registry::any() {
        core::mem::forget(pump::rest());
    }
}

/// A program starts: what the one before left open is taken over.
pub fn at_start() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<Fd> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let link = |fd: &Fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let memfd = format!("/memfd:{MUX_NAME} (deleted)");
    // Until its sockets hold it.
    let mut muxes = Vec::new();
    for fd in open.iter().filter(|fd| link(fd).as_os_str() == memfd.as_str()) {
        let Ok(memory) = MuxMemory::open(*fd) else { continue };
        let id = memory.header().id.load(Ordering::Relaxed);
        let end =
            |which| open.iter().find(|fd| Vault::end_of(id, **fd) == Some(which)).map(|fd| process::take_back(*fd));
        if let (Some(put), Some(look)) = (end('p'), end('l')) {
            [*fd, put.fd(), look.fd()].into_iter().for_each(|fd| call::set_close_on_exec(fd, true));
            muxes.extend(Mux::open(memory, Inner::from_raw(*fd), Vault::of(put, look)));
        }
    }
    open.into_iter().filter(|fd| !fdtable::is_inner(*fd)).for_each(came);
}
