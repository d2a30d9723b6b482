//! This end is to be on TCP again: its program is about to be replaced by one that has no library, to filter its system calls, or
//! asks for what the kernel's socket alone can do.

use super::answer::answer_locked;
use super::complete;
use super::other_end::{self, OtherEnd};
use crate::fdtable;
use crate::process;
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::sock::{flag, phase, rx_state};
use crate::socket::wait::{self, Sleeper};
use crate::socket::{rx, tx};
use preloop_shm::counted::Counted;
use preloop_smc::back::{self, Request};
use preloop_sys::process::Masked;
use preloop_sys::{Fd, clock, event, sleep};
use preloop_uapi::decline::Decline;
use preloop_uapi::ring::shut;
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

/// Nanoseconds that the peer has to answer. One that sleeps in a call, or makes one now and then, does within a millisecond,
/// or when it comes to run; one that computes, or was stopped, may not for long. The call may take as long as what each
/// program on TCP puts up with: the time after which TCP sends again what was lost (RFC 6298).
const PATIENCE: u64 = 1_000_000_000;

/// So long it may take to do what it has begun: longer than it waits for TCP itself. The bytes come later then, or a reset.
const LAST_PATIENCE: u64 = 3_000_000_000;

/// The program wants of the kernel's socket what shared memory cannot carry: from now on the connection stays on TCP, whether
/// it has moved or not. `false`: it has, its peer does not change it back, and the wish cannot be fulfilled. For hooks, without
/// locks; a process that filters its system calls makes none that it did not make before.
pub fn pin(file: &Counted<OpenFile>) -> bool {
    clc::pin(file, Decline::OPTION) || (!process::is_filtered() && !process::is_uncounted() && ask(file, 1))
}

/// As [`pin`], where the wish concerns what follows and not what is unread: it can be fulfilled, too, when all that follows is
/// TCP's.
pub fn pin_what_follows(file: &Counted<OpenFile>) -> bool {
    let is_over = |link: &Arc<Link>| {
        let sends = !link.peer_closed() && file.sock.tx_in_ring();
        !sends && sends_no_more(file, link, file.fd())
    };
    pin(file) || (!process::is_filtered() && file.link().is_some_and(is_over))
}

/// Has a connection that has moved change back to TCP, so that the kernel, or a program without the library, can go on with
/// it. Answers whether it is on TCP now. `users`: processes that use the socket if no other than this one does, which may count for a
/// child that is to be.
pub fn ask(file: &Counted<OpenFile>, users: u32) -> bool {
    let sock = file.sock;
    let Some(link) = file.link().cloned() else { return sock.phase() == phase::TCP };
    if file.is_attached() || sock.has(flag::STAYS) {
        return false;
    }
    // A handler would find the locks taken for longer than a copy takes.
    let masked = Masked::begin();
    let waiting = Waiting::begin(file, OtherEnd::find(&link));
    let is_back = under_locks(file, &link, &waiting);
    waiting.end();
    drop(masked);
    if is_back {
        // Sets and threads of this process leave the block, which is the next connection's then.
        clc::tell_watchers(file);
        if sock.users.load(Ordering::Acquire) == users {
            link.leave(true);
        }
    }
    is_back
}

/// The process is about to filter its system calls: a filter that lets through what the kernel's connections need, and may
/// kill who makes another call, does not let the library sleep and ring. So what has moved changes back. All peers together
/// have the time of one: what is left then stays where it is.
pub fn ask_all() {
    let end = clock::now() + PATIENCE;
    let mut files = Vec::new();
    fdtable::for_each(|_, file| files.push(file));
    for file in files.iter().filter(|file| file.sock.phase() == phase::SMC) {
        if clock::now() >= end {
            break;
        }
        ask(file, 1);
    }
}

