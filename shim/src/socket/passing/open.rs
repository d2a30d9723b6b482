//! Opening parcels.

use super::count_out;
use super::note::{Library, NAME, NOTE, Note, OTHERS, PUT, TCP};
use super::pack::unmake;
use super::tenant::Tenant;
use crate::fdtable;
use crate::socket::birth;
use crate::socket::file::OpenFile;
use crate::socket::group::{Group, GroupIndex, Indexed, Peer};
use crate::socket::handover::letter::{self, GroupEntry, LinkEntry, Place};
use crate::socket::link::Link;
use crate::socket::sock::Sock;
use crate::socket::users;
use crate::{fork, log, process};
use preloop_shm::arena::Slot;
use preloop_shm::counted::Counted;
use preloop_sys::cancel::Uncancellable;
use preloop_sys::unix::{self, FDS_MAX, Inner};
use preloop_sys::{Errno, Fd, addr, call, clock, process as system, sleep};
use preloop_uapi::listing::kind;
use preloop_uapi::sync::Ordering;
use std::sync::{Arc, RwLockReadGuard};

/// How long a parcel that somebody else is just looking into is waited for, in nanoseconds.
const PATIENCE: u64 = 2_000_000_000;

type Descriptors = [Option<Inner>; FDS_MAX];

/// A descriptor came with a message; with `peeks` the message stays where it was. If it is a parcel, what is in it takes
/// its place.
pub fn came(fd: Fd, peeks: bool) {
    if process::is_uncounted() || fork::is_inside() {
        return;
    }
    birth::given_out(fd);
    if process::is_filtered() || !is_parcel(fd) {
        return;
    }
    let _no_cancel = Uncancellable::begin();
    let _no_fork = fork::undisturbed();
    if let Err(why) = open(fd, peeks) {
        log::debug(format_args!("descriptor {fd} came with a connection that cannot go on here: {why}"));
    }
}

/// Whether a descriptor is a parcel.
pub fn is_parcel(fd: Fd) -> bool {
    unix::name(fd, false).is_some_and(|name| name.starts_with(NAME))
}

/// Goes on with a connection whose parcel stays where it was laid, at the number of a descriptor of it: this process counts
/// beside it. For processes that look one at a time.
///
/// # Errors
/// EAGAIN while a fork is under way; ENOENT, with a debug line, when it cannot go on here.
pub fn look_into(parcel: Fd) -> Result<Counted<OpenFile>, Errno> {
    let no_fork = fork::may_not_fork_now().ok_or(Errno::EAGAIN)?;
    let opened = contents(parcel).and_then(|contents| {
        let own = own_file(contents.sock.0);
        if own.is_none() {
            contents.count_for_itself();
        }
        match own {
            Some(file) => contents.enter(&file, parcel, true),
            None => contents.inherit(parcel, &no_fork),
        }
    });
    if let Err(why) = opened {
        log::debug_kcm(format_args!("a connection of a mux cannot go on here: {why}"));
    }
    fdtable::get(parcel).ok_or(Errno::ENOENT)
}

/// A parcel was taken away from where it was laid: it counts no more. `file` is its connection.
pub fn taken_away(parcel: Fd, file: &OpenFile, link: &Link) {
    if let Ok(contents) = contents(parcel) {
        unmake(file, link, contents.place);
    }
}

/// What is in a parcel that stays where it is.
fn contents(parcel: Fd) -> Result<Contents, &'static str> {
    let (_, found) = unix::receive_from(parcel, &mut [], libc::MSG_PEEK).map_err(|_| "it is empty")?;
    if let Some(note) = &found[NOTE] {
        // Who read it last may have been killed before he did.
        let _ = call::rewind(note.fd());
    }
    Contents::of(parcel, found)
}

