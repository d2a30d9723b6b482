//! This process's descriptors of a mux.

use super::alarm::Alarm;
use super::ears::Ears;
use super::fields;
use super::lower::{self, News};
use super::members::Passable;
use super::source::{EXCLUSIVE, Source};
use super::stream::Stream;
use crate::process;
use crate::socket::file::OpenFile;
use preloop_kcm::errno::Errno as CoreErrno;
use preloop_kcm::id::{CsockId, PLACES, PsockId};
use preloop_parsers::{Fields, Program};
use preloop_shm::counted::Counted;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, event};
use preloop_uapi::mux::{CsockEntry, PsockEntry};
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

/// Both ends of a csock, descriptors of the library's own.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The program's end; -1 where only other processes hold the socket.
    pub own: Fd,
    /// The far end.
    pub far: Fd,
}

/// A program, and the bytes that it was read from (`Parser::to_bytes`).
pub type Loaded = (Arc<Program>, Vec<u8>);

/// A csock as this process has it.
#[derive(Clone, Copy, Debug)]
struct Csock {
    ends: Ends,
    generation: u32,
}

/// A psock as this process has it.
#[derive(Debug)]
struct Psock {
    /// A duplicate of the TCP socket's descriptor.
    fd: Fd,
    /// The program's socket, where this process has it.
    file: Option<Counted<OpenFile>>,
    generation: u32,
    program: Arc<Program>,
    /// What the program reads besides the bytes.
    fields: Fields,
    parser: Vec<u8>,
    /// Errors posted on it that this process was told of.
    told: u32,
}

