//! Children that cannot be counted among the holders of a socket: the C library makes them inside itself (system, popen), or
//! they are made where locks may not be taken and nothing may be allocated (`_Fork`, clone(2)). What such a child gets, and
//! has not moved by then, stays on TCP, where all who have it can use it.
//!
//! A child that shares the memory of its parent runs with the library's tables, and does nothing to them
//! ([`process::is_uncounted`]). One with a copy of it knows no descriptor from the start: they
//! all are the kernel's alone.

use crate::fdtable;
use crate::fork;
use crate::process;
use crate::socket::clc;
use preloop_sys::{Fd, call};

/// What a child gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gets {
    /// No descriptors of its own: it shares those of its parent, and the memory in which the library knows them.
    Nothing,
    /// The descriptors that stay open across exec: it is another program before anything else happens.
    Open,
    /// All descriptors.
    All,
}

/// Such a child is about to be made. Good for signal handlers.
pub fn before(gets: Gets) {
    if gets == Gets::Nothing || fork::is_inside() {
        return;
    }
    fdtable::for_each_unfreed(|fd, file| {
        if gets == Gets::All || !call::closes_on_exec(fd) {
            clc::forgo(file);
        }
    });
}

/// In a child with a copy of its parent's memory.
pub fn in_copy() {
    process::copied();
    fdtable::abandon_all();
}

/// In a child that shares its parent's memory: it means to go on with a descriptor after exec.
pub fn uses(fd: Fd) {
    if let Some(file) = fdtable::get(fd) {
        clc::forgo(&file);
        file.let_go_unfreed();
    }
}