fn open(parcel: Fd, peeks: bool) -> Result<(), &'static str> {
    let deadline = clock::now().saturating_add(PATIENCE);
    loop {
        match unix::receive_from(parcel, &mut [], libc::MSG_PEEK) {
            Ok((_, found @ [Some(_), ..])) => {
                let contents = Contents::of(parcel, found)?;
                // Who takes the message has what it counts for.
                if unix::discard(parcel) {
                    return contents.take(parcel, peeks);
                }
            }
            // Whoever took it to look at it will put it back.
            Err(Errno::EAGAIN) if clock::now() < deadline => sleep::quietly(parcel, libc::POLLIN, deadline),
            _ => return Err("it is gone"),
        }
    }
}

/// What is in a parcel, and makes sense.
struct Contents {
    found: Descriptors,
    place: Option<users::Place>,
    sock: (&'static Sock, Tenant),
    link: LinkEntry,
    group: GroupEntry,
    index: (&'static GroupIndex, Tenant),
}

impl Contents {
    fn of(parcel: Fd, found: Descriptors) -> Result<Self, &'static str> {
        let maker = unix::credentials(parcel).map_err(|_| "nobody is known to have sent it")?;
        let (Some(note), Some(tcp), Some(_)) = (&found[NOTE], &found[TCP], &found[PUT]) else {
            return Err("there are too few descriptors left");
        };
        // Only who made the parcel could have written into it.
        if maker.uid != system::euid() {
            return Err("another user sent it");
        }
        let contents: Option<Note> = letter::open(note.fd());
        // For whoever else looks into it.
        call::rewind(note.fd()).map_err(|_| "its note cannot be read")?;
        let Note { library, pid, place, letter } = contents.ok_or("its note cannot be read")?;
        if library != Library::own().ok_or("this process cannot tell which library it has")? {
            return Err("the sender has another library");
        }
        if u32::try_from(maker.pid) != Ok(pid) || users::is_foreign() || !is_here(tcp.fd()) {
            return Err("the sender is in another namespace");
        }
        let ([entry], [group]) = (&letter.sockets[..], &letter.groups[..]) else {
            return Err("it does not hold one connection");
        };
        let link = entry.link.filter(|_| call::cookie(tcp.fd()) == Ok(entry.cookie));
        let link = link.ok_or("it does not hold one connection")?;
        let is_socket = |found| found == kind::CONNECTION;
        let arenas = &letter.arenas;
        let sock = slot(&found, arenas, entry.sock, is_socket).ok_or("its memory cannot be mapped")?;
        let is_group = |found| found == kind::GROUP;
        let index = slot(&found, arenas, group.index, is_group).ok_or("its memory cannot be mapped")?;
        let group = group.clone();
        Ok(Self { place, sock, link, group, index, found })
    }

    /// Goes on with the connection at the number where the parcel stands.
    fn take(self, at: Fd, peeks: bool) -> Result<(), &'static str> {
        let sock = self.sock.0;
        let own = own_file(sock);
        if let Some(place) = self.place.filter(|_| !peeks) {
            users::unlist_message(sock, place, own.is_none());
        }
        if peeks {
            if own.is_none() {
                // Before the message is where somebody else could take it, and end what it counts for.
                self.count_for_itself();
            }
            put_back(&self.found);
        }
        match own {
            Some(file) => self.enter(&file, at, peeks),
            None => self.inherit(at, &fork::may_not_fork()),
        }
    }

    /// This process counts beside the message.
    fn count_for_itself(&self) {
        self.index.0.count(true);
        self.sock.0.holders.fetch_add(1, Ordering::AcqRel);
        self.sock.0.users.fetch_add(1, Ordering::AcqRel);
    }

