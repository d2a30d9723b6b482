//! What fork(2) means for muxes. Siblings share them; each has its own epoll sets and its own pump.

use super::csock::{self, Sock};
use super::mux::Mux;
use super::{lower, proc, pump, registry};
use crate::fdtable;
use preloop_kcm::Set;
use preloop_sys::Fd;
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

/// The muxes of a process that is about to fork.
#[derive(Debug)]
pub struct Muxes(Vec<Arc<Mux>>);

/// Keeps the pump out of all muxes while the answer lives.
pub fn rest() -> Option<pump::Rest> {
    if registry::any() { pump::rest() } else { None }
}

/// From now on the muxes of this process may have holders elsewhere.
pub fn before_fork() -> Muxes {
    let muxes = registry::all();
    for mux in &muxes {
        mux.header().shared.store(1, Ordering::Release);
        // Without one, siblings have only what is there now.
        let _ = mux.make_vault();
        mux.have_pump();
    }
    Muxes(muxes)
}

impl Muxes {
    /// Runs `during` while no thread of this process is inside a mux, and none comes or goes. For who has the pump [`rest`].
    pub fn hold<R>(&self, during: impl FnOnce() -> R) -> R {
        let frozen: Vec<_> = self.0.iter().map(|mux| mux.local()).collect();
        let result = registry::hold(|| pump::hold(|| proc::hold(|| lower::hold(during))));
        drop(frozen);
        result
    }

    /// In a forked child: makes anew what was the parent's alone.
    pub fn in_child(&self) {
        lower::after_fork();
        self.0.iter().for_each(Mux::after_fork);
        forget_calls();
        self.0.iter().for_each(forget_closing);
    }
}

/// What other threads of the parent were closing is closed here.
fn forget_closing(mux: &Arc<Mux>) {
    let mut open = Set::EMPTY;
    fdtable::for_each_kcm(|_, sock| {
        if Arc::ptr_eq(&sock.mux, mux) {
            open.insert(sock.id);
        }
    });
    let mut local = mux.local();
    for (csock, _) in local.csocks().into_iter().filter(|(csock, _)| !open.contains(*csock)) {
        local.set_own_end(csock, -1);
    }
}

/// Calls that other threads of the parent had under way hold sockets for ever here. So that closing one ends it, descriptors
/// stand for a new one from now on.
fn forget_calls() {
    let mut socks: Vec<(Sock, Vec<Fd>)> = Vec::new();
    fdtable::for_each_kcm(|fd, sock| match socks.iter_mut().find(|(other, _)| other.same(&sock)) {
        Some((_, fds)) => fds.push(fd),
        None => socks.push((sock, vec![fd])),
    });
    for (sock, fds) in socks {
        // Beside the descriptors, this function owns it.
        if sock.owners() as usize <= fds.len() + 1 {
            continue;
        }
        let new = csock::known(&sock.mux, sock.id, sock.kind, sock.ends);
        for fd in fds {
            // The old one does not end: its ends are the new one's.
            core::mem::forget(fdtable::set_kcm(fd, Some(new.clone())));
        }
    }
}
