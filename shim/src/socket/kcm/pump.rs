//! The pump: one thread of a process that has TCP sockets attached to muxes. It stands where the kernel has its work
//! queues (`kstrp`, `kcmd`): it reads and sends when no call of the program is about it.
//! Calls that receive without pause do that themselves ([`super::readers`]).

use super::alarm::{self, END};
use super::entered;
use super::local::Local;
use super::mux::Mux;
use super::registry;
use crate::process;
use core::cell::Cell;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, clock, event, process as sys};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// The epoll set that the pump of this process sleeps in: the sets of all muxes, or of those that other processes have too what
/// lies in them ([`super::alarm`]). It belongs to the process of this number.
struct Pump {
    set: Fd,
    /// An eventfd that has the pump look at once at muxes whose readers are on their own. Made with the first alarm.
    bell: Fd,
    pid: u32,
}

impl Pump {
    fn share_alarm(&mut self, mux: &Mux, local: &mut Local) -> Result<(), Errno> {
        if process::is_filtered() {
            return Err(Errno::EPERM);
        }
        if self.bell < 0 {
            self.bell = process::adopt(Inner::from_raw(event::eventfd()?).move_high());
        }
        alarm::begin(mux, local, self.set)
    }
}

static PUMP: Mutex<Pump> = Mutex::new(Pump { set: -1, bell: -1, pid: 0 });

/// Muxes that the pump hears of at a time.
const AT_A_TIME: usize = 16;
/// How long calls that receive without pause may leave undone what is not theirs, in nanoseconds, when they have just begun to.
const ON_THEIR_OWN: u64 = 200_000;
/// And when they have gone on for some time: each look takes the processor from them, if it is the same.
const FOR_LONG: u64 = 1_600_000;
/// Bytes of the thread's stack: a parser's run takes the most of it.
const STACK: usize = 256 << 10;

/// Runs `during` while no pump starts (for fork).
pub fn hold<R>(during: impl FnOnce() -> R) -> R {
    let _held = PUMP.lock().unwrap_or_else(|e| e.into_inner());
    during()
}