    /// This process has the socket, and counts for it: the number is one more descriptor of it.
    fn enter(self, file: &Counted<OpenFile>, at: Fd, peeks: bool) -> Result<(), &'static str> {
        let Some(link) = file.link().filter(|_| self.place_tcp(at)) else { return Err("it is no connection here") };
        fdtable::set(at, Some(file.clone()));
        if file.fd() < 0 {
            file.set_fd(at);
        }
        if !peeks {
            link.group.index().count(false);
            count_out(file, link, None);
        }
        Ok(())
    }

    /// It is new here, and counted.
    fn inherit(self, at: Fd, no_fork: &RwLockReadGuard<'_, ()>) -> Result<(), &'static str> {
        let is_placed = self.place_tcp(at);
        let Self { found, sock: (sock, tenant), link, group, index: (index, index_tenant), .. } = self;
        let known = Group::known_by(index).inspect(|_| index.count(false));
        let group = known.or_else(|| inherit_group(&found, &group, (index, Some(index_tenant))));
        let link = group.and_then(|group| Link::inherit(group, link.conn, link.generation));
        if link.is_some() && is_placed {
            drop(OpenFile::inherit_while(no_fork, sock, at, link, Some(tenant)));
            return Ok(());
        }
        // Its end counts it out.
        drop(OpenFile::inherit_while(no_fork, sock, -1, link, Some(tenant)));
        Err("there is no room for its memory")
    }

    /// Puts the TCP socket where the parcel stands.
    fn place_tcp(&self, at: Fd) -> bool {
        self.found[TCP].as_ref().is_some_and(|tcp| call::replace(at, tcp.fd()).is_ok())
    }
}

/// Whether the network namespace of a socket is this process's.
fn is_here(tcp: Fd) -> bool {
    if let (Ok(its), Some(Ok(own))) = (call::network(tcp), process::ringer().map(call::network)) {
        return its == own;
    }
    // An old kernel, which finds sockets of this namespace alone.
    let ends = addr::local(tcp).zip(addr::peer(tcp));
    let found = ends.and_then(|(local, peer)| process::find_end(local, peer));
    found.is_some_and(|end| call::cookie(tcp) == Ok(end.cookie))
}

/// A slot of an arena that is in the parcel.
fn slot<T: Slot>(
    found: &Descriptors,
    arenas: &[Fd],
    place: Place,
    is_kind: impl Fn(u32) -> bool,
) -> Option<(&'static T, Tenant)> {
    let memfd = other(found, *arenas.get(place.arena)?)?;
    let tenant = Tenant::of(memfd)?;
    Some((tenant.slot(place.slot, is_kind)?, tenant))
}

/// What a note names.
fn other(found: &Descriptors, place: Fd) -> Option<Fd> {
    let place = usize::try_from(place).ok().filter(|place| *place >= OTHERS)?;
    found.get(place)?.as_ref().map(Inner::fd)
}

fn inherit_group(found: &Descriptors, entry: &GroupEntry, index: Indexed) -> Option<Arc<Group>> {
    let slot = index.0;
    let memfd = other(found, entry.memfd).and_then(|memfd| call::duplicate_high(memfd).ok());
    let peer = Peer { pid: entry.peer_pid, uid: entry.peer_uid };
    let inherit = |memfd| Group::inherit(memfd, entry.rings, entry.side, entry.token, peer, index);
    let group = memfd.and_then(inherit);
    if group.is_none() {
        slot.count(false);
        memfd.into_iter().for_each(call::close);
    }
    group
}

/// The socket as this process has it already, with one descriptor more.
fn own_file(sock: &Sock) -> Option<Counted<OpenFile>> {
    let mut own = None;
    fdtable::for_each(|_, file| {
        if core::ptr::eq(file.sock, sock) {
            own = Some(file);
        }
    });
    own.filter(|file| file.add_descriptor())
}

/// Leaves the parcel as it was, for whoever takes it after this process has looked into it.
fn put_back(found: &Descriptors) {
    let fds: Vec<Fd> = found.iter().flatten().map(Inner::fd).collect();
    if let Some(put) = found[PUT].as_ref() {
        let _ = unix::send(put, &[], &fds);
    }
}
