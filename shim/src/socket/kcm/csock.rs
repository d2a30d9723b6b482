//! KCM sockets: made, cloned, closed.

use super::entered::Entered;
use super::local::Ends;
use super::mux::Mux;
use super::vault::Member;
use super::{members, registry, senders};
use crate::fdtable;
use crate::process;
use crate::socket::birth;
use libc::{O_NONBLOCK, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_SEQPACKET};
use preloop_kcm::Kind;
use preloop_kcm::id::CsockId;
use preloop_kcm::members::Options;
use preloop_kcm::outside::Region;
use preloop_shm::counted::Counted;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, event};
use preloop_uapi::kcm::KCMPROTO_CONNECTED;
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

/// The highest socket type that the kernel knows, and one (`SOCK_MAX`).
const SOCK_MAX: i32 = 11;

/// A KCM socket as this process has it: what its descriptors stand for.
#[derive(Debug)]
pub struct KcmSock {
    /// Its mux.
    pub mux: Arc<Mux>,
    /// Which of the mux's sockets.
    pub id: CsockId,
    /// Its type.
    pub kind: Kind,
    /// Its ends.
    pub ends: Ends,
}

/// The type and the flags of a `socket(2)` call, checked in the kernel's order.
///
/// # Errors
/// EINVAL, ESOCKTNOSUPPORT, EPROTONOSUPPORT.
fn check(kind: i32, protocol: i32) -> Result<(Kind, i32), Errno> {
    let (kind, flags) = (kind & 0xf, kind & !0xf);
    if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 || kind >= SOCK_MAX {
        return Err(Errno::EINVAL);
    }
    let kind = match kind {
        SOCK_DGRAM => Kind::Dgram,
        SOCK_SEQPACKET => Kind::SeqPacket,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    if protocol == KCMPROTO_CONNECTED { Ok((kind, flags)) } else { Err(Errno::EPROTONOSUPPORT) }
}

/// `socket(AF_KCM, ...)`: a mux with its first socket. Answers the descriptor.
///
/// # Errors
/// Those of socket(2).
pub fn make(kind: i32, protocol: i32) -> Result<Fd, Errno> {
    let (kind, flags) = check(kind, protocol)?;
    add(&Mux::make()?, kind, flags)
}

/// `socketpair(AF_KCM, ...)`: what it fails with.
pub fn pair_error(kind: i32, protocol: i32) -> Errno {
    check(kind, protocol).err().unwrap_or(Errno::EOPNOTSUPP)
}

/// SIOCKCMCLONE: another socket of the mux. Answers the descriptor.
///
/// # Errors
/// EMFILE and its like, ENFILE when the mux has as many as it may.
pub fn clone(sock: &KcmSock) -> Result<Fd, Errno> {
    add(&sock.mux, sock.kind, 0)
}

fn add(mux: &Arc<Mux>, kind: Kind, flags: i32) -> Result<Fd, Errno> {
    let [fd, far] = call::unix_pair(SOCK_SEQPACKET)?;
    let (fd, far) = (Inner::from_raw(fd), Inner::from_raw(far).move_high());
    let own = Inner::from_raw(call::duplicate_high(fd.fd())?);
    call::set_close_on_exec(fd.fd(), flags & SOCK_CLOEXEC != 0);
    if flags & SOCK_NONBLOCK != 0 {
        call::set_status_flags(fd.fd(), O_NONBLOCK)?;
    }
    let size = |name| call::int_option(fd.fd(), libc::SOL_SOCKET, name).map(|bytes| bytes.max(0) as u32);
    let options = Options { kind, receive_buffer: size(libc::SO_RCVBUF)?, send_buffer: size(libc::SO_SNDBUF)? };
    let mut entered = mux.enter()?;
    let id = entered.state().next_csock().ok_or(Errno::ENFILE)?;
    let ends = Ends { own: process::adopt(own), far: process::adopt(far) };
    let entry = mux.csock(id);
    let generation = entry.generation.fetch_add(1, Ordering::AcqRel) + 1;
    for count in [&entry.tokens, &entry.edges] {
        count.store(0, Ordering::Relaxed);
    }
    senders::begin(mux, id);
    entered.local.add_ends(id, ends, generation);
    // Before it is there: if this process is killed now, its siblings find the far end, which hangs up.
    let ready = entered
        .watch_far_end(id, ends.far)
        .and_then(|()| members::put_csock(mux, id, ends.far, generation))
        .and_then(|()| entered.with(|state, outside| state.open(options, outside.memory)).map_err(Errno::new));
    if let Err(error) = ready {
        entered.local.forget_ends(id);
        return Err(error);
    }
    mux.members_changed();
    drop(entered);
    birth::given_out(fd.fd());
    fdtable::set_kcm(fd.fd(), Some(known(mux, id, kind, ends)));
    Ok(fd.into_raw())
}

/// A socket that this process is to serve.
pub fn known(mux: &Arc<Mux>, id: CsockId, kind: Kind, ends: Ends) -> Sock {
    fdtable::KCM_SOCKS.put(KcmSock { mux: Arc::clone(mux), id, kind, ends })
}

/// Takes a csock out of its mux, and with the last one all psocks.
fn close(entered: &mut Entered<'_>, csock: CsockId) {
    let mux = entered.mux();
    // First: if this process is killed later, its siblings still know a far end that has hung up.
    let last = entered.with(|state, outside| {
        let last = state.close(csock, outside);
        outside.memory.release(Region::Received(csock));
        outside.memory.release(Region::ToSend(csock));
        last
    });
    let generation = mux.csock(csock).generation.fetch_add(1, Ordering::AcqRel);
    entered.local.forget_ends(csock);
    if let Some(vault) = mux.vault() {
        vault.remove(Member::Csock(csock, generation));
    }
    if last == Ok(true) {
        for psock in entered.state().psocks().iter() {
            let _ = super::psock::take_away(entered, psock);
        }
    }
    mux.members_changed();
    if last == Ok(true) {
        drop(registry::leave(&mux));
    }
}

/// A csock's far end hung up: no process has the csock any more. One of them was killed, or closed it in passing.
pub fn hung_up(entered: &mut Entered<'_>, csock: CsockId) {
    if entered.local.far_end(csock).is_some_and(has_hung_up) {
        close(entered, csock);
    }
}

/// This process has no descriptor of a csock any more.
pub fn let_go(entered: &mut Entered<'_>, csock: CsockId) {
    entered.local.set_own_end(csock, -1);
    let mux = entered.mux();
    if entered.local.far_end(csock).is_some_and(has_hung_up) {
        close(entered, csock);
    } else if mux.header().passed.load(Ordering::Acquire) != 0 {
        registry::linger(&mux);
    }
}

/// Whether nobody has the other end of a pair any more.
pub fn has_hung_up(end: Fd) -> bool {
    event::poll_now(end, 0) & libc::POLLHUP != 0
}

impl KcmSock {
    /// An epoll set wants edges of it.
    pub fn wants_edges(&self) {
        self.mux.csock(self.id).edges.store(1, Ordering::Relaxed);
    }

    /// Whether the program wants its calls not to wait.
    pub fn is_nonblocking(&self) -> bool {
        call::status_flags(self.ends.own).is_ok_and(|flags| flags & O_NONBLOCK != 0)
    }
}

impl Drop for KcmSock {
    /// The program has closed its last descriptor, and no call is under way.
    fn drop(&mut self) {
        if process::is_uncounted() {
            return;
        }
        match self.mux.enter() {
            Ok(mut entered) => let_go(&mut entered, self.id),
            Err(_) => self.mux.leave_later(self.id),
        }
    }
}

/// A KCM socket, counted.
pub type Sock = Counted<KcmSock>;
