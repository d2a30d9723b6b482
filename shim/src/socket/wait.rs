//! Waiting: look, spin for at most about what a sleep costs, then sleep in the kernel on the bell and the TCP socket.
//!
//! The TCP socket T is always among what a thread sleeps on, so that FIN, RST, the peer's death, signals and time-outs
//! wake it as they wake any socket. Nothing here has a time-out of its own: what the program did not limit sleeps until
//! something happens.

use crate::process;
use crate::signals;
use crate::socket::bell::{self, Bell};
use crate::socket::file::{OpenFile, Watcher};
use crate::socket::kcm::lower;
use crate::socket::link::Link;
use crate::socket::sock::flag;
use crate::socket::stuck;
use preloop_shm::counted::Counted;
use preloop_sys::{Errno, Fd, call, clock, event, sleep};
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

/// Nanoseconds that a new connection spins before its first sleep.
pub const SPIN_FIRST: u32 = 20_000;
/// About what a sleep and a wake-up across processors cost.
const SPIN_MOST: u32 = 60_000;
/// Below this, spinning is given up until a short sleep says that it would have been worth while.
const SPIN_LEAST: u32 = 1_000;
/// A sleep shorter than this, wake-ups at both ends included, was for a peer that answers at once.
const SHORT_SLEEP: u64 = 120_000;

/// Nanoseconds of the monotonic clock at which a wait ends; `None` is never.
pub type Deadline = Option<u64>;

/// The deadline that SO_RCVTIMEO or SO_SNDTIMEO of a socket gives a call that starts to wait now.
pub fn deadline_of(file: &OpenFile, fd: Fd, option: i32) -> Deadline {
    let passed = if option == libc::SO_RCVTIMEO { flag::RX_AT_ONCE } else { flag::TX_AT_ONCE };
    match call::timeout_option(fd, option) {
        0 if file.sock.has(passed) => Some(0),
        0 => None,
        nanoseconds => Some(clock::now().saturating_add(nanoseconds)),
    }
}

/// Whether spinning can help: the peer last ran on another processor.
pub fn peer_elsewhere(peer_cpu: u32) -> bool {
    peer_cpu != 0 && peer_cpu != clock::cpu()
}

/// Spins while it is worth it; `true` when `ready` came true. What spinning was worth is remembered in `memory`: a
/// success makes the next spin longer, a failure shorter, until none is left; see [`learn`].
pub fn spin(memory: &std::sync::atomic::AtomicU32, deadline: Deadline, mut ready: impl FnMut() -> bool) -> bool {
    let worth = memory.load(Ordering::Relaxed);
    if worth < SPIN_LEAST {
        return false;
    }
    let start = clock::now();
    let end = deadline.map_or(start + u64::from(worth), |deadline| deadline.min(start + u64::from(worth)));
    loop {
        for _ in 0..32 {
            if ready() {
                memory.store((worth + worth / 2).min(SPIN_MOST), Ordering::Relaxed);
                return true;
            }
            core::hint::spin_loop();
        }
        if clock::now() >= end {
            memory.store(worth / 4, Ordering::Relaxed);
            return false;
        }
    }
}

/// Remembers how long a sleep took: where spinning was given up, a short one starts it again.
pub fn learn(memory: &std::sync::atomic::AtomicU32, fell_asleep: u64) {
    if memory.load(Ordering::Relaxed) < SPIN_LEAST && clock::now().wrapping_sub(fell_asleep) < SHORT_SLEEP {
        memory.store(SPIN_FIRST, Ordering::Relaxed);
    }
}

/// A thread among the waiters of one or more connections, while it sleeps.
pub struct Sleeper {
    bell: Arc<Bell>,
    places: Vec<Place>,
    /// Is told of TCP sockets that KCM attaches.
    hears_of_attaching: bool,
}

struct Place {
    file: Counted<OpenFile>,
    link: Option<Arc<Link>>,
    slot: Option<usize>,
    /// Is to be taken off the connection's waiters again.
    entered: bool,
}

impl Sleeper {
    /// A thread that is about to sleep.
    ///
    /// # Errors
    /// EMFILE and the like: there is no bell to sleep on.
    pub fn new() -> Result<Self, Errno> {
        let bell = bell::borrow()?;
        bell.fall_asleep();
        Ok(Self { bell, places: Vec::new(), hears_of_attaching: false })
    }

