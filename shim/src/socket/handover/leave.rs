//! Before exec: what ends, what is handed over, what cannot be.

use super::envelope::Envelope;
use super::next::Next;
use crate::fdtable;
use crate::fork;
use crate::log;
use crate::process;
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::group::{self, Group};
use crate::socket::sock::phase;
use crate::socket::users;
use preloop_shm::counted::Counted;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call};
use preloop_uapi::decline::Decline;
use preloop_uapi::sync::Ordering;
use std::sync::{Arc, MutexGuard};

/// What was done for an exec, and is undone when that failed.
#[derive(Debug)]
pub struct Leaving {
    closing: Vec<Counted<OpenFile>>,
    groups: Vec<Arc<Group>>,
    letter: Option<Inner>,
    passed: Vec<Fd>,
    _no_fork: Option<MutexGuard<'static, ()>>,
}

impl Leaving {
    /// The letter for the next program, which stays open across the exec.
    pub fn letter(&self) -> Option<Fd> {
        self.letter.as_ref().map(Inner::fd)
    }
}

/// A socket, and a descriptor of it that stays open.
pub type Staying = (Fd, Counted<OpenFile>);

/// Sockets whose descriptors are all close-on-exec, and those that stay.
fn sort() -> (Vec<Counted<OpenFile>>, Vec<Staying>) {
    let mut closing: Vec<Counted<OpenFile>> = Vec::new();
    let mut staying: Vec<Staying> = Vec::new();
    fdtable::for_each(|fd, file| {
        if call::closes_on_exec(fd) {
            closing.push(file);
        } else if !staying.iter().any(|(_, other)| other.same(&file)) {
            staying.push((fd, file));
        }
    });
    closing.sort_by_key(|file| core::ptr::from_ref::<OpenFile>(file).addr());
    closing.dedup_by(|one, other| one.same(other));
    closing.retain(|file| !staying.iter().any(|(_, other)| other.same(file)));
    (closing, staying)
}

/// Before another program takes the process over. `next` answers which one; asked only if a socket stays open.
///
/// # Errors
/// EOPNOTSUPP: the next program would find a connection that has moved, and nothing that could read it.
pub fn before_exec(next: impl FnOnce() -> Next) -> Result<Leaving, Errno> {
    let mut leaving =
        Leaving { closing: Vec::new(), groups: Vec::new(), letter: None, passed: Vec::new(), _no_fork: None };
    if process::is_uncounted() || fork::is_inside() {
        return Ok(leaving);
    }
    leaving._no_fork = Some(fork::alone());
    let (closing, staying) = sort();
    let mut letter = Envelope::default();
    if !staying.is_empty() {
        staying.iter().for_each(|(_, file)| clc::put_off(file));
        match next() {
            Next::None => return Ok(leaving),
            Next::Bare => {}
            Next::Preloaded => {
                staying.iter().for_each(|(fd, file)| letter.add(*fd, file));
                leaving.letter = letter.seal().ok();
            }
        }
        if leaving.letter.is_none() {
            letter = Envelope::default();
        }
        let left = staying.iter().filter(|(_, file)| !letter.hands_over(file));
        leave_behind(left, is_needed)?;
    }
    leaving.groups = group::all().into_iter().filter(|group| !letter.has(group)).collect();
    leaving.passed = letter.descriptors();
    leaving.passed.extend(leaving.letter());
    for file in &closing {
        clc::put_off(file);
    }
    leaving.closing = closing;
    leaving.count(false);
    Ok(leaving)
}

/// The next program will not know of these: they stay on TCP, unless they have moved. Then it fails for those that
/// `is_needed` there.
///
/// # Errors
/// EOPNOTSUPP.
pub fn leave_behind<'a>(
    left: impl Iterator<Item = &'a Staying>,
    is_needed: impl Fn(Fd, &OpenFile) -> bool,
) -> Result<(), Errno> {
    for (fd, file) in left {
        // A listening socket moves nothing, and what this process accepts from it, or its siblings do, is unknown there.
        if file.sock.phase() == phase::INIT {
            continue;
        }
        if !clc::pin(file, Decline::OPTION) && is_needed(*fd, file) {
            log::debug(format_args!("exec: descriptor {fd} has moved to shared memory, which the program cannot use"));
            return Err(Errno::EOPNOTSUPP);
        }
    }
    Ok(())
}

/// Whether the next program must be meant to use a connection: it stands where a program's input and output are, or nobody
/// else holds it. What a program merely inherited it will not miss.
fn is_needed(fd: Fd, file: &OpenFile) -> bool {
    fd <= 2 || file.sock.holders.load(Ordering::Acquire) == 1
}

impl Leaving {
    fn count(&self, back: bool) {
        for sock in self.closing.iter().map(|file| file.sock) {
            if back {
                users::enlist(sock);
                sock.holders.fetch_add(1, Ordering::AcqRel);
                sock.users.fetch_add(1, Ordering::AcqRel);
            } else {
                users::leaves(sock);
                sock.holders.fetch_sub(1, Ordering::AcqRel);
                sock.users.fetch_sub(1, Ordering::AcqRel);
            }
        }
        group::count(&self.groups, back);
        self.passed.iter().for_each(|fd| call::set_close_on_exec(*fd, back));
    }

    /// The process goes on as it was.
    pub fn exec_failed(self) {
        self.count(true);
    }
}