fn under_locks(file: &OpenFile, link: &Link, waiting: &Waiting) -> bool {
    let (sock, fd) = (file.sock, file.fd());
    let _rx = rx::lock(file);
    if sock.phase() != phase::SMC {
        return sock.phase() == phase::TCP;
    }
    let word = &link.own().rx;
    // Before the peer's own request is answered, by which it may know that nobody asks it.
    back::ask(word);
    if rx::settle(file, fd).is_err() || sock.has(flag::BROKEN) {
        back::withdraw(word);
        return false;
    }
    if sock.phase() != phase::SMC {
        return true;
    }
    let _tx = tx::lock(file);
    link.notify();
    let is_granted = is_granted(file, link, fd, waiting);
    if is_granted {
        complete(file, link, fd);
    }
    is_granted
}

/// Waits for the answer, unless none will come. Under both locks.
fn is_granted(file: &OpenFile, link: &Link, fd: Fd, waiting: &Waiting) -> bool {
    let word = &link.own().rx;
    let start = clock::now();
    loop {
        if let Some(other_end) = &waiting.other_end {
            other_end.answer();
        }
        let request = back::request(word);
        if back::is_asked(&link.peer().rx) {
            answer_locked(file, link, fd);
            link.notify();
        }
        let limit = match request {
            Request::Done => return true,
            Request::Asked => PATIENCE,
            Request::Taken => LAST_PATIENCE,
            Request::Refused | Request::None => {
                back::acknowledge(word);
                return false;
            }
        };
        let has_ended = sends_no_more(file, link, fd);
        if has_ended || clock::now() - start >= limit {
            if request == Request::Taken {
                // Decided it is; a peer that was killed meanwhile has reset the connection.
                return true;
            }
            if back::withdraw(word) {
                return has_ended && has_read_all(file, link);
            }
        } else {
            waiting.sleep(fd, start + limit);
        }
    }
}

/// Whether nothing more comes from the peer, and no answer: it has ended, or shut its direction down while that was TCP's, or
/// its own program was replaced.
fn sends_no_more(file: &OpenFile, link: &Link, fd: Fd) -> bool {
    wait::note(file, event::poll_now(fd, libc::POLLRDHUP));
    let (line, flags) = (&link.peer().tx, flag::FIN | flag::ERROR);
    let has_shut = matches!(line.shut.load(Ordering::Acquire), shut::FIN_SENT | shut::BOTH);
    link.peer_closed() || file.sock.has(flags) || has_shut || back::is_marked(line)
}

/// Whether the ring is empty, of a peer that puts no more into it: looked at after what says so.
fn has_read_all(file: &OpenFile, link: &Link) -> bool {
    let sock = file.sock;
    let moved = sock.rx_state.load(Ordering::Relaxed) != rx_state::KERNEL;
    let data = sock.receiver.data(&link.peer().tx, link.rx_ring().size());
    !moved || data.is_ok_and(|data| data.is_empty())
}

/// What the asker waits for.
struct Waiting {
    /// What it sleeps on, if there is a bell left.
    sleeper: Option<Sleeper>,
    /// The peer, if this process is it.
    other_end: Option<OtherEnd>,
}

impl Waiting {
    fn begin(file: &Counted<OpenFile>, other_end: Option<OtherEnd>) -> Self {
        let sleeper = Sleeper::new().ok().map(|mut sleeper| {
            sleeper.join(file, true);
            sleeper
        });
        Self { sleeper, other_end }
    }

    /// Until the peer rings, the connection has an error, or the deadline; or until this process's other end is worth a look
    /// again, whose locks somebody had.
    fn sleep(&self, fd: Fd, deadline: u64) {
        let deadline = self.other_end.as_ref().map_or(deadline, |_| deadline.min(clock::now() + other_end::A_MOMENT));
        let soon = wait::sooner(Some(deadline)).unwrap_or(deadline);
        let until = self.sleeper.as_ref().map_or(soon, |sleeper| sleeper.until(Some(deadline)).unwrap_or(deadline));
        let bell = self.sleeper.as_ref().map_or(-1, Sleeper::bell);
        sleep::quietly_on_either([(bell, libc::POLLIN), (fd, libc::POLLRDHUP)], until);
        if let Some(sleeper) = &self.sleeper {
            sleeper.begins_anew();
        }
    }

    fn end(self) {
        if let Some(sleeper) = self.sleeper {
            sleeper.leave(true);
        }
    }
}
