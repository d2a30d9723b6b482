//! posix_spawn(3): the child is another program from the start, and the C library makes it where no hook sees.

use super::envelope::Envelope;
use super::leave::{Staying, once};
use super::next::Next;
use crate::fdtable;
use crate::fork;
use crate::log;
use crate::process;
use crate::socket::back::ask::ask;
use crate::socket::clc;
use crate::socket::group;
use crate::socket::sock::phase;
use crate::socket::users;
use preloop_sys::cancel::Uncancellable;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call};
use preloop_uapi::sync::Ordering::AcqRel;
use std::sync::{Mutex, MutexGuard};

/// One child with a letter at a time: the descriptors that the letter names are not close-on-exec meanwhile.
static POSTING: Mutex<()> = Mutex::new(());

/// What the program wants done with the descriptors of a child (posix_spawn_file_actions_init(3)).
#[derive(Debug, Default)]
pub struct Wishes {
    /// Descriptors that it is to have under another number.
    pub named: Vec<Fd>,
    /// Something that keeps the library from knowing what the child has, or will be: closefrom, or another directory.
    pub is_opaque: bool,
}

/// What was done for a child that is about to be made.
#[derive(Debug, Default)]
pub struct Spawning {
    sockets: Vec<Staying>,
    envelope: Envelope,
    letter: Option<Inner>,
    passed: Vec<Fd>,
    _posting: Option<MutexGuard<'static, ()>>,
    _no_cancel: Option<Uncancellable>,
}

/// The sockets that a child may have: their descriptors stay open across exec, or the program names them.
fn candidates(wishes: &Wishes) -> Vec<Staying> {
    // Those that are named come first, and so stand for a socket that has others, too.
    let mut candidates: Vec<Staying> = wishes.named.iter().filter_map(|fd| Some((*fd, fdtable::get(*fd)?))).collect();
    fdtable::for_each(|fd, file| {
        if !call::closes_on_exec(fd) {
            candidates.push((fd, file));
        }
    });
    once(&mut candidates);
    candidates
}

/// Before a child is made. `next` answers which program it will be; asked only if it may have a socket.
///
/// # Errors
/// EOPNOTSUPP: a connection that has moved is meant for a program that could not read it, and its peer has not changed it back
/// to TCP.
pub fn before(wishes: &Wishes, next: impl FnOnce() -> Next) -> Result<Spawning, Errno> {
    let mut spawning = Spawning::default();
    if process::is_uncounted() || fork::is_inside() {
        return Ok(spawning);
    }
    spawning._no_cancel = Some(Uncancellable::begin());
    let sockets = {
        let _no_fork = fork::alone();
        let sockets = candidates(wishes);
        // The child is counted before the handshakes are put off: none begins anew, in no thread.
        count(&sockets, true);
        sockets.iter().for_each(|(_, file)| clc::put_off(file));
        sockets
    };
    if sockets.is_empty() {
        return Ok(spawning);
    }
    spawning.sockets = sockets;
    match next() {
        // The call fails.
        Next::None => return Ok(spawning),
        Next::Bare => {}
        Next::Preloaded { streams, .. } => spawning.write(|moved| streams || !moved),
    }
    let Spawning { sockets, envelope, .. } = &spawning;
    let lost = |(fd, file): &&Staying| {
        wishes.named.contains(fd) && !envelope.hands_over(file) && file.sock.phase() == phase::SMC
    };
    // The child counts as a user, too.
    if let Some((fd, _)) = sockets.iter().filter(lost).find(|(_, file)| !ask(file, 2)) {
        log::debug(format_args!("spawn: descriptor {fd} has moved to shared memory, which the program cannot use"));
        spawning.finish(None);
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(spawning)
}

fn count(sockets: &[Staying], more: bool) {
    for counter in sockets.iter().flat_map(|(_, file)| [&file.sock.holders, &file.sock.users]) {
        if more {
            counter.fetch_add(1, AcqRel);
        } else {
            counter.fetch_sub(1, AcqRel);
        }
    }
}

impl Spawning {
    /// Writes the letter, with what is `usable` (moved or not), and lets its memory through.
    fn write(&mut self, usable: impl Fn(bool) -> bool) {
        self._posting = Some(POSTING.lock().unwrap_or_else(|e| e.into_inner()));
        let mut envelope = Envelope::to_child();
        let usable = |(_, file): &&Staying| usable(file.sock.phase() == phase::SMC);
        self.sockets.iter().filter(usable).for_each(|(fd, file)| envelope.add(*fd, file, false));
        let Ok(letter) = envelope.seal() else { return };
        self.passed = envelope.descriptors();
        self.passed.push(letter.fd());
        self.passed.iter().for_each(|fd| call::set_close_on_exec(*fd, false));
        group::count(envelope.groups(), true);
        (self.envelope, self.letter) = (envelope, Some(letter));
    }

    /// The letter for the child, which stays open across its exec.
    pub fn letter(&self) -> Option<Fd> {
        self.letter.as_ref().map(Inner::fd)
    }

    /// The call is over; it made this child, or none.
    pub fn finish(self, child: Option<u32>) {
        self.passed.iter().for_each(|fd| call::set_close_on_exec(*fd, true));
        match child {
            // What it was not handed it cannot count out itself: that is done when it is no more. What it was, it may have
            // counted out already. Where there is no room to list it, it stays uncounted.
            Some(child) => {
                let left = self.sockets.iter().filter(|(_, file)| !self.envelope.hands_over(file));
                let unlisted: Vec<_> =
                    left.filter(|(_, file)| !users::enlist_child(file.sock, child)).cloned().collect();
                count(&unlisted, false);
            }
            None => {
                group::count(self.envelope.groups(), false);
                count(&self.sockets, false);
            }
        }
    }
}