    /// Enters the waiters of a connection: whoever moves it, or has news, from now on rings the bell. The caller looks
    /// at the connection again afterwards. Without `hears_peer` it is only this process that rings.
    pub fn join(&mut self, file: &Counted<OpenFile>, hears_peer: bool) {
        file.watch(Watcher::Thread(self.bell.clone()));
        // Offered memory counts: the peer may confirm it, and use it, while this thread sleeps.
        let link = file.prepared().filter(|_| hears_peer);
        let slot = link.as_ref().and_then(|link| link.group.slot_of(&self.bell));
        let mut entered = false;
        if let (Some(link), Some(slot)) = (&link, slot) {
            entered = link.enter_waiter(file, slot as u16 + 1);
            link.group.declare(slot, self.bell.seq.load(std::sync::atomic::Ordering::Relaxed));
        }
        self.places.push(Place { file: file.clone(), link, slot, entered });
    }

    /// From now on the bell rings when KCM attaches a TCP socket. The caller looks afterwards which of its descriptors are
    /// known.
    pub fn hears_of_attaching(self) -> Self {
        lower::watch_attaching(&self.bell);
        Self { hears_of_attaching: true, ..self }
    }

    /// The descriptor to sleep on.
    pub fn bell(&self) -> Fd {
        self.bell.fd()
    }

    /// The deadline, or an earlier time when some peer has no way to ring: its side of the group has no room for one
    /// more waiter.
    pub fn until(&self, deadline: Deadline) -> Deadline {
        let deaf = self.places.iter().any(|place| place.link.is_some() && place.slot.is_none());
        if deaf { sooner(deadline) } else { deadline }
    }

    /// Something woke it: a new sleep begins, on the same bell. The caller looks again afterwards.
    pub fn begins_anew(&self) {
        self.bell.hush();
        let seq = self.bell.wake_up(true);
        for place in &self.places {
            if let (Some(link), Some(slot)) = (&place.link, place.slot) {
                link.group.declare(slot, seq);
            }
        }
    }

    /// The sleep is over; `rang`: the bell did.
    pub fn leave(self, rang: bool) {
        let seq = self.bell.wake_up(false);
        if self.hears_of_attaching {
            lower::unwatch_attaching(&self.bell);
        }
        for place in self.places {
            if let (Some(link), Some(slot)) = (&place.link, place.slot) {
                link.group.declare(slot, seq);
                if place.entered {
                    link.leave_waiter(&place.file, slot as u16 + 1);
                }
            }
            place.file.unwatch_thread(&self.bell);
        }
        if rang {
            self.bell.hush();
        }
        bell::give_back(self.bell);
    }
}

/// How long a waiter that cannot be rung (no descriptor for a bell, no slot) sleeps before it looks again.
const DEAF_NANOSECONDS: u64 = 2_000_000;

/// A sleep of one call on one connection.
#[derive(Clone, Copy)]
pub struct Sleep {
    /// Of the TCP socket, what ends it.
    pub events: i16,
    /// When it ends anyway.
    pub deadline: Deadline,
    /// The call may begin anew after a signal handler with SA_RESTART: it has moved no bytes.
    pub restartable: bool,
    /// It ends after a moment, too, for what no event tells of.
    pub looks_again: bool,
}

