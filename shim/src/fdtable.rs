//! Which of the program's descriptors the library knows: fd to open file description, or "not ours".
//!
//! Looking up a descriptor that is not ours is one load or two; no lock, no count. dup'ed descriptors share one
//! entry. Descriptors of the library's own are marked, so that programs which close "everything" pass them by.

use crate::fork;
use crate::socket::epoll::Set;
use crate::socket::file::OpenFile;
use crate::socket::kcm::csock::KcmSock;
use preloop_shm::counted::{Cell, Counted, Pool};
use preloop_sys::Fd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

const CHUNK: usize = 1024;
const CHUNKS: usize = 1024;

struct Entry {
    file: Cell<OpenFile>,
    set: Cell<Arc<Set>>,
    kcm: Cell<KcmSock>,
    inner: AtomicBool,
    hints: AtomicU8,
}

/// What was done with a descriptor that the library did not know; looked at when it comes to know it. A number that was closed
/// and came back may have hints of what it stood for before.
pub mod hint {
    /// It was made by dup(2), or another one was made of it.
    pub const COPIED: u8 = 1;
    /// It was put into an epoll set.
    pub const IN_SET: u8 = 2;
}

static TABLE: [OnceLock<Box<[Entry]>>; CHUNKS] = [const { OnceLock::new() }; CHUNKS];
/// Where open files live.
pub static FILES: Pool<OpenFile> = Pool::new();
/// Where references to epoll sets live.
pub static SETS: Pool<Arc<Set>> = Pool::new();
/// Where KCM sockets live.
pub static KCM_SOCKS: Pool<KcmSock> = Pool::new();

impl Entry {
    fn new() -> Self {
        Self {
            file: Cell::new(),
            set: Cell::new(),
            kcm: Cell::new(),
            inner: AtomicBool::new(false),
            hints: AtomicU8::new(0),
        }
    }

    fn is_known(&self) -> bool {
        !self.file.is_empty() || !self.set.is_empty() || !self.kcm.is_empty()
    }
}

#[inline]
fn entry(fd: Fd) -> Option<&'static Entry> {
    let fd = usize::try_from(fd).ok()?;
    TABLE.get(fd / CHUNK)?.get()?.get(fd % CHUNK)
}

fn entry_made(fd: Fd) -> Option<&'static Entry> {
    let fd = usize::try_from(fd).ok()?;
    let make = || (0..CHUNK).map(|_| Entry::new()).collect();
    TABLE.get(fd / CHUNK)?.get_or_init(make).get(fd % CHUNK)
}

/// The open file behind a descriptor; `None` when it is not ours.
#[inline]
pub fn get(fd: Fd) -> Option<Counted<OpenFile>> {
    let entry = entry(fd)?;
    if entry.file.is_empty() || fork::is_inside() {
        return None;
    }
    entry.file.load(&FILES)
}

/// A socket that the library serves.
#[derive(Debug)]
pub enum Known {
    /// A TCP socket.
    Tcp(Counted<OpenFile>),
    /// A KCM socket.
    Kcm(Counted<KcmSock>),
}

/// The socket behind a descriptor; `None` when it is not ours.
#[inline]
pub fn socket(fd: Fd) -> Option<Known> {
    let entry = entry(fd)?;
    if (entry.file.is_empty() && entry.kcm.is_empty()) || fork::is_inside() {
        return None;
    }
    entry.file.load(&FILES).map(Known::Tcp).or_else(|| entry.kcm.load(&KCM_SOCKS).map(Known::Kcm))
}

/// Whether the table has a place for a descriptor.
pub fn has_place(fd: Fd) -> bool {
    usize::try_from(fd).is_ok_and(|fd| fd < CHUNKS * CHUNK)
}

/// Whether a descriptor stands for a socket or set of ours.
#[inline]
pub fn knows(fd: Fd) -> bool {
    entry(fd).is_some_and(Entry::is_known)
}

/// Enters, or with `None` removes, what a descriptor stands for; answers what it stood for before. A descriptor
/// beyond the table (a million) stays unknown, and with it on TCP.
pub fn set(fd: Fd, file: Option<Counted<OpenFile>>) -> Option<Counted<OpenFile>> {
    let entry = if file.is_some() { entry_made(fd) } else { entry(fd) };
    entry.and_then(|entry| entry.file.replace(file, &FILES))
}

/// The epoll set behind a descriptor.
#[inline]
pub fn epoll(fd: Fd) -> Option<Arc<Set>> {
    let entry = entry(fd)?;
    if entry.set.is_empty() || fork::is_inside() {
        return None;
    }
    entry.set.load(&SETS).map(|set| Arc::clone(&set))
}

/// Enters or removes an epoll set; answers what the descriptor stood for before.
pub fn set_epoll(fd: Fd, set: Option<Arc<Set>>) -> Option<Arc<Set>> {
    let entry = if set.is_some() { entry_made(fd) } else { entry(fd) };
    let before = entry?.set.replace(set.map(|set| SETS.put(set)), &SETS);
    before.map(|set| Arc::clone(&set))
}

/// The KCM socket behind a descriptor.
#[inline]
pub fn kcm(fd: Fd) -> Option<Counted<KcmSock>> {
    let entry = entry(fd)?;
    if entry.kcm.is_empty() || fork::is_inside() {
        return None;
    }
    entry.kcm.load(&KCM_SOCKS)
}

