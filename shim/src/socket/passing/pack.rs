//! Packing parcels, and sending the message that carries them.

use super::note::{Library, NAME, Note, OTHERS};
use super::{count_out, receiver};
use crate::fdtable::{self, Known};
use crate::socket::back::ask;
use crate::socket::calls::Answer;
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::group;
use crate::socket::handover::envelope::Envelope;
use crate::socket::handover::letter;
use crate::socket::kcm::csock::{KcmSock, Sock};
use crate::socket::kcm::share;
use crate::socket::link::Link;
use crate::socket::users::{self, Place, Stake};
use crate::{fork, log, process};
use preloop_shm::counted::Counted;
use preloop_sys::unix::{self, Inner};
use preloop_sys::{Errno, Fd, call, cancel, errno, process as system};
use preloop_uapi::decline::Decline;
use preloop_uapi::sync::Ordering;
use std::cell::LazyCell;
use std::sync::{Arc, Mutex, MutexGuard};

/// Parcels that this process is about to send. Changed by who keeps forks away.
static UNSENT: Mutex<Vec<Fd>> = Mutex::new(Vec::new());

fn unsent() -> MutexGuard<'static, Vec<Fd>> {
    UNSENT.lock().unwrap_or_else(|e| e.into_inner())
}

/// In a forked child: what the parent is sending is not the child's to keep open.
pub fn after_fork() {
    unsent().drain(..).for_each(process::disown);
}

/// What passing a descriptor means.
enum Passing {
    /// The kernel does it.
    Kernel,
    /// It has to go in a parcel.
    Moved(Counted<OpenFile>),
    /// The kernel does it, once the mux is ready: of which the receiver needs what has moved to shared memory.
    Kcm(Sock),
}

/// A descriptor is about to be passed to another process, which may not know of shared memory: that pins a connection which
/// has not moved to TCP.
fn look_at(fd: Fd) -> Passing {
    match fdtable::socket(fd) {
        None => Passing::Kernel,
        Some(Known::Tcp(file)) if clc::pin(&file, Decline::OPTION) => Passing::Kernel,
        Some(Known::Tcp(file)) => Passing::Moved(file),
        Some(Known::Kcm(sock)) => Passing::Kcm(sock),
    }
}

/// Whether passing these descriptors takes more than the kernel's call; see [`pack`].
pub fn concerns(mut fds: impl Iterator<Item = Fd>) -> bool {
    fds.any(|fd| !matches!(look_at(fd), Passing::Kernel))
}

/// Parcels for one message.
#[derive(Debug, Default)]
pub struct Parcels(Vec<Parcel>);

#[derive(Debug)]
struct Parcel {
    /// The descriptor that the program passes.
    of: Fd,
    file: Counted<OpenFile>,
    link: Arc<Link>,
    place: Option<Place>,
    /// What is passed in its place.
    end: Fd,
}

/// Packs what the message that is about to be sent on `via` has of connections that have moved.
///
/// # Errors
/// EOPNOTSUPP when who receives it could not go on with them, or a mux cannot be made ready; ETOOMANYREFS when there are no
/// descriptors left for that, or too many under way.
pub fn pack(via: Fd, fds: impl Iterator<Item = Fd>) -> Result<Parcels, Errno> {
    let mut parcels = Parcels::default();
    let goes = LazyCell::new(|| may_go(via));
    for fd in fds {
        let packed = match look_at(fd) {
            Passing::Kernel => Ok(()),
            Passing::Kcm(sock) => prepare(&sock, || *goes).inspect_err(|(_, why)| {
                log::debug_kcm(format_args!("descriptor {fd} is of a mux that cannot be passed on: {via} {why}"));
            }),
            Passing::Moved(file) => {
                let packed = goes.and_then(|()| Parcel::pack(fd, file.clone())).map(|parcel| parcels.0.push(parcel));
                packed.or_else(|refusal| without_parcel(fd, &file, via, refusal))
            }
        };
        if let Err((error, _)) = packed {
            parcels.undo();
            return Err(error);
        }
    }
    Ok(parcels)
}

/// A connection cannot go in a parcel: the kernel passes it, if it changes back to TCP.
fn without_parcel(fd: Fd, file: &Counted<OpenFile>, via: Fd, refusal: Refusal) -> Result<(), Refusal> {
    let (error, why) = refusal;
    // Other errors are the kernel's, which it answers whatever is passed.
    if matches!(error, Errno::EOPNOTSUPP | Errno::ETOOMANYREFS) && ask::pin(file) {
        return Ok(());
    }
    log::debug(format_args!("descriptor {fd} has moved to shared memory, and is not passed: {via} {why}"));
    Err(refusal)
}

