//! Whether the kernel would start a file with `AT_SECURE`, which makes the dynamic loader drop `LD_PRELOAD`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, StatVfsMountFlags, getxattr, statvfs};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgid, getuid};
use rustix::thread::no_new_privs;

/// Extended attribute that holds file capabilities.
const CAPABILITIES: &str = "security.capability";

/// What a file gives to whoever runs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// Another user or group.
    Identity,
    /// Capabilities.
    Capabilities,
}

/// Which privilege running `file` would bring to this process; the rules are those of the kernel's
/// `bprm_fill_uid` and `cap_bprm_creds_from_file`.
///
/// # Errors
/// Whatever looking at the file meets.
pub fn privilege(file: &Path) -> io::Result<Option<Privilege>> {
    let metadata = fs::metadata(file)?;
    let mode = Mode::from_raw_mode(metadata.mode());
    let ignored = statvfs(file)?.f_flag.contains(StatVfsMountFlags::NOSUID);
    let honoured = !ignored && !no_new_privs().unwrap_or(false);
    // Without the group's x bit, setgid means mandatory locking.
    let [setuid, setgid] = [Mode::SUID, Mode::SGID | Mode::XGRP].map(|bits| honoured && mode.contains(bits));
    let user = if setuid { metadata.uid() } else { geteuid().as_raw() };
    let group = if setgid { metadata.gid() } else { getegid().as_raw() };
    if user != getuid().as_raw() || group != getgid().as_raw() {
        return Ok(Some(Privilege::Identity));
    }
    // The real root has them all anyhow, and nothing is secret from it.
    if ignored || getuid().is_root() {
        return Ok(None);
    }
    let mut value = [0u8; 64];
    match getxattr(file, CAPABILITIES, &mut value) {
        Ok(_) | Err(Errno::RANGE) => Ok(Some(Privilege::Capabilities)),
        Err(_) => Ok(None),
    }
}
