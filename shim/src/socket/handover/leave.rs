//! Before exec: what ends, what is handed over, what cannot be.

use super::envelope::Envelope;
use super::next::Next;
use crate::fdtable;
use crate::fork;
use crate::log;
use crate::process;
use crate::socket::back::ask::ask;
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::group::{self, Group};
use crate::socket::sock::phase;
use preloop_shm::counted::Counted;
use preloop_sys::cancel::Uncancellable;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call};
use preloop_uapi::sync::Ordering;
use std::sync::{Arc, MutexGuard};

/// What was done for an exec, and is undone when that failed.
#[derive(Debug, Default)]
pub struct Leaving {
    closing: Vec<Counted<OpenFile>>,
    held: Vec<Counted<OpenFile>>,
    groups: Vec<Arc<Group>>,
    letter: Option<Inner>,
    passed: Vec<Fd>,
    _no_fork: Option<MutexGuard<'static, ()>>,
    _no_cancel: Option<Uncancellable>,
}

/// A socket, and a descriptor of it that stays open.
pub type Staying = (Fd, Counted<OpenFile>);

/// Files once each, however many descriptors stand for them.
pub fn once(files: &mut Vec<Staying>) {
    files.sort_by_key(|(_, file)| core::ptr::from_ref::<OpenFile>(file).addr());
    files.dedup_by(|(_, one), (_, other)| one.same(other));
}

/// Sockets whose descriptors are all close-on-exec, and those that stay.
fn sort() -> (Vec<Staying>, Vec<Staying>) {
    let (mut closing, mut staying) = (Vec::new(), Vec::new());
    fdtable::for_each(|fd, file| if call::closes_on_exec(fd) { &mut closing } else { &mut staying }.push((fd, file)));
    once(&mut closing);
    once(&mut staying);
    let stays = |file: &Counted<OpenFile>| {
        let address = |file: &Counted<OpenFile>| core::ptr::from_ref::<OpenFile>(file).addr();
        staying.binary_search_by_key(&address(file), |(_, other)| address(other)).is_ok()
    };
    closing.retain(|(_, file)| !stays(file));
    (closing, staying)
}

/// Before another program takes the process over. `next` answers which one; asked only if it may have something of a
/// socket.
///
/// # Errors
/// EOPNOTSUPP: the next program would find a connection that has moved, and nothing that could read it; and its peer has not
/// changed it back to TCP.
pub fn before_exec(next: impl FnOnce() -> Next) -> Result<Leaving, Errno> {
    let mut leaving = Leaving::default();
    if process::is_uncounted() || fork::is_inside() {
        return Ok(leaving);
    }
    leaving._no_cancel = Some(Uncancellable::begin());
    leaving._no_fork = Some(fork::alone());
    let (mut closing, staying) = sort();
    // What would be lost with this process, since its memory is an ancestor's: the next program counts it out.
    let (orphans, closing_here): (Vec<_>, Vec<_>) =
        closing.drain(..).partition(|(_, file)| file.is_last() && !process::ARENA.holds(file.sock));
    if !staying.is_empty() || !orphans.is_empty() {
        leaving.hold(&staying);
        match next() {
            Next::None => {
                leaving.exec_failed();
                return Ok(Leaving::default());
            }
            Next::Bare => leaving.leave_behind(&staying, Envelope::default())?,
            Next::Preloaded { streams, .. } => {
                let mut letter = Envelope::default();
                let usable = |(fd, file): &&Staying| streams || *fd > 2 || file.sock.phase() != phase::SMC;
                staying.iter().filter(usable).for_each(|(fd, file)| letter.add(*fd, file, true));
                orphans.iter().for_each(|(fd, file)| letter.add(*fd, file, false));
                leaving.letter = letter.seal().ok();
                let letter = if leaving.letter.is_some() { letter } else { Envelope::default() };
                leaving.leave_behind(&staying, letter)?;
            }
        }
    } else {
        leaving.groups = group::all();
    }
    for (_, file) in closing_here {
        clc::put_off(&file);
        if file.leaves_for_exec() {
            leaving.closing.push(file);
        }
    }
    group::count(&leaving.groups, false);
    leaving.passed.iter().for_each(|fd| call::set_close_on_exec(*fd, false));
    Ok(leaving)
}

/// Whether the next program must be meant to use a connection: it stands where a program's input and output are, or nobody
/// else holds it. What a program merely inherited it will not miss.
fn is_needed(fd: Fd, file: &OpenFile) -> bool {
    fd <= 2 || file.is_last()
}

impl Leaving {
    /// The letter for the next program, which stays open across the exec.
    pub fn letter(&self) -> Option<Fd> {
        self.letter.as_ref().map(Inner::fd)
    }

    /// No handshake goes on with these, in no thread: each counts one holder more.
    fn hold(&mut self, staying: &[Staying]) {
        for (_, file) in staying {
            file.sock.holders.fetch_add(1, Ordering::AcqRel);
            self.held.push(file.clone());
            clc::put_off(file);
        }
    }

    fn release(&mut self, keep: impl Fn(&Counted<OpenFile>) -> bool) {
        self.held.retain(|file| {
            let kept = keep(file);
            if !kept {
                file.sock.holders.fetch_sub(1, Ordering::AcqRel);
            }
            kept
        });
    }

    /// What the letter does not hand over is left behind: it stays where it is as long as this process lives, which is
    /// counted among its holders. What the next program must be meant to use has to change back to TCP before.
    fn leave_behind(&mut self, staying: &[Staying], letter: Envelope) -> Result<(), Errno> {
        self.release(|file| letter.hands_over(file));
        let lost =
            |(fd, file): &&Staying| !letter.hands_over(file) && file.sock.phase() == phase::SMC && is_needed(*fd, file);
        if let Some((fd, _)) = staying.iter().filter(lost).find(|(_, file)| !ask(file, 1)) {
            log::debug(format_args!("exec: descriptor {fd} has moved to shared memory, which the program cannot use"));
            self.release(|_| false);
            return Err(Errno::EOPNOTSUPP);
        }
        self.groups = group::all().into_iter().filter(|group| !letter.has(group)).collect();
        self.passed = letter.descriptors();
        self.passed.extend(self.letter());
        Ok(())
    }

    /// The process goes on as it was.
    pub fn exec_failed(mut self) {
        self.passed.iter().for_each(|fd| call::set_close_on_exec(*fd, true));
        group::count(&self.groups, true);
        self.closing.iter().for_each(|file| file.returns_from_exec());
        self.release(|_| false);
    }
}