impl Psock {
    fn stream(&self) -> Stream<'_> {
        Stream::new(self.fd, self.file.as_deref())
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Local {
    /// The epoll set of all that happens below the mux.
    pub set: Fd,
    /// Some message had an assembly time-out.
    pub has_deadlines: bool,
    /// `MuxHeader::members`, when this was last brought up to date.
    pub members: u32,
    /// What hears of connections that have moved to shared memory.
    pub ears: Ears,
    /// How the pump wakes for a mux that others have too.
    pub alarm: Alarm,
    timer: Fd,
    desk: Fd,
    armed: u64,
    csocks: Box<[Option<Csock>; PLACES]>,
    psocks: Box<[Option<Psock>; PLACES]>,
}

fn make_set() -> Result<Fd, Errno> {
    Ok(process::adopt(Inner::from_raw(event::epoll_create()?).move_high()))
}

impl Local {
    /// A new mux's: none.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            set: make_set()?,
            has_deadlines: false,
            members: 0,
            ears: Ears::NONE,
            alarm: Alarm::OFF,
            timer: -1,
            desk: -1,
            armed: 0,
            csocks: Box::new([None; PLACES]),
            psocks: Box::new([const { None }; PLACES]),
        })
    }

    /// In a forked child: a set and ears of its own. The parent's entries, which the child has not, stay the parent's.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub fn renew(&mut self) -> Result<(), Errno> {
        // First of all: where none can be made, the parent's events are the parent's all the same.
        self.alarm.forget();
        process::disown(core::mem::replace(&mut self.set, -1));
        process::disown(core::mem::replace(&mut self.timer, -1));
        self.ears = Ears::NONE;
        self.armed = 0;
        self.set = make_set()?;
        Ok(())
    }

    /// Closes them all.
    pub fn give_up(&mut self, news: &mut News) {
        for (psock, _) in self.psocks() {
            self.forget_psock(psock, news);
        }
        for Csock { ends, .. } in self.csocks.iter_mut().filter_map(Option::take) {
            process::disown(ends.own);
            process::disown(ends.far);
        }
        for own in [&mut self.timer, &mut self.desk, &mut self.set] {
            process::disown(core::mem::replace(own, -1));
        }
    }

    /// Adds a descriptor to the set.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC.
    pub fn watch(&self, fd: Fd, events: u32, what: Source) -> Result<(), Errno> {
        event::epoll_ctl(self.set, libc::EPOLL_CTL_ADD, fd, events, what.to_bits())?;
        let is_tcp = matches!(what, Source::Psock(_));
        self.alarm.add(fd, if is_tcp { EXCLUSIVE } else { events })
    }

    /// Takes one out, which closing alone would not do where siblings keep it open.
    fn unwatch(&self, fd: Fd) {
        let _ = event::epoll_ctl(self.set, libc::EPOLL_CTL_DEL, fd, 0, 0);
        self.alarm.remove(fd);
    }

    /// What is in the set, and what an [`Alarm`] is for there; `kick` is the mux's.
    pub fn watched(&self, kick: Fd) -> impl Iterator<Item = (Fd, u32)> {
        let tcp = self.psocks.iter().flatten().map(|psock| (psock.fd, EXCLUSIVE));
        let far_ends = self.csocks.iter().flatten().map(|csock| (csock.ends.far, 0));
        let others = [kick, self.timer, self.desk, self.ears.bell()].map(|fd| (fd, libc::EPOLLIN as u32));
        tcp.chain(far_ends).chain(others).filter(|(fd, _)| *fd >= 0)
    }

    /// Makes the set have something at `at` (CLOCK_MONOTONIC nanoseconds, 0 for never).
    pub fn set_deadline(&mut self, at: u64) {
        if at == self.armed {
            return;
        }
        if self.timer < 0 {
            let Ok(timer) = event::timer() else { return };
            self.timer = process::adopt(Inner::from_raw(timer).move_high());
            let _ = self.watch(self.timer, (libc::EPOLLIN | libc::EPOLLET) as u32, Source::Timer);
        }
        event::set_timer(self.timer, at);
        self.armed = at;
    }

    /// The timer has gone off.
    pub fn timer_rang(&mut self) {
        self.armed = 0;
    }

    /// The csocks that this process knows, and their generations.
    pub fn csocks(&self) -> Vec<(CsockId, u32)> {
        let csocks = self.csocks.iter().zip(0..=u8::MAX);
        csocks.filter_map(|(csock, n)| Some((CsockId(n), csock.as_ref()?.generation))).collect()
    }

    /// The psocks that this process has, and their generations.
    pub fn psocks(&self) -> Vec<(PsockId, u32)> {
        let psocks = self.psocks.iter().zip(0..=u8::MAX);
        psocks.filter_map(|(psock, n)| Some((PsockId(n), psock.as_ref()?.generation))).collect()
    }

    /// Takes charge of a desk; -1 for none.
    pub fn set_desk(&mut self, desk: Fd) {
        self.desk = desk;
    }

    /// The desk, where this process has it.
    pub fn desk(&self) -> Option<Fd> {
        (self.desk >= 0).then_some(self.desk)
    }

    fn ends(&self, csock: CsockId) -> Option<&Ends> {
        self.csocks[usize::from(csock.0)].as_ref().map(|csock| &csock.ends)
    }

    /// A csock's far end.
    pub fn far_end(&self, csock: CsockId) -> Option<Fd> {
        Some(self.ends(csock)?.far)
    }

    /// Whether this process has a descriptor of the program's end of a csock.
    pub fn has_own_end(&self, csock: CsockId) -> bool {
        self.ends(csock).is_some_and(|ends| ends.own >= 0)
    }

    /// Takes charge of a csock's ends.
    pub fn add_ends(&mut self, csock: CsockId, ends: Ends, generation: u32) {
        self.csocks[usize::from(csock.0)] = Some(Csock { ends, generation });
    }

    /// This process's own descriptor of the program's end is another one now, or with -1 none.
    pub fn set_own_end(&mut self, csock: CsockId, own: Fd) {
        if let Some(Csock { ends, .. }) = &mut self.csocks[usize::from(csock.0)] {
            process::disown(core::mem::replace(&mut ends.own, own));
        }
    }

    /// Closes a csock's ends.
    pub fn forget_ends(&mut self, csock: CsockId) {
        if let Some(Csock { ends, .. }) = self.csocks[usize::from(csock.0)].take() {
            self.unwatch(ends.far);
            process::disown(ends.own);
            process::disown(ends.far);
        }
    }

    /// Takes charge of a duplicate of a psock's TCP socket, of this generation. `file` is the program's socket, if this process
    /// has it.
    pub fn add_psock(
        &mut self,
        psock: PsockId,
        (fd, generation): (Fd, u32),
        file: Option<Counted<OpenFile>>,
        (program, parser): Loaded,
    ) {
        let told = file.as_ref().map_or(0, |file| file.sock.posts.load(Ordering::Acquire));
        let fields = fields::of(fd, &program);
        self.psocks[usize::from(psock.0)] = Some(Psock { fd, file, generation, program, fields, parser, told });
    }

    /// What another process needs of a psock.
    pub fn passable(&self, psock: PsockId) -> Option<Passable<'_>> {
        let Psock { fd, file, parser, .. } = self.psock(psock)?;
        Some(Passable { tcp: *fd, moved: file.as_ref().filter(|file| file.link().is_some()), parser })
    }

    /// Closes a psock's TCP socket, which is the kernel's alone again.
    pub fn forget_psock(&mut self, psock: PsockId, news: &mut News) {
        if let Some(gone) = self.psocks[usize::from(psock.0)].take() {
            self.unwatch(gone.fd);
            match gone.stream().moved() {
                Some(connection) => {
                    self.ears.part(connection);
                    news.gone(gone.fd);
                }
                None => process::disown(gone.fd),
            }
            if let Some(file) = gone.file {
                file.mux.store(0, std::sync::atomic::Ordering::Release);
                if file.has_ended() && file.is_inherited() {
                    file.leave_slot();
                }
                news.changed(file);
            }
        }
    }

    /// The psock of a socket of the program's.
    pub fn psock_of(&self, file: &OpenFile) -> Option<PsockId> {
        let is_it = |psock: &Option<Psock>| {
            let other = psock.as_ref().and_then(|psock| psock.file.as_ref());
            other.is_some_and(|other| core::ptr::eq(&raw const **other, file))
        };
        Some(PsockId(self.psocks.iter().position(is_it)? as u8))
    }

    /// An error may have been posted on a psock, here or in a sibling: its socket shows it, and those who wait for it are
    /// told, once.
    pub fn note_post(&mut self, psock: PsockId, entry: &PsockEntry, news: &mut News) {
        let Some(psock) = &mut self.psocks[usize::from(psock.0)] else { return };
        let posts = entry.posts.load(Ordering::Acquire);
        if core::mem::replace(&mut psock.told, posts) == posts {
            return;
        }
        if let Some(file) = &psock.file {
            lower::post(file, posts, entry.error.load(Ordering::Relaxed));
            news.posted(file.clone());
        }
    }

    fn psock(&self, psock: PsockId) -> Option<&Psock> {
        self.psocks[usize::from(psock.0)].as_ref()
    }

    /// The program of a psock, and what it reads besides the bytes.
    pub fn program(&self, psock: PsockId) -> Option<(&Arc<Program>, &Fields)> {
        self.psock(psock).map(|psock| (&psock.program, &psock.fields))
    }

    /// A psock's TCP socket.
    pub fn tcp(&self, psock: PsockId) -> Option<Fd> {
        Some(self.psock(psock)?.fd)
    }

    /// A psock's byte stream.
    pub fn stream(&self, psock: PsockId) -> Option<Stream<'_>> {
        Some(self.psock(psock)?.stream())
    }

    /// Begins to hear of a psock's connection, if it has moved.
    ///
    /// # Errors
    /// See [`Ears::join`].
    pub fn hear(&mut self, psock: PsockId) -> Result<(), Errno> {
        let Some(found) = &self.psocks[usize::from(psock.0)] else { return Ok(()) };
        let Some(connection) = found.stream().moved() else { return Ok(()) };
        let is_first = self.ears.bell() < 0;
        self.ears.join(self.set, psock, connection)?;
        if is_first { self.alarm.add(self.ears.bell(), libc::EPOLLIN as u32) } else { Ok(()) }
    }

    /// A psock's byte stream, to be written to. It fails if an error of an earlier attachment is posted on it, of which the
    /// core does not know.
    pub fn to_write(&self, psock: PsockId) -> Result<Stream<'_>, CoreErrno> {
        let psock = self.psock(psock).ok_or(preloop_kcm::errno::EAGAIN)?;
        let failed = psock.file.as_ref().is_some_and(|file| file.sock.posted.swap(0, Ordering::AcqRel) != 0);
        if failed { Err(preloop_kcm::errno::EPIPE) } else { Ok(psock.stream()) }
    }

    /// Sends a csock a token, unless it has one that is enough: an edge is wanted of every batch, and a call that sleeps may
    /// have taken one and not come back yet.
    pub fn tell(&self, csock: CsockId, entry: &CsockEntry, waits: bool) {
        let Some(ends) = self.ends(csock) else { return };
        let sent = entry.tokens.load(Ordering::Relaxed);
        if (sent == 0 || waits || entry.edges.load(Ordering::Relaxed) != 0)
            && call::send(ends.far, &[], libc::MSG_DONTWAIT).is_ok()
        {
            entry.tokens.store(sent + 1, Ordering::Relaxed);
        }
    }

    /// Takes a csock's tokens off.
    pub fn hush(&self, csock: CsockId, entry: &CsockEntry) {
        let Some(ends) = self.ends(csock) else { return };
        for _ in 0..entry.tokens.swap(0, Ordering::Relaxed) {
            if call::recv(ends.own, &mut [], libc::MSG_DONTWAIT).is_err() {
                break;
            }
        }
    }

    /// Takes a csock's tokens off, however many there are: who sent one may have been killed before it was counted.
    pub fn recount(&self, csock: CsockId, entry: &CsockEntry) {
        if self.ends(csock).is_some_and(|ends| ends.own >= 0) {
            entry.tokens.store(u32::MAX, Ordering::Relaxed);
            self.hush(csock, entry);
        }
    }

    /// Tells of a flush: those who sleep until then, and epoll sets that want to see the edge of EPOLLOUT, which the kernel
    /// makes of a packet's being taken. False where only a process that has the socket could.
    pub fn tell_flushed(&self, csock: CsockId, entry: &CsockEntry) -> bool {
        let Some(ends) = self.ends(csock) else { return true };
        let (senders, edges) = (entry.senders.load(Ordering::Relaxed), entry.edges.load(Ordering::Relaxed));
        if ends.own < 0 {
            return senders == 0 && edges == 0;
        }
        let send = || call::send(ends.own, &[], libc::MSG_DONTWAIT).is_ok();
        let take = || call::recv(ends.far, &mut [], libc::MSG_DONTWAIT).is_ok();
        // Those of the flush before are not needed as well: whoever has not taken one yet is still counted.
        while senders > 0 && take() {}
        for _ in 0..senders {
            if !send() {
                break;
            }
        }
        if edges != 0 {
            let was_room = send();
            take();
            if !was_room {
                // It was one of a sender's.
                send();
            }
        }
        true
    }
}