/// Every descriptor that is a KCM socket, with it.
pub fn for_each_kcm(mut with: impl FnMut(Fd, Counted<KcmSock>)) {
    for (fd, entry) in entries() {
        if let Some(sock) = entry.kcm.load(&KCM_SOCKS) {
            with(fd, sock);
        }
    }
}

/// The KCM socket, if some descriptor is one, for which `is_it`.
pub fn find_kcm(is_it: impl Fn(&KcmSock) -> bool) -> Option<Counted<KcmSock>> {
    entries().filter_map(|(_, entry)| entry.kcm.load(&KCM_SOCKS)).find(|sock| is_it(sock))
}

/// Enters or removes a KCM socket; answers what the descriptor stood for before.
pub fn set_kcm(fd: Fd, sock: Option<Counted<KcmSock>>) -> Option<Counted<KcmSock>> {
    let entry = if sock.is_some() { entry_made(fd) } else { entry(fd) };
    entry.and_then(|entry| entry.kcm.replace(sock, &KCM_SOCKS))
}

/// Gives a descriptor a hint.
pub fn give_hint(fd: Fd, hint: u8) {
    if let Some(entry) = entry_made(fd) {
        entry.hints.fetch_or(hint, Ordering::Relaxed);
    }
}

/// Whether a descriptor has a hint.
pub fn has_hint(fd: Fd, hint: u8) -> bool {
    entry(fd).is_some_and(|entry| entry.hints.load(Ordering::Relaxed) & hint != 0)
}

/// Every descriptor that has a hint.
pub fn with_hint(hint: u8) -> impl Iterator<Item = Fd> {
    entries().filter(move |(_, entry)| entry.hints.load(Ordering::Relaxed) & hint != 0).map(|(fd, _)| fd)
}

/// Marks a descriptor as the library's own, or no longer.
pub fn mark_inner(fd: Fd, inner: bool) {
    if let Some(entry) = entry_made(fd) {
        entry.inner.store(inner, Ordering::Relaxed);
    }
}

/// Whether the descriptor is the library's own.
pub fn is_inner(fd: Fd) -> bool {
    entry(fd).is_some_and(|entry| entry.inner.load(Ordering::Relaxed))
}

fn entries() -> impl Iterator<Item = (Fd, &'static Entry)> {
    let chunks = TABLE.iter().enumerate().filter_map(|(index, chunk)| Some((index, chunk.get()?)));
    chunks.flat_map(|(index, chunk)| {
        chunk.iter().enumerate().map(move |(slot, entry)| ((index * CHUNK + slot) as Fd, entry))
    })
}

/// Every descriptor that is ours, with its file.
pub fn for_each(mut with: impl FnMut(Fd, Counted<OpenFile>)) {
    for (fd, entry) in entries() {
        if let Some(file) = entry.file.load(&FILES) {
            with(fd, file);
        }
    }
}

/// As [`for_each`], where nothing may be allocated or freed: in a signal handler.
pub fn for_each_unfreed(with: impl Fn(Fd, &OpenFile)) {
    for (fd, entry) in entries() {
        if let Some(file) = entry.file.load(&FILES) {
            with(fd, &file);
            file.let_go_unfreed();
        }
    }
}

/// From now on no descriptor of the program's is known, in this copy of the table. Allocates and frees nothing.
pub fn abandon_all() {
    for (_, entry) in entries() {
        entry.file.abandon();
        entry.set.abandon();
        entry.kcm.abandon();
        entry.hints.store(0, Ordering::Relaxed);
    }
}

/// Every descriptor that stands for the file.
pub fn fds_of(file: &OpenFile) -> Vec<Fd> {
    let mut found = Vec::new();
    for_each(|fd, other| {
        if core::ptr::eq(&raw const *other, file) {
            found.push(fd);
        }
    });
    found
}

/// A descriptor that stands for the file: one of the program's, if there is one.
pub fn fd_of(file: &OpenFile) -> Option<Fd> {
    fds_of(file).into_iter().max_by_key(|fd| (!is_inner(*fd), *fd))
}

/// Every epoll set that the program has.
pub fn sets() -> Vec<Arc<Set>> {
    entries().filter_map(|(_, entry)| entry.set.load(&SETS)).map(|set| Arc::clone(&set)).collect()
}

/// A descriptor that stands for the epoll set.
pub fn epoll_fd_of(set: &Arc<Set>) -> Option<Fd> {
    entries().find(|(_, entry)| entry.set.load(&SETS).is_some_and(|other| Arc::ptr_eq(&other, set))).map(|(fd, _)| fd)
}

/// Every descriptor of the program's in a range that is a socket or set of ours.
pub fn known_between(first: Fd, last: Fd) -> impl Iterator<Item = Fd> {
    let known = entries().filter(|(_, entry)| entry.is_known() && !entry.inner.load(Ordering::Relaxed));
    known.map(|(fd, _)| fd).filter(move |fd| (first..=last).contains(fd))
}

/// Every descriptor in a range that is the library's own, in order.
pub fn inner_between(first: Fd, last: Fd) -> impl Iterator<Item = Fd> {
    let inner = entries().filter(|(_, entry)| entry.inner.load(Ordering::Relaxed));
    inner.map(|(fd, _)| fd).filter(move |fd| (first..=last).contains(fd))
}
