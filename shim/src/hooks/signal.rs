//! Signal handlers: installed behind a trampoline when they do not restart calls (see [`crate::signals`]).

use crate::signals::{self, Handler};
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use libc::{sighandler_t, siginfo_t};
use preloop_sys::{Errno, errno, real};

/// Runs in place of a handler without SA_RESTART: leaves the mark, then calls it.
extern "C" fn trampoline(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    signals::mark();
    let handler = signals::behind(signal).address;
    if !matches!(handler, libc::SIG_DFL | libc::SIG_IGN) {
        // SAFETY: the address is the program's handler of this signal. One that takes the number alone ignores the rest,
        // which the calling conventions of Linux pass in registers.
        unsafe {
            let call: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = core::mem::transmute(handler);
            call(signal, info, context);
        }
    }
}

fn trampoline_address() -> usize {
    trampoline as *const () as usize
}

/// What the program is to see of an action that the kernel tells.
fn shown(mut action: libc::sigaction, behind: Handler) -> libc::sigaction {
    if action.sa_sigaction == trampoline_address() {
        action.sa_sigaction = behind.address;
        action.sa_flags = action.sa_flags & !libc::SA_SIGINFO | behind.flags & libc::SA_SIGINFO;
    }
    action
}

/// Installs an action, or with `None` asks for it; answers the one before, as the program gave it.
fn act(signal: c_int, action: Option<libc::sigaction>) -> Result<libc::sigaction, c_int> {
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    let wish = action.map(|action| Handler { address: action.sa_sigaction, flags: action.sa_flags });
    let marked = wish.filter(|wish| signals::needs_mark(signal, *wish));
    // Put there first: the handler may run before the call returns.
    let behind = marked.map_or_else(|| signals::behind(signal), |wish| signals::put_behind(signal, wish));
    let install = action.map(|mut action| {
        if marked.is_some() {
            signals::set_trampoline(trampoline_address());
            action.sa_sigaction = trampoline_address();
            action.sa_flags |= libc::SA_SIGINFO;
        }
        action
    });
    let install = install.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: a valid action or null, and room for the one before.
    let done = unsafe { real::sigaction(signal, install, before.as_mut_ptr()) };
    if done < 0 {
        if marked.is_some() {
            signals::put_behind(signal, behind);
        }
        return Err(done);
    }
    // SAFETY: zeroed at first, and filled by the kernel.
    Ok(shown(unsafe { before.assume_init() }, behind))
}

/// sigaction(2).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(signal: c_int, action: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
    // SAFETY: the program's pointer, null or valid.
    let answer = act(signal, unsafe { action.as_ref() }.copied());
    match answer {
        Ok(before) => {
            if !old.is_null() {
                // SAFETY: the program's pointer.
                unsafe { *old = before };
            }
            0
        }
        Err(failed) => failed,
    }
}

/// The C library's other name of it.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sigaction(
    signal: c_int,
    action: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the program's.
    unsafe { sigaction(signal, action, old) }
}

/// An action with this handler and flags, which lets other signals through; `own`: but not itself.
fn plain(signal: c_int, handler: sighandler_t, flags: c_int, own: bool) -> libc::sigaction {
    // SAFETY: sigaction and its set are plain data; the calls fill the set.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        libc::sigemptyset(&raw mut action.sa_mask);
        if own {
            libc::sigaddset(&raw mut action.sa_mask, signal);
        }
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        action
    }
}

fn install(signal: c_int, handler: sighandler_t, flags: c_int, own: bool) -> sighandler_t {
    if handler == libc::SIG_ERR || !(1..=signals::SIGNALS as c_int).contains(&signal) {
        errno::set(Errno::EINVAL);
        return libc::SIG_ERR;
    }
    act(signal, Some(plain(signal, handler, flags, own))).map_or(libc::SIG_ERR, |before| before.sa_sigaction)
}

/// signal(2) as BSD and glibc have it: restarts calls, unless siginterrupt(3) said otherwise.
#[unsafe(export_name = "signal")]
pub extern "C" fn bsd_signal_hook(signal: c_int, handler: sighandler_t) -> sighandler_t {
    let flags = if signals::is_interrupting(signal) { 0 } else { libc::SA_RESTART };
    install(signal, handler, flags, true)
}

/// Another name of signal(2).
#[unsafe(no_mangle)]
pub extern "C" fn bsd_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    bsd_signal_hook(signal, handler)
}

/// signal(2) as System V had it: once, and calls are interrupted.
#[unsafe(no_mangle)]
pub extern "C" fn sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    install(signal, handler, libc::SA_RESETHAND | libc::SA_NODEFER, false)
}

/// The name under which programs built for System V semantics find it.
#[unsafe(no_mangle)]
pub extern "C" fn __sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    sysv_signal(signal, handler)
}

/// siginterrupt(3).
#[unsafe(no_mangle)]
pub extern "C" fn siginterrupt(signal: c_int, interrupts: c_int) -> c_int {
    let Ok(mut action) = act(signal, None) else { return -1 };
    signals::set_interrupting(signal, interrupts != 0);
    if interrupts != 0 {
        action.sa_flags &= !libc::SA_RESTART;
    } else {
        action.sa_flags |= libc::SA_RESTART;
    }
    act(signal, Some(action)).map_or(-1, |_| 0)
}
