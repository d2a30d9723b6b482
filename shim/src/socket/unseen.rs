//! Who waits past the library: epoll sets that inline system calls made (rustix does so, and with it smol and async-std), a
//! library loaded with RTLD_DEEPBIND, or the program before this one. They hear of the kernel's socket alone, so connections of
//! a process that has one do not move. (Instances of io_uring that were made so are not looked for: mariadb, which has one for
//! its files, is not to stay on TCP for that.)

use crate::fdtable;
use preloop_sys::unix::Inner;
use preloop_sys::{Fd, call, event};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Numbers below which each look tries all: the kernel gives the lowest free one, and event loops are made early.
const LOW: Fd = 64;

/// One was found: it may go, and another come.
static FOUND: AtomicBool = AtomicBool::new(false);

/// Looks so far.
static LOOKS: AtomicU32 = AtomicU32::new(0);

/// Whether the process has one, as far as is known. A look tries the numbers of its descriptors below `fd`, a connection that
/// is about to move: the low ones always, the others ever more rarely.
pub fn waits(fd: Fd) -> bool {
    if FOUND.load(Ordering::Relaxed) {
        return true;
    }
    let looks = LOOKS.fetch_add(1, Ordering::Relaxed) + 1;
    let end = if looks.is_power_of_two() { fd } else { fd.min(LOW) };
    let found = (0..end).any(|fd| !fdtable::knows(fd) && !fdtable::is_inner(fd) && is_one(fd));
    if found {
        FOUND.store(true, Ordering::Relaxed);
    }
    found
}

/// Without `/proc` none is known for one.
fn is_one(fd: Fd) -> bool {
    let is_anonymous = anonymous().is_some_and(|device| call::device(fd) == Some(device));
    is_anonymous
        && std::fs::read_link(format!("/proc/self/fd/{fd}"))
            .is_ok_and(|name| name.as_os_str() == "anon_inode:[eventpoll]")
}

/// The device of all files without a place, `None` while there is no descriptor to ask for it.
fn anonymous() -> Option<u64> {
    static DEVICE: OnceLock<u64> = OnceLock::new();
    if let Some(device) = DEVICE.get() {
        return Some(*device);
    }
    let set = Inner::from_raw(event::epoll_create().ok()?);
    let device = call::device(set.fd())?;
    Some(*DEVICE.get_or_init(|| device))
}