/// Sees to it that the pump serves a mux.
///
/// # Errors
/// EAGAIN when the process may have no more threads, EMFILE and its like.
pub fn start(mux: &Arc<Mux>, local: &mut Local) -> Result<(), Errno> {
    let mut pump = PUMP.lock().unwrap_or_else(|e| e.into_inner());
    if pump.pid != process::pid() {
        let set = Inner::from_raw(event::epoll_create()?).move_high();
        let fd = set.fd();
        sys::spawn("preloop-kcm", STACK, move || run(fd))?;
        process::disown(core::mem::replace(&mut pump.set, process::adopt(set)));
        process::disown(core::mem::replace(&mut pump.bell, -1));
        pump.pid = process::pid();
    }
    if mux.is_shared() && pump.share_alarm(mux, local).is_ok() {
        let _ = event::epoll_ctl(pump.set, libc::EPOLL_CTL_DEL, local.set, 0, 0);
        return Ok(());
    }
    match event::epoll_ctl(pump.set, libc::EPOLL_CTL_ADD, local.set, libc::EPOLLIN as u32, mux.number()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Held by the pump while it is inside a mux.
static AT_WORK: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread keeps the pump out, or is about to.
    static RESTS: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the pump out of all muxes while it lives.
#[derive(Debug)]
pub struct Rest {
    _held: MutexGuard<'static, ()>,
    /// Dropped after it.
    _rests: Rests,
}

#[derive(Debug)]
struct Rests;

impl Drop for Rests {
    fn drop(&mut self) {
        RESTS.set(false);
    }
}

/// Keeps the pump out of all muxes while the answer lives, once it is in none: whoever is killed inside may take a message
/// with him. `None` for a signal handler that has interrupted its own thread in there, or here.
pub fn rest() -> Option<Rest> {
    if entered::is_inside() || RESTS.replace(true) {
        return None;
    }
    Some(Rest { _held: AT_WORK.lock().unwrap_or_else(|e| e.into_inner()), _rests: Rests })
}

/// The mux is no more: the pump is not to hear of its set, which a sibling may still have.
pub fn stop(mux: &Mux, local: &mut Local) {
    let pump = PUMP.lock().unwrap_or_else(|e| e.into_inner());
    if pump.pid == process::pid() {
        let _ = event::epoll_ctl(pump.set, libc::EPOLL_CTL_DEL, local.set, 0, 0);
        alarm::end(mux, local);
    }
}

/// The pump hears of a mux's set again.
pub fn hear(mux: &Mux, local: &Local) {
    if local.alarm.is_on() {
        let pump = PUMP.lock().unwrap_or_else(|e| e.into_inner());
        let _ = call::write(pump.bell, &1u64.to_ne_bytes());
    } else {
        listen(mux, local.set, libc::EPOLLIN as u32);
    }
}

fn listen(mux: &Mux, set: Fd, events: u32) {
    let pump = PUMP.lock().unwrap_or_else(|e| e.into_inner());
    let _ = event::epoll_ctl(pump.set, libc::EPOLL_CTL_MOD, set, events, mux.number());
}

fn bell() -> Fd {
    PUMP.lock().unwrap_or_else(|e| e.into_inner()).bell
}

/// Keeps who makes the pump rest out, until the answer is dropped. Where the pump itself is kept out, perhaps for good, another
/// process's is to do what this one was woken for.
fn begin_work(mux: &Mux) -> MutexGuard<'static, ()> {
    match AT_WORK.try_lock() {
        Ok(at_work) => at_work,
        Err(TryLockError::Poisoned(error)) => error.into_inner(),
        Err(TryLockError::WouldBlock) => {
            if mux.is_shared() {
                mux.kick();
            }
            AT_WORK.lock().unwrap_or_else(|e| e.into_inner())
        }
    }
}

/// A mux whose readers are on their own, and how often they had asked its set when it was last looked at.
struct OnTheirOwn {
    mux: u64,
    asked: u32,
    /// The pump cannot sleep in its set meanwhile: it would go on to wake for the mux.
    has_alarm: bool,
}

/// What the pump knows of muxes, beside what its set tells.
#[derive(Default)]
struct Known {
    on_their_own: Vec<OnTheirOwn>,
    /// When those are looked at next, and how long after the last time, in nanoseconds.
    look_at: u64,
    pause: u64,
    /// Those that may have more to do.
    unfinished: Vec<u64>,
}

impl Known {
    fn is_idle(&self) -> bool {
        self.on_their_own.is_empty() && self.unfinished.is_empty()
    }

    /// What the set tells of a mux. What there is to do is done, or left to its readers.
    fn told(&mut self, what: u64) {
        let number = what & !END;
        let Some(mux) = registry::find(number) else { return };
        if what & END != 0 {
            mux.local().alarm.heard();
        }
        // One that has an alarm goes on to be told of.
        if self.on_their_own.iter().any(|own| own.mux == number && own.has_alarm) {
            return;
        }
        let _at_work = begin_work(&mux);
        if !mux.readers.are_busy(clock::now()) {
            self.serve(&mux);
            return;
        }
        let (set, has_alarm) = {
            let local = mux.local();
            (local.set, local.alarm.is_on())
        };
        if has_alarm {
            // Whatever it rang for is over.
            let _ = call::read(bell(), &mut [0; 8]);
        } else {
            listen(&mux, set, 0);
        }
        self.on_their_own.retain(|own| own.mux != number);
        match mux.readers.left_on_their_own() {
            Some(asked) => self.leave_alone(OnTheirOwn { mux: number, asked, has_alarm }),
            // They may have left something unread for the pump's look.
            None => {
                if !has_alarm {
                    listen(&mux, set, libc::EPOLLIN as u32);
                }
                self.serve(&mux);
            }
        }
    }

    fn serve(&mut self, mux: &Arc<Mux>) {
        if mux.serve() {
            self.unfinished.push(mux.number());
        }
    }

    fn leave_alone(&mut self, own: OnTheirOwn) {
        let at = clock::now() + ON_THEIR_OWN;
        self.look_at = if self.on_their_own.is_empty() { at } else { self.look_at.min(at) };
        self.pause = ON_THEIR_OWN;
        self.on_their_own.push(own);
    }

    fn look_if_due(&mut self) {
        let now = clock::now();
        if self.on_their_own.is_empty() || now < self.look_at {
            return;
        }
        self.look();
        // Out of its set it would hear of other muxes that late.
        let keeps_out = self.on_their_own.iter().any(|own| own.has_alarm);
        self.pause = if keeps_out { ON_THEIR_OWN } else { (2 * self.pause).min(FOR_LONG) };
        self.look_at = now + self.pause;
    }

    /// Looks whether readers are still on their own, and serves the muxes of those that are not.
    fn look(&mut self) {
        let mut on_their_own = core::mem::take(&mut self.on_their_own);
        on_their_own.retain_mut(|own| {
            let Some(mux) = registry::find(own.mux) else { return false };
            if mux.readers.go_on(&mut own.asked) {
                return true;
            }
            let _at_work = begin_work(&mux);
            // Whoever leaves something unread from now on says so: he is not on his own.
            if mux.readers.have_stopped() && !own.has_alarm {
                hear(&mux, &mux.local());
            }
            // What they have borrowed comes back.
            drop(mux.enter());
            self.serve(&mux);
            false
        });
        self.on_their_own = on_their_own;
    }
}

/// Waits until the set tells something, or readers that are on their own are to be looked at. True when that is now.
fn wait_until(known: &Known, set: Fd) -> bool {
    let has_alarm = known.on_their_own.iter().any(|own| own.has_alarm);
    let on = if has_alarm { bell() } else { set };
    if known.unfinished.is_empty() {
        event::poll_for(on, libc::POLLIN, known.look_at.saturating_sub(clock::now()));
    }
    has_alarm && call::read(on, &mut [0; 8]).is_ok()
}

fn run(set: Fd) {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_A_TIME];
    let mut known = Known::default();
    loop {
        let is_idle = known.is_idle();
        if !known.on_their_own.is_empty() && wait_until(&known, set) {
            known.look_at = 0;
        }
        let count = match event::epoll_wait(set, &mut events, if is_idle { -1 } else { 0 }) {
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        let unfinished = core::mem::take(&mut known.unfinished);
        events[..count].iter().map(|event| event.u64).chain(unfinished).for_each(|what| known.told(what));
        known.look_if_due();
    }
}