/// Why something cannot be passed.
type Refusal = (Errno, &'static str);

fn may_go(via: Fd) -> Result<(), Refusal> {
    // The kernel's answer, which comes first.
    call::int_option(via, libc::SOL_SOCKET, libc::SO_DOMAIN).map_err(|error| (error, "is no socket"))?;
    let why = if process::is_uncounted() || fork::is_inside() || users::is_foreign() || process::is_filtered() {
        Err("is used by a process that may not share memory")
    } else {
        receiver::check(via)
    };
    why.map_err(|why| (Errno::EOPNOTSUPP, why))
}

/// Makes a KCM socket ready for whoever gets it.
fn prepare(sock: &KcmSock, goes: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
    if share::has_moved(sock) {
        goes()?;
    }
    share::prepare(sock).map_err(|error| match error {
        Errno::ETOOMANYREFS => (error, "would take more descriptors than may be under way"),
        _ => (Errno::EOPNOTSUPP, "would get it without its mux"),
    })
}

/// A parcel with a connection, for which it counts from now on.
fn made(of: Fd, file: &Counted<OpenFile>) -> Result<(Arc<Link>, Option<Place>, Inner), Refusal> {
    let link = file.link().cloned().ok_or((Errno::EOPNOTSUPP, "would get it without its memory"))?;
    let mut envelope = Envelope::to_child();
    envelope.add(of, file, false);
    if !envelope.hands_over(file) {
        return Err((Errno::EOPNOTSUPP, "would get it without its memory"));
    }
    file.sock.holders.fetch_add(1, Ordering::AcqRel);
    file.sock.users.fetch_add(1, Ordering::AcqRel);
    group::count(envelope.groups(), true);
    let stake = users::list_message(file.sock);
    let place = stake.as_ref().map(|stake| stake.place);
    match fill(of, &envelope, stake) {
        Ok(end) => Ok((link, place, end)),
        Err(_) => {
            unmake(file, &link, place);
            Err((Errno::ETOOMANYREFS, "would take more descriptors than there are"))
        }
    }
}

/// The parcel counts no more.
pub(super) fn unmake(file: &OpenFile, link: &Link, place: Option<Place>) {
    group::count(core::slice::from_ref(&link.group), false);
    count_out(file, link, place);
}

/// Packs a connection into a parcel that stays where `put` lays it, and counts until it is taken from there
/// ([`super::open::taken_away`]). For who keeps forks away.
///
/// # Errors
/// Those of `put`; ETOOMANYREFS when there are no descriptors left, or too many under way.
pub fn lay(of: Fd, file: &Counted<OpenFile>, put: impl FnOnce(Fd) -> Result<(), Errno>) -> Result<(), Errno> {
    let (link, place, end) = made(of, file).map_err(|(error, _)| error)?;
    put(end.fd()).inspect_err(|_| unmake(file, &link, place))
}

impl Parcel {
    fn pack(of: Fd, file: Counted<OpenFile>) -> Result<Self, Refusal> {
        let _no_fork = fork::undisturbed();
        let (link, place, end) = made(of, &file)?;
        let end = process::adopt(end);
        unsent().push(end);
        Ok(Self { of, file, link, place, end })
    }

    /// The message was sent, or was not. The kernel has what it needs.
    fn close(&self) {
        let _no_fork = fork::undisturbed();
        unsent().retain(|fd| *fd != self.end);
        process::disown(self.end);
    }
}

/// A parcel with what the envelope names in it.
fn fill(tcp: Fd, envelope: &Envelope, stake: Option<Stake>) -> Result<Inner, Errno> {
    let mut letter = envelope.letter().clone();
    let mut others: Vec<Fd> = stake.iter().map(|stake| stake.lock.fd()).collect();
    let named = letter.arenas.iter_mut().chain(letter.groups.iter_mut().map(|group| &mut group.memfd));
    for memfd in named {
        others.push(*memfd);
        *memfd = (OTHERS + others.len() - 1) as Fd;
    }
    let library = Library::own().ok_or(Errno::ENOENT)?;
    let place = stake.as_ref().map(|stake| stake.place);
    let note = letter::seal(&Note { library, pid: process::pid(), place, letter })?;
    let [put, end] = call::unix_pair(libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK)?.map(Inner::from_raw);
    let name = format!("{:016x}", system::random());
    unix::bind_to(end.fd(), &[NAME, name.as_bytes()].concat())?;
    let fds: Vec<Fd> = [note.fd(), tcp, put.fd()].into_iter().chain(others).collect();
    unix::send(&put, &[], &fds)?;
    Ok(end.move_high())
}

impl Parcels {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the message has to pass in place of the program's descriptors, asked one after the other.
    pub fn instead(&self) -> impl FnMut(Fd) -> Fd {
        let mut next = self.0.iter().peekable();
        move |fd| next.next_if(|parcel| parcel.of == fd).map_or(fd, |parcel| parcel.end)
    }

    /// Sends the message.
    pub fn send(self, call: impl FnOnce() -> isize) -> Answer {
        let answer = cancel::run(&mut || self.undo(), call);
        if answer < 0 {
            let error = errno::get();
            self.undo();
            return Answer::Ours(Err(error));
        }
        self.0.iter().for_each(Parcel::close);
        Answer::Ours(Ok(answer as usize))
    }

    /// They are not sent.
    fn undo(&self) {
        for parcel in &self.0 {
            parcel.close();
            unmake(&parcel.file, &parcel.link, parcel.place);
        }
    }
}
