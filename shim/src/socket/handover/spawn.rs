//! posix_spawn(3): the child is another program from the start, and the C library makes it where no hook sees.

use super::envelope::Envelope;
use super::leave::leave_behind;
use super::next::Next;
use crate::fdtable;
use crate::fork;
use crate::process;
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::group;
use preloop_shm::counted::Counted;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call};
use preloop_uapi::sync::Ordering::AcqRel;
use std::sync::MutexGuard;

/// What was done for a child that is about to be made.
pub struct Spawning {
    files: Vec<Counted<OpenFile>>,
    envelope: Envelope,
    letter: Option<Inner>,
    passed: Vec<Fd>,
    _no_fork: Option<MutexGuard<'static, ()>>,
}

/// The program tells what a child is to do with a descriptor.
pub fn is_for_child(fd: Fd) {
    if let Some(file) = fdtable::get(fd) {
        file.is_for_child.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The sockets that a child may have: their descriptors stay open across exec, or the program named them.
fn candidates() -> Vec<(Fd, Counted<OpenFile>)> {
    let mut candidates: Vec<(Fd, Counted<OpenFile>)> = Vec::new();
    fdtable::for_each(|fd, file| {
        let named = file.is_for_child.load(std::sync::atomic::Ordering::Relaxed);
        if (named || !call::closes_on_exec(fd)) && !candidates.iter().any(|(_, other)| other.same(&file)) {
            candidates.push((fd, file));
        }
    });
    candidates
}

/// Before a child is made. `next` answers which program it will be; asked only if it may have a socket.
///
/// # Errors
/// EOPNOTSUPP: a connection that has moved is meant for a program that could not read it.
pub fn before(next: impl FnOnce() -> Next) -> Result<Spawning, Errno> {
    let mut spawning = Spawning {
        files: Vec::new(),
        envelope: Envelope::to_child(),
        letter: None,
        passed: Vec::new(),
        _no_fork: None,
    };
    if process::is_uncounted() || fork::is_inside() {
        return Ok(spawning);
    }
    spawning._no_fork = Some(fork::alone());
    let candidates = candidates();
    if candidates.is_empty() {
        return Ok(spawning);
    }
    candidates.iter().for_each(|(_, file)| clc::put_off(file));
    match next() {
        Next::None => return Ok(spawning),
        Next::Bare => {}
        Next::Preloaded => {
            candidates.iter().for_each(|(fd, file)| spawning.envelope.add(*fd, file));
            spawning.letter = spawning.envelope.seal().ok();
        }
    }
    if spawning.letter.is_none() {
        spawning.envelope = Envelope::to_child();
    }
    let (handed, left): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|(_, file)| spawning.envelope.hands_over(file));
    let is_meant = |_: Fd, file: &OpenFile| file.is_for_child.load(std::sync::atomic::Ordering::Relaxed);
    leave_behind(left.iter(), is_meant)?;
    spawning.files = handed.into_iter().map(|(_, file)| file).collect();
    spawning.passed = spawning.envelope.descriptors();
    spawning.passed.extend(spawning.letter());
    spawning.count(true);
    spawning.passed.iter().for_each(|fd| call::set_close_on_exec(*fd, false));
    Ok(spawning)
}

impl Spawning {
    /// The letter for the child, which stays open across its exec.
    pub fn letter(&self) -> Option<Fd> {
        self.letter.as_ref().map(Inner::fd)
    }

    fn count(&self, more: bool) {
        for counter in self.files.iter().flat_map(|file| [&file.sock.holders, &file.sock.users]) {
            if more {
                counter.fetch_add(1, AcqRel);
            } else {
                counter.fetch_sub(1, AcqRel);
            }
        }
        group::count(self.envelope.groups(), more);
    }

    /// The call is over.
    pub fn finish(self, made: bool) {
        self.passed.iter().for_each(|fd| call::set_close_on_exec(*fd, true));
        if !made {
            self.count(false);
        }
        self.files.iter().for_each(|file| file.is_for_child.store(false, std::sync::atomic::Ordering::Relaxed));
    }
}
