//! Locks on bytes of a file that belong to an open file description (F_OFD_SETLK of fcntl(2)): whoever has a descriptor of
//! it, be it a process or a message under way, keeps them, and with the last one they go.

use crate::{Errno, Fd};
use syscalls::{Sysno, syscall};

fn ask(fd: Fd, command: i32, kind: i32, at: i64) -> Result<libc::flock, Errno> {
    let mut lock = libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: at,
        l_len: 1,
        // As these commands need it.
        l_pid: 0,
    };
    // SAFETY: the structure is readable and writable, and outlives the call.
    unsafe { syscall!(Sysno::fcntl, fd, command, &raw mut lock) }?;
    Ok(lock)
}

/// Locks the byte at `at`; `false` when somebody else has. The file must be open for writing.
pub fn lock(fd: Fd, at: i64) -> bool {
    ask(fd, libc::F_OFD_SETLK, libc::F_WRLCK, at).is_ok()
}

/// Gives the byte free, if it was locked through this open file description.
pub fn unlock(fd: Fd, at: i64) {
    let _ = ask(fd, libc::F_OFD_SETLK, libc::F_UNLCK, at);
}

/// Whether nobody has the byte locked, through another open file description than this one.
pub fn is_free(fd: Fd, at: i64) -> bool {
    ask(fd, libc::F_OFD_GETLK, libc::F_WRLCK, at).is_ok_and(|lock| i32::from(lock.l_type) == libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use super::{is_free, lock, unlock};
    use crate::call;
    use crate::unix::Inner;

    #[test]
    fn whoever_has_a_descriptor_keeps_it() {
        let file = Inner::from_raw(call::memfd(c"bytes").unwrap());
        let reopened = || Inner::from_raw(call::reopen(file.fd(), libc::O_RDWR | libc::O_CLOEXEC).unwrap());
        let (one, other) = (reopened(), reopened());
        assert!(is_free(file.fd(), 7));
        assert!(lock(one.fd(), 7) && !lock(other.fd(), 7) && lock(other.fd(), 8));
        let copy = Inner::from_raw(call::duplicate_high(one.fd()).unwrap());
        drop(one);
        assert!(!is_free(file.fd(), 7));
        drop(copy);
        assert!(is_free(file.fd(), 7) && !is_free(file.fd(), 8));
        unlock(other.fd(), 8);
        assert!(is_free(file.fd(), 8));
    }
}
