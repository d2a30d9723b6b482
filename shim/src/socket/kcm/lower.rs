//! The TCP socket itself, the mux's lower socket: what calls on the program's own descriptors of it see of KCM.
//!
//! While it is attached the kernel wakes nobody who polls it for bytes or room: they are KCM's. It wakes when KCM posts an
//! error, and whoever looks sees what is there. Here the kernel's socket wakes for both, so epoll sets and sleeping polls ask
//! it for nothing ([`view`]), and are told of posted errors as of a connection that moves ([`News`]).
//!
//! Before it is attached this process may not know the socket, and threads sleep in the kernel's poll(2) on it. Once there is a
//! mux such a sleep has a bell ([`may_be_attached`], [`watch_attaching`]), and they look anew when a socket is attached.
//!
//! An error stays posted until a call on the socket tells it, after it was unattached too: so it is kept beside the socket,
//! where forked siblings have it as well.
//!
//! Reference: `report_csk_error`, `psock_state_change` in net/kcm/kcmsock.c; `tcp_poll`, `tcp_recvmsg_locked`,
//! `tcp_sendmsg_locked` in net/ipv4/tcp.c.

use super::mux::Mux;
use super::registry;
use super::stream::Stream;
use crate::fdtable;
use crate::process;
use crate::socket::bell::Bell;
use crate::socket::file::OpenFile;
use crate::socket::poll::{IN, OUT, RDHUP, View, look_at_moved};
use crate::socket::{clc, close, epoll};
use preloop_kcm::direct::NoSink;
use preloop_shm::counted::Counted;
use preloop_sys::{Errno, Fd, call, event, process as system, tcp};
use preloop_uapi::sync::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bits that are told to the program whether asked for or not, and tell of a change of state.
const CHANGES: u32 = (libc::POLLHUP | libc::POLLRDHUP) as u32;

/// What is to be told of TCP sockets once the mux's lock is let go, since who is told takes locks of his own. It is told when
/// this is dropped.
#[derive(Debug, Default)]
pub struct News {
    posted: Vec<Counted<OpenFile>>,
    changed: Vec<Counted<OpenFile>>,
    gone: Vec<Fd>,
}

impl News {
    /// An error was posted on a socket.
    pub fn posted(&mut self, file: Counted<OpenFile>) {
        self.posted.push(file);
    }

    /// A socket was attached, or is no more.
    pub fn changed(&mut self, file: Counted<OpenFile>) {
        self.changed.push(file);
    }

    /// The library's own descriptor of a connection that has moved is to be closed. It may be the last one.
    pub fn gone(&mut self, fd: Fd) {
        self.gone.push(fd);
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.changed.iter().for_each(|file| epoll::ask_anew(file));
        if !self.changed.is_empty() {
            let bells = strangers().clone();
            bells.iter().for_each(|bell| bell.ring());
        }
        self.changed.iter().chain(&self.posted).for_each(|file| clc::tell_watchers(file));
        for fd in self.gone.drain(..) {
            let closing = close::before_close(fd);
            process::disown(fd);
            drop(closing);
        }
    }
}

/// Bells of threads that sleep in poll(2) on TCP sockets which this process does not know.
static STRANGERS: Mutex<Vec<Arc<Bell>>> = Mutex::new(Vec::new());

fn strangers() -> MutexGuard<'static, Vec<Arc<Bell>>> {
    STRANGERS.lock().unwrap_or_else(|e| e.into_inner())
}

/// Descriptors that the kernel is asked about: a bell, for which nothing need be asked, costs about as much as so many
/// questions.
const ASKED: usize = 8;

/// Whether one of these descriptors may be a TCP socket that this process does not know, and that may be attached while a
/// thread sleeps on it.
pub fn may_be_attached(fds: impl Iterator<Item = Fd>) -> bool {
    let is_tcp = |fd| call::int_option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) == Ok(libc::IPPROTO_TCP);
    let mut unknown = fds.filter(|fd| *fd >= 0 && fdtable::socket(*fd).is_none()).enumerate();
    registry::any() && unknown.any(|(before, fd)| before >= ASKED || is_tcp(fd))
}

/// A thread is about to sleep on such: from now on its bell rings when a socket is attached. It looks afterwards which of
/// them this process knows.
pub fn watch_attaching(bell: &Arc<Bell>) {
    strangers().push(Arc::clone(bell));
}

/// It is awake.
pub fn unwatch_attaching(bell: &Arc<Bell>) {
    strangers().retain(|other| !Arc::ptr_eq(other, bell));
}

/// Runs `during` while no thread comes or goes (for fork).
pub fn hold<R>(during: impl FnOnce() -> R) -> R {
    let _held = strangers();
    during()
}

