//! fork(2): what must hold still in the parent, what is counted, and what the child has to make anew.

use crate::fdtable::{self, FILES, SETS};
use crate::process;
use crate::socket::{bell, clc, group};
use preloop_shm::counted::Counted;
use preloop_uapi::sync::Ordering;

use crate::socket::file::OpenFile;

/// Every open file once, however many descriptors stand for it.
fn files() -> Vec<Counted<OpenFile>> {
    let mut files: Vec<Counted<OpenFile>> = Vec::new();
    fdtable::for_each(|_, file| {
        if !files.iter().any(|known| known.same(&file)) {
            files.push(file);
        }
    });
    files
}

/// Runs `fork` while every lock of the library is held by this thread, so that the child finds none taken by a thread
/// it does not have.
pub fn fork(fork: impl FnOnce() -> i32) -> i32 {
    let files = files();
    // Handshakes under way are put off: their Unix sockets and offers belong to one process.
    files.iter().for_each(|file| clc::put_off(file));
    count(&files, true);
    let sets = fdtable::sets();
    let mut child = -1;
    let mut all: Box<dyn FnOnce() + '_> =
        Box::new(|| child = bell::hold(|| group::hold(|| FILES.hold(|| SETS.hold(fork)))));
    for file in &files {
        let inner = all;
        all = Box::new(move || file.hold(inner));
    }
    for set in &sets {
        let inner = all;
        all = Box::new(move || set.hold(inner));
    }
    all();
    match child {
        0 => in_child(),
        -1 => count(&files, false),
        _ => {}
    }
    child
}

fn count(files: &[Counted<OpenFile>], more: bool) {
    for file in files {
        if more {
            file.sock.holders.fetch_add(1, Ordering::AcqRel);
        } else {
            file.sock.holders.fetch_sub(1, Ordering::AcqRel);
        }
    }
    group::count_holders(more);
}

fn in_child() {
    process::renew();
    bell::forget_all();
    group::after_fork();
}