/// Sleeps until an event of the TCP socket, the bell, or the deadline; not at all when `ready` is true once everybody
/// knows of the sleep. The caller looks again afterwards, whatever woke it.
///
/// # Errors
/// EAGAIN at the deadline; EINTR when a signal handler ran and the call does not go on after it: because of the handler,
/// or because it is not `restartable`, having moved some bytes already, which it then answers.
pub fn sleep(file: &Counted<OpenFile>, fd: Fd, how: Sleep, ready: impl FnOnce() -> bool) -> Result<(), Errno> {
    let Sleep { events, deadline, restartable, looks_again } = how;
    signals::clear_mark();
    if deadline.is_some_and(|deadline| clock::now() >= deadline) {
        return Err(Errno::EAGAIN);
    }
    let Ok(mut sleeper) = Sleeper::new() else { return deaf_sleep(fd, how, ready) };
    sleeper.join(file, true);
    // Whoever closes the last descriptor from now on keeps the socket, and rings.
    let fd = file.fd();
    if fd < 0 {
        sleeper.leave(false);
        return Err(Errno::EBADF);
    }
    if ready() {
        sleeper.leave(false);
        return Ok(());
    }
    let start = clock::now();
    let (bell, until) = (sleeper.bell(), sleeper.until(deadline));
    // Bytes on T that nobody here waits for may keep the end behind them from coming.
    let may_miss_end = events & (libc::POLLIN | libc::POLLRDHUP) == libc::POLLRDHUP;
    let until = if may_miss_end || looks_again { stuck::by_next_look(until) } else { until };
    let mut sleeper = Some(sleeper);
    let mut leave = |rang| {
        if let Some(sleeper) = sleeper.take() {
            sleeper.leave(rang);
        }
    };
    let woken = sleep::on(fd, events, bell, until, &mut || {
        leave(true);
        file.is_abandoned();
    });
    learn(&file.spin, start);
    leave(woken.as_ref().is_ok_and(|woken| woken.bell));
    let seen = woken.map(|woken| woken.events).or_else(|errno| interrupted(errno, deadline, restartable))?;
    note(file, seen);
    Ok(())
}

/// The deadline, cut to the next look of a waiter that cannot be rung.
pub fn sooner(deadline: Deadline) -> Deadline {
    if process::settings().unbounded_waits {
        return deadline;
    }
    let soon = clock::now() + DEAF_NANOSECONDS;
    Some(deadline.map_or(soon, |deadline| deadline.min(soon)))
}

fn deaf_sleep(fd: Fd, how: Sleep, ready: impl FnOnce() -> bool) -> Result<(), Errno> {
    let Sleep { events, deadline, restartable, .. } = how;
    if !ready() {
        let woken = sleep::on(fd, events, -1, sooner(deadline), &mut || {}).map(|woken| woken.events);
        woken.or_else(|errno| interrupted(errno, deadline, restartable))?;
    }
    Ok(())
}

/// A signal came. As signal(7) says, the call goes on after a handler with SA_RESTART, unless it has a time-out.
fn interrupted(errno: Errno, deadline: Deadline, restartable: bool) -> Result<i16, Errno> {
    let restarts = || {
        let handler_restarts = !signals::is_marked() && sleep::other_handlers_restart(signals::trampoline());
        restartable && deadline.is_none() && handler_restarts
    };
    if errno == Errno::EINTR && restarts() { Ok(0) } else { Err(errno) }
}

/// Remembers what the kernel said of the TCP socket. Bytes where none should be are dropped: if it told of any, without the rx lock.
pub fn note(file: &OpenFile, events: i16) {
    let mut flags = 0;
    if events & (libc::POLLRDHUP | libc::POLLHUP) != 0 {
        flags |= flag::FIN;
    }
    if events & libc::POLLERR != 0 {
        flags |= flag::ERROR;
    }
    if flags != 0 {
        file.sock.raise(flags);
    } else if events & libc::POLLIN != 0 {
        stuck::drop_strays(file);
    }
}

/// Nanoseconds after which a look at the kernel's socket is too old to conclude anything from.
const LOOK_AGE: u64 = 50_000;

/// Asks the kernel for the end of the connection, unless it was asked just now: a peer that was killed says so only
/// there.
pub fn look_at_kernel(file: &OpenFile, fd: Fd) {
    let now = clock::now();
    if now.wrapping_sub(file.sock.looked_at.load(Ordering::Relaxed)) < LOOK_AGE {
        return;
    }
    file.sock.looked_at.store(now, Ordering::Relaxed);
    note(file, event::poll_now(fd, libc::POLLRDHUP));
    stuck::look(file, fd);
}

/// What a sleeper has the kernel tell of the TCP socket of a connection of which it waits for what comes through a ring: its
/// end, and, where the stream has left it, bytes.
pub fn of_end(file: &OpenFile, link: &Link) -> i16 {
    match file.sock.has(flag::FIN) {
        true => 0,
        false if stuck::are_strays(file, link) => libc::POLLRDHUP | libc::POLLIN,
        false => libc::POLLRDHUP,
    }
}