/// In a forked child, which has no other thread.
pub fn after_fork() {
    strangers().clear();
}

/// The state of a psock's socket, as `PsockEntry::seen` has it; `bits` are those that TCP was just told to poll with. A
/// connection that has moved has the one that its peer has put it into: a FIN that follows later changes nothing.
pub fn seen(stream: Stream<'_>, bits: u32) -> u32 {
    if let Some((file, link)) = stream.moved() {
        let view = look_at_moved(file, link);
        let kernel = if view.kernel_in { u32::from(event::poll_now(stream.fd(), libc::POLLRDHUP) as u16) } else { 0 };
        return (view.report(CHANGES, kernel) & CHANGES) << 8;
    }
    let bits = bits | u32::from(event::poll_now(stream.fd(), libc::POLLRDHUP) as u16);
    (bits & CHANGES) << 8 | u32::from(tcp::state_of(stream.fd()).unwrap_or(tcp::state::CLOSE))
}

/// Takes the kernel's own error off; whether there was one.
pub fn take_kernels_error(fd: Fd) -> bool {
    call::int_option(fd, libc::SOL_SOCKET, libc::SO_ERROR).is_ok_and(|error| error != 0)
}

/// KCM has posted an error, in place of one that was not told yet. It is the one of this number: of siblings that share the
/// socket, the first shows it.
pub fn post(file: &OpenFile, number: u32, error: u32) {
    if file.sock.posts.swap(number, Ordering::AcqRel) != number {
        file.sock.posted.store(error, Ordering::Release);
    }
}

fn mux_of(file: &OpenFile) -> Option<Arc<Mux>> {
    let number = file.mux.load(std::sync::atomic::Ordering::Acquire);
    if number == 0 { None } else { registry::find(number) }
}

/// Has the mux do what the kernel would have done with whatever has come so far. Called without locks.
pub fn catch_up(file: &OpenFile) {
    if let Some(mux) = mux_of(file) {
        mux.serve();
    }
}

/// What poll says of a socket that says `below` without KCM.
pub fn view(file: &OpenFile, below: View) -> View {
    const ALL: u32 = IN | OUT | RDHUP;
    let asks = below.kernel_in || below.kernel_out;
    let kernel = if asks { u32::from(event::poll_now(file.fd(), ALL as i16) as u16) } else { 0 };
    let mut bits = below.report(ALL, kernel);
    if file.sock.posted.load(Ordering::Acquire) != 0 {
        bits |= libc::POLLERR as u32;
    }
    if file.is_attached() { View { bits, end_known: true, ..View::default() } } else { View { bits, ..below } }
}

/// Takes the posted error off, as `sock_error` of the kernel does: none if there is none.
pub fn take_error(file: &OpenFile) -> Option<Errno> {
    catch_up(file);
    let mux = mux_of(file);
    let mut entered = mux.as_ref().and_then(|mux| mux.enter().ok());
    if let Some(entered) = &mut entered
        && let Some(psock) = entered.local.psock_of(file)
    {
        entered.state().take_error(psock);
    }
    let error = file.sock.posted.swap(0, Ordering::AcqRel);
    (error != 0).then(|| Errno::new(error as i32))
}

/// The error that a receive into `room` bytes answers instead of what the kernel would: when there are no bytes, and the
/// stream has not ended.
pub fn error_of_receive(file: &OpenFile, fd: Fd, room: usize, flags: i32) -> Option<Errno> {
    let is_elsewhere = flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) != 0 || room == 0;
    let has_bytes = || call::int_ioctl(fd, libc::FIONREAD).is_ok_and(|bytes| bytes > 0);
    let has_fin = || tcp::state_of(fd).is_ok_and(tcp::state::has_fin);
    if is_elsewhere || has_bytes() || has_fin() { None } else { take_error(file) }
}

/// The error that a send answers instead of sending. EPIPE comes with SIGPIPE.
pub fn error_of_send(file: &OpenFile, flags: i32) -> Option<Errno> {
    let error = take_error(file)?;
    if error == Errno::EPIPE && flags & libc::MSG_NOSIGNAL == 0 {
        system::raise_sigpipe();
    }
    Some(error)
}

/// The program has shut directions of an attached socket down itself, which posts an error although TCP's state may be what
/// it was.
pub fn shut(file: &OpenFile) {
    let Some(mux) = mux_of(file) else { return };
    let Ok(mut entered) = mux.enter() else { return };
    entered.serve(None, &mut NoSink);
    if let Some(psock) = entered.local.psock_of(file) {
        entered.has_changed(psock, 0);
        entered.state().tcp_changed(psock);
    }
}
