//! Who will receive what is sent on a Unix socket: whether it is known to have the library.
//!
//! The kernel names the process that connected the other end, or listened for this one, or made the pair (SO_PEERCRED). It
//! may have given it away since, to a child or to another program, so this is an estimate. It errs on the safe side when
//! that process is not preloaded, or is gone; when it is, and who has the other end is not, the receiver finds a parcel that it
//! cannot open.

use super::note::Library;
use crate::{policy, process};
use preloop_sys::{Fd, call, process as system, unix};
use std::fs;
use std::path::PathBuf;

/// Namespaces that both must be in: numbers of processes, names of bells and users mean the same there.
const NAMESPACES: [&str; 3] = ["net", "pid", "user"];

/// Answers why a connection that has moved cannot go to the other end of `via`.
pub fn check(via: Fd) -> Result<(), &'static str> {
    if call::int_option(via, libc::SOL_SOCKET, libc::SO_DOMAIN) != Ok(libc::AF_UNIX) {
        return Err("is no Unix socket");
    }
    let end = unix::credentials(via).map_err(|_| "has no other end")?;
    let Ok(pid @ 1..) = u32::try_from(end.pid) else { return Err("does not say whose its other end is") };
    if end.uid != system::euid() || end.uid == policy::OVERFLOW_UID {
        return Err("leads to another user");
    }
    if pid == process::pid() || (is_preloaded(pid) && is_beside(pid) && is_filtered_alike(pid)) {
        Ok(())
    } else {
        Err("leads to a process that is not known to be preloaded")
    }
}

fn proc(pid: u32, what: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{what}"))
}

fn is_preloaded(pid: u32) -> bool {
    let Ok(maps) = fs::read_to_string(proc(pid, "maps")) else { return false };
    Library::own().is_some_and(|own| own.is_in(&maps))
}

fn is_beside(pid: u32) -> bool {
    NAMESPACES.iter().all(|name| {
        let space = |pid| fs::read_link(proc(pid, "ns").join(name)).ok();
        space(pid).is_some_and(|theirs| space(process::pid()) == Some(theirs))
    })
}

/// Whether it has no filter of system calls of its own (seccomp(2)), which might kill it for opening a parcel.
fn is_filtered_alike(pid: u32) -> bool {
    let filters = |pid| {
        let status = fs::read_to_string(proc(pid, "status")).unwrap_or_default();
        status.lines().filter(|line| line.starts_with("Seccomp")).map(str::to_owned).collect::<Vec<_>>()
    };
    filters(pid) == filters(process::pid())
}
