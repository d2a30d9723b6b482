//! The pump: one thread of a process that has TCP sockets attached to muxes. It stands where the kernel has its work
//! queues (`kstrp`, `kcmd`): it reads and sends when no call of the program is about it.
//! Calls that receive without pause do that themselves ([`super::readers`]).

use super::entered;
use super::local::Local;
use super::mux::Mux;
use super::registry;
use crate::process;
use core::cell::Cell;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, clock, event, process as sys};
use std::sync::{Arc, Mutex, MutexGuard};

/// The epoll set that the pump of this process sleeps in: the sets of all muxes. It belongs to the process of this number.
struct Pump {
    set: Fd,
    pid: u32,
}

static PUMP: Mutex<Pump> = Mutex::new(Pump { set: -1, pid: 0 });

/// Muxes that the pump hears of at a time.
const AT_A_TIME: usize = 16;
/// How long calls that receive without pause may leave undone what is not theirs, in nanoseconds.
const ON_THEIR_OWN: u64 = 200_000;
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
pub fn start(mux: &Arc<Mux>, local: &Local) -> Result<(), Errno> {
    let mut pump = PUMP.lock().unwrap_or_else(|e| e.into_inner());
    if pump.pid != process::pid() {
        let set = Inner::from_raw(event::epoll_create()?).move_high();
        let fd = set.fd();
        sys::spawn("preloop-kcm", STACK, move || run(fd))?;
        process::disown(core::mem::replace(&mut pump.set, process::adopt(set)));
        pump.pid = process::pid();
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
pub fn stop(local: &Local) {
    let pump = PUMP.lock().unwrap_or_else(|e| e.into_inner());
    if pump.pid == process::pid() {
        let _ = event::epoll_ctl(pump.set, libc::EPOLL_CTL_DEL, local.set, 0, 0);
    }
}

/// The pump hears of a mux's set again.
pub fn hear(mux: &Mux, local: &Local) {
    listen(mux, local.set, libc::EPOLLIN as u32);
}

fn listen(mux: &Mux, set: Fd, events: u32) {
    let pump = PUMP.lock().unwrap_or_else(|e| e.into_inner());
    let _ = event::epoll_ctl(pump.set, libc::EPOLL_CTL_MOD, set, events, mux.number());
}

/// A mux whose readers are on their own, and how often they had asked its set when it was last looked at.
struct OnTheirOwn {
    mux: u64,
    asked: u32,
}

impl OnTheirOwn {
    /// Whether they still are.
    fn look(&mut self) -> bool {
        let Some(mux) = registry::find(self.mux) else { return false };
        if mux.readers.go_on(&mut self.asked) {
            return true;
        }
        let _at_work = AT_WORK.lock().unwrap_or_else(|e| e.into_inner());
        let Ok(mut entered) = mux.enter() else { return true };
        entered.serve_all();
        if mux.readers.have_stopped() {
            hear(&mux, &entered.local);
        }
        false
    }
}

/// A mux's set has something. What there is to do is done, or left to its readers.
fn serve(number: u64) -> Option<OnTheirOwn> {
    let mux = registry::find(number)?;
    let _at_work = AT_WORK.lock().unwrap_or_else(|e| e.into_inner());
    if !mux.readers.are_busy(clock::now()) {
        mux.serve();
        return None;
    }
    let set = mux.local().set;
    listen(&mux, set, 0);
    let Some(asked) = mux.readers.left_on_their_own() else {
        listen(&mux, set, libc::EPOLLIN as u32);
        return None;
    };
    Some(OnTheirOwn { mux: number, asked })
}

fn run(set: Fd) {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_A_TIME];
    let (mut on_their_own, mut look_at) = (Vec::new(), 0u64);
    loop {
        let is_idle = on_their_own.is_empty();
        if !is_idle {
            event::poll_for(set, libc::POLLIN, look_at.saturating_sub(clock::now()));
        }
        let count = match event::epoll_wait(set, &mut events, if is_idle { -1 } else { 0 }) {
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        for new in events[..count].iter().filter_map(|event| serve(event.u64)) {
            on_their_own.retain(|old: &OnTheirOwn| old.mux != new.mux);
            on_their_own.push(new);
        }
        let now = clock::now();
        if is_idle || look_at <= now {
            if !is_idle {
                on_their_own.retain_mut(OnTheirOwn::look);
            }
            look_at = now + ON_THEIR_OWN;
        }
    }
}
