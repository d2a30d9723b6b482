//! How the pump of one process wakes for a mux that several have, and not those of all.
//!
//! The set of a mux that one process has lies in the pump's. If it did so in all of several processes, the kernel would wake
//! every pump for each arrival. So what lies in the mux's set then lies in the pump's own as well, TCP sockets with
//! EPOLLEXCLUSIVE: of the pumps that are asleep at that moment the kernel wakes the first. One that is at work, stopped or
//! gone is passed over. It is a waking and nothing more: what there is to do lies in the mux's set of each process, and whoever
//! looks does it.
//!
//! So nothing is lost but a waking, with a process that is killed before it has looked. The others hear of its end, and look:
//! each process has opened the mux's memory a second time, for itself alone, and the kernel tells when such an opening ends
//! (inotify's IN_CLOSE_WRITE), however that comes about. It ends later where a child that no hook saw has it too.
//!
//! Where a process cannot have that (no descriptor left, no `/proc`, too many inotify instances of one user, a filter of system
//! calls) the mux's set lies in its pump's as before, and it wakes for everything.

use super::local::Local;
use super::mux::Mux;
use crate::process;
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, event};

/// The mark of a process's end in what the pump's set keeps, beside the mux's number.
pub const END: u64 = 1 << 63;

/// The wakings of one mux in this process.
#[derive(Debug)]
pub struct Alarm {
    /// The pump's set, while the mux's members lie in it; else -1.
    pump: Fd,
    number: u64,
    /// Where the kernel tells of ends: an inotify instance, which forked siblings share.
    ends: Fd,
    /// The opening of the mux's memory that ends with this process.
    life: Fd,
}

impl Alarm {
    /// A mux's that no other process has.
    pub const OFF: Self = Self { pump: -1, number: 0, ends: -1, life: -1 };

    /// Whether the mux's members lie in the pump's set.
    pub fn is_on(&self) -> bool {
        self.pump >= 0
    }

    fn begin(&mut self, memfd: Fd, pump: Fd, number: u64) -> Result<(), Errno> {
        if self.ends < 0 {
            self.ends = process::adopt(Inner::from_raw(event::watch_closing(memfd)?).move_high());
        }
        let life = Inner::from_raw(call::reopen(memfd, libc::O_RDWR | libc::O_CLOEXEC)?).move_high();
        event::epoll_ctl(pump, libc::EPOLL_CTL_ADD, self.ends, (libc::EPOLLIN | libc::EPOLLET) as u32, number | END)?;
        (self.life, self.pump, self.number) = (process::adopt(life), pump, number);
        Ok(())
    }

    /// A member was added to the mux's set. The pump wakes for these events.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC.
    pub fn add(&self, fd: Fd, events: u32) -> Result<(), Errno> {
        if !self.is_on() {
            return Ok(());
        }
        event::epoll_ctl(self.pump, libc::EPOLL_CTL_ADD, fd, events | libc::EPOLLET as u32, self.number)
    }

    /// A member was taken out of it.
    pub fn remove(&self, fd: Fd) {
        if self.is_on() {
            let _ = event::epoll_ctl(self.pump, libc::EPOLL_CTL_DEL, fd, 0, 0);
        }
    }

    /// The pump was told of an end: it is to be told of the next one.
    pub fn heard(&self) {
        while call::read(self.ends, &mut [0; 256]).is_ok() {}
    }

    /// In a forked child: its parent's are the parent's.
    pub fn forget(&mut self) {
        self.pump = -1;
        process::disown(core::mem::replace(&mut self.life, -1));
    }

    /// Closes all descriptors.
    pub fn give_up(&mut self) {
        self.forget();
        process::disown(core::mem::replace(&mut self.ends, -1));
    }
}

/// From now on the pump, which sleeps in the set `pump`, wakes for a mux when no other one does. Others hear when this process
/// ends.
///
/// # Errors
/// EMFILE and its like; ENOENT without `/proc`. Then all is as before.
pub fn begin(mux: &Mux, local: &mut Local, pump: Fd) -> Result<(), Errno> {
    if local.alarm.is_on() {
        return Ok(());
    }
    local.alarm.begin(mux.memfd(), pump, mux.number())?;
    let added = local.watched(mux.kick_fd()).try_for_each(|(fd, events)| local.alarm.add(fd, events));
    if added.is_err() {
        end(mux, local);
    }
    added
}

/// The pump wakes for a mux no more. Others look for what it may have been woken for.
pub fn end(mux: &Mux, local: &mut Local) {
    if local.alarm.is_on() {
        local.watched(mux.kick_fd()).for_each(|(fd, _)| local.alarm.remove(fd));
        local.alarm.remove(local.alarm.ends);
        local.alarm.forget();
    }
}
