//! Direct system calls, for what the library does on its own account: no errno, no cancellation point, no hook.

use crate::{Errno, Fd};
use core::ffi::c_int;

/// What a system call answers.
pub type Answer = Result<usize, Errno>;

macro_rules! raw {
    ($number:ident $(, $arg:expr)*) => {
        // SAFETY: the arguments are plain numbers or pointers that the enclosing function vouches for.
        unsafe { syscalls::syscall!(syscalls::Sysno::$number $(, $arg)*) }
    };
}
pub(crate) use raw;

/// `recvmsg(2)` into memory that the caller vouches for.
///
/// # Safety
/// `message` and everything it points to must be valid for the call.
pub unsafe fn recvmsg(fd: Fd, message: *mut libc::msghdr, flags: c_int) -> Answer {
    raw!(recvmsg, fd, message, flags)
}

/// `sendmsg(2)` from memory that the caller vouches for.
///
/// # Safety
/// `message` and everything it points to must be valid for the call.
pub unsafe fn sendmsg(fd: Fd, message: *const libc::msghdr, flags: c_int) -> Answer {
    raw!(sendmsg, fd, message, flags)
}

/// `read(2)` to an address that the caller vouches for.
///
/// # Safety
/// `address` must be writable for `len` bytes.
pub unsafe fn read_at(fd: Fd, address: *mut u8, len: usize) -> Answer {
    raw!(read, fd, address, len)
}

/// `pread(2)` to an address that the caller vouches for.
///
/// # Safety
/// `address` must be writable for `len` bytes.
pub unsafe fn pread_at(fd: Fd, address: *mut u8, len: usize, offset: i64) -> Answer {
    raw!(pread64, fd, address, len, offset)
}

/// Whether a file has positions to read at, as sendfile(2) needs it.
pub fn is_seekable(fd: Fd) -> bool {
    raw!(lseek, fd, 0, libc::SEEK_CUR).is_ok()
}

/// `read(2)` to an address that the caller vouches for; EAGAIN rather than waiting, where the kernel can do that for this
/// kind of file.
///
/// # Safety
/// `address` must be writable for `len` bytes.
pub unsafe fn read_now_at(fd: Fd, address: *mut u8, len: usize) -> Answer {
    let part = libc::iovec { iov_base: address.cast(), iov_len: len };
    // The position -1 stands for the file's own.
    match raw!(preadv2, fd, &raw const part, 1, -1isize, -1isize, libc::RWF_NOWAIT) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => raw!(read, fd, address, len),
        answer => answer,
    }
}

/// `write(2)` from an address that the caller vouches for.
///
/// # Safety
/// `address` must be readable for `len` bytes.
pub unsafe fn write_at(fd: Fd, address: *const u8, len: usize) -> Answer {
    raw!(write, fd, address, len)
}

/// `recv(2)` into a slice.
pub fn recv(fd: Fd, bytes: &mut [u8], flags: c_int) -> Answer {
    raw!(recvfrom, fd, bytes.as_mut_ptr(), bytes.len(), flags, 0, 0)
}

/// `send(2)` of a slice, without SIGPIPE.
pub fn send(fd: Fd, bytes: &[u8], flags: c_int) -> Answer {
    raw!(sendto, fd, bytes.as_ptr(), bytes.len(), flags | libc::MSG_NOSIGNAL, 0, 0)
}

/// `write(2)` of a slice.
pub fn write(fd: Fd, bytes: &[u8]) -> Answer {
    raw!(write, fd, bytes.as_ptr(), bytes.len())
}

/// `read(2)` into a slice.
pub fn read(fd: Fd, bytes: &mut [u8]) -> Answer {
    raw!(read, fd, bytes.as_mut_ptr(), bytes.len())
}

/// `pread(2)` into a slice.
pub fn pread(fd: Fd, bytes: &mut [u8], offset: u64) -> Answer {
    raw!(pread64, fd, bytes.as_mut_ptr(), bytes.len(), offset)
}

/// `memfd_create(2)`, close-on-exec, to be sealed.
pub fn memfd(name: &core::ffi::CStr) -> Result<Fd, Errno> {
    raw!(memfd_create, name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING).map(|fd| fd as Fd)
}

/// Adds seals to a memfd.
pub fn seal(fd: Fd, seals: c_int) -> Result<(), Errno> {
    raw!(fcntl, fd, libc::F_ADD_SEALS, seals).map(drop)
}

/// The seals of a memfd.
pub fn seals(fd: Fd) -> Result<c_int, Errno> {
    raw!(fcntl, fd, libc::F_GET_SEALS, 0).map(|seals| seals as c_int)
}

/// `pread(2)` into a slice; without an offset `read(2)`.
pub fn read_file(fd: Fd, bytes: &mut [u8], offset: Option<i64>) -> Answer {
    match offset {
        Some(offset) => raw!(pread64, fd, bytes.as_mut_ptr(), bytes.len(), offset),
        None => read(fd, bytes),
    }
}

/// As [`read_now_at`], into a slice.
pub fn read_now(fd: Fd, bytes: &mut [u8]) -> Answer {
    // SAFETY: the slice is writable.
    unsafe { read_now_at(fd, bytes.as_mut_ptr(), bytes.len()) }
}

/// The position of a file.
///
/// # Errors
/// EBADF; EINVAL when it has none, as sendfile(2) has it.
pub fn position(fd: Fd) -> Result<i64, Errno> {
    match raw!(lseek, fd, 0, libc::SEEK_CUR) {
        Ok(at) => Ok(at as i64),
        Err(Errno::ESPIPE) => Err(Errno::EINVAL),
        Err(error) => Err(error),
    }
}

/// Sets the position of a file, in bytes from its start.
///
/// # Errors
/// EBADF, ESPIPE.
pub fn set_position(fd: Fd, at: i64) -> Result<(), Errno> {
    raw!(lseek, fd, at, libc::SEEK_SET).map(drop)
}

/// Bytes that a pipe takes now.
///
/// # Errors
/// EBADF when it is no pipe.
pub fn pipe_room(pipe: Fd) -> Answer {
    let size = raw!(fcntl, pipe, libc::F_GETPIPE_SZ, 0)?;
    Ok(size.saturating_sub(int_ioctl(pipe, libc::FIONREAD)?.max(0) as usize))
}

/// Sets a file's position to its start.
pub fn rewind(fd: Fd) -> Result<(), Errno> {
    raw!(lseek, fd, 0, libc::SEEK_SET).map(drop)
}

/// Appends bytes to a file, made where there is none, in one write.
///
/// # Errors
/// Those of `open(2)` and `write(2)`.
pub fn append(path: &core::ffi::CStr, bytes: &[u8]) -> Answer {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
    let fd = raw!(openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o666)? as Fd;
    let answer = write(fd, bytes);
    close(fd);
    answer
}

/// `close(2)`.
pub fn close(fd: Fd) {
    let _ = raw!(close, fd);
}

/// `splice(2)` without waiting.
pub fn splice(from: Fd, to: Fd, len: usize) -> Answer {
    raw!(splice, from, 0, to, 0, len, libc::SPLICE_F_NONBLOCK)
}

/// Whether a descriptor has FD_CLOEXEC.
pub fn closes_on_exec(fd: Fd) -> bool {
    raw!(fcntl, fd, libc::F_GETFD, 0).is_ok_and(|flags| flags as c_int & libc::FD_CLOEXEC != 0)
}

/// Sets or clears FD_CLOEXEC.
pub fn set_close_on_exec(fd: Fd, closes: bool) {
    let _ = raw!(fcntl, fd, libc::F_SETFD, if closes { libc::FD_CLOEXEC } else { 0 });
}

/// `fcntl(F_GETFL)`.
pub fn status_flags(fd: Fd) -> Result<c_int, Errno> {
    raw!(fcntl, fd, libc::F_GETFL, 0).map(|flags| flags as c_int)
}

/// `fcntl(F_SETFL)`.
///
/// # Errors
/// EBADF.
pub fn set_status_flags(fd: Fd, flags: c_int) -> Result<(), Errno> {
    raw!(fcntl, fd, libc::F_SETFL, flags).map(drop)
}

/// An `int` socket option.
pub fn int_option(fd: Fd, level: c_int, name: c_int) -> Result<c_int, Errno> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    raw!(getsockopt, fd, level, name, &raw mut value, &raw mut len).map(|_| value)
}

/// Sets an `int` socket option.
pub fn set_int_option(fd: Fd, level: c_int, name: c_int, value: c_int) -> Result<(), Errno> {
    raw!(setsockopt, fd, level, name, &raw const value, size_of::<c_int>()).map(drop)
}

/// SO_RCVTIMEO or SO_SNDTIMEO in nanoseconds; 0 is for ever.
pub fn timeout_option(fd: Fd, name: c_int) -> u64 {
    let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut len = size_of::<libc::timeval>() as libc::socklen_t;
    match raw!(getsockopt, fd, libc::SOL_SOCKET, name, &raw mut value, &raw mut len) {
        Ok(_) => (value.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(value.tv_usec as u64 * 1000),
        Err(_) => 0,
    }
}

/// Sets a time-out of one socket to what one of another is.
pub fn copy_timeout(from: Fd, from_name: c_int, to: Fd, to_name: c_int) {
    let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut len = size_of::<libc::timeval>() as libc::socklen_t;
    let level = libc::SOL_SOCKET;
    if raw!(getsockopt, from, level, from_name, &raw mut value, &raw mut len).is_ok() {
        let _ = raw!(setsockopt, to, level, to_name, &raw const value, len);
    }
}

/// SO_COOKIE: the kernel's own number of a socket, never used twice.
pub fn cookie(fd: Fd) -> Result<u64, Errno> {
    let mut value = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    raw!(getsockopt, fd, libc::SOL_SOCKET, libc::SO_COOKIE, &raw mut value, &raw mut len).map(|_| value)
}

/// SO_NETNS_COOKIE: the kernel's own number of a socket's network namespace.
///
/// # Errors
/// ENOPROTOOPT before Linux 5.14.
pub fn network(fd: Fd) -> Result<u64, Errno> {
    const SO_NETNS_COOKIE: c_int = 71;
    let mut value = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    raw!(getsockopt, fd, libc::SOL_SOCKET, SO_NETNS_COOKIE, &raw mut value, &raw mut len).map(|_| value)
}

/// Has `fd` stand for what `new` stands for; FD_CLOEXEC stays as it was.
///
/// # Errors
/// EBADF.
pub fn replace(fd: Fd, new: Fd) -> Result<(), Errno> {
    let flags = if closes_on_exec(fd) { libc::O_CLOEXEC } else { 0 };
    raw!(dup3, new, fd, flags).map(drop)
}

/// Makes the next close of the socket send RST.
pub fn linger_zero(fd: Fd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = raw!(setsockopt, fd, libc::SOL_SOCKET, libc::SO_LINGER, &raw const linger, size_of::<libc::linger>());
}

/// An `int` that `ioctl(2)` answers (SIOCINQ, SIOCOUTQ).
pub fn int_ioctl(fd: Fd, request: libc::c_ulong) -> Result<c_int, Errno> {
    let mut value: c_int = 0;
    raw!(ioctl, fd, request, &raw mut value).map(|_| value)
}

/// ioctl(2): whether the next byte to read is where urgent data was. The same number on all machines but a few.
pub const SIOCATMARK: libc::c_ulong = 0x8905;

/// `shutdown(2)`.
pub fn shutdown(fd: Fd, how: c_int) -> Result<(), Errno> {
    raw!(shutdown, fd, how).map(drop)
}

/// Moves a descriptor of the library's own out of the way of the program's: up to three quarters of the soft limit,
/// close-on-exec. Keeps it where it is when there is no room.
pub fn move_high(fd: Fd) -> Fd {
    match duplicate_high(fd) {
        Ok(high) => {
            close(fd);
            high
        }
        Err(_) => fd,
    }
}

/// Another descriptor of the library's own for what `fd` stands for, as high as [`move_high`] would have it.
///
/// # Errors
/// EBADF, EMFILE.
pub fn duplicate_high(fd: Fd) -> Result<Fd, Errno> {
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    let _ = raw!(prlimit64, 0, libc::RLIMIT_NOFILE, 0, &raw mut limit);
    let floor = (limit.rlim_cur / 4 * 3).min(4096);
    raw!(fcntl, fd, libc::F_DUPFD_CLOEXEC, floor).map(|high| high as Fd)
}

/// `sched_yield(2)`.
pub fn sched_yield() {
    let _ = raw!(sched_yield);
}

/// A connected pair of Unix sockets of this type, close-on-exec.
///
/// # Errors
/// EMFILE and its like.
pub fn unix_pair(kind: c_int) -> Result<[Fd; 2], Errno> {
    let mut pair = [-1; 2];
    raw!(socketpair, libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()).map(|_| pair)
}

/// Takes up to `len` bytes off a TCP socket without copying them (tcp(7), MSG_TRUNC), and without waiting.
///
/// # Errors
/// EAGAIN when there are none.
pub fn discard(socket: Fd, len: usize) -> Answer {
    raw!(recvfrom, socket, 0, len, libc::MSG_TRUNC | libc::MSG_DONTWAIT, 0, 0)
}

/// `sendmsg(2)` of some slices, without waiting and without SIGPIPE.
///
/// # Errors
/// EAGAIN when nothing would fit.
pub fn send_parts(socket: Fd, parts: &[&[u8]], flags: c_int) -> Answer {
    // The kernel reads no vector for one.
    if let [part] = parts {
        return send(socket, part, flags | libc::MSG_DONTWAIT);
    }
    let mut iov = [libc::iovec { iov_base: core::ptr::null_mut(), iov_len: 0 }; 64];
    let mut count = 0;
    for (entry, part) in iov.iter_mut().zip(parts) {
        *entry = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
        count += 1;
    }
    // SAFETY: msghdr is plain data.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = iov.as_mut_ptr();
    message.msg_iovlen = count;
    raw!(sendmsg, socket, &raw const message, flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// Opens what a descriptor stands for anew, for reading, from its start.
///
/// # Errors
/// EMFILE and its like; ENOENT without /proc.
pub fn reopen(fd: Fd, flags: c_int) -> Result<Fd, Errno> {
    let path = format!("/proc/self/fd/{fd}\0");
    raw!(openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_RDONLY, 0).map(|fd| fd as Fd)
}

/// Memory that a socket's received and unsent data take, in bytes (SO_MEMINFO).
pub fn socket_memory(fd: Fd) -> (u32, u32) {
    /// `SK_MEMINFO_RMEM_ALLOC`.
    const RECEIVED: usize = 0;
    /// `SK_MEMINFO_WMEM_ALLOC`.
    const SENT: usize = 2;
    const SO_MEMINFO: c_int = 55;
    let mut values = [0u32; 9];
    let mut len = size_of_val(&values) as libc::socklen_t;
    let _ = raw!(getsockopt, fd, libc::SOL_SOCKET, SO_MEMINFO, values.as_mut_ptr(), &raw mut len);
    (values[RECEIVED], values[SENT])
}

/// What `fstat(2)` says of a descriptor; `None` if it stands for nothing, which leaves `errno` alone.
fn stat(fd: Fd) -> Option<libc::stat> {
    // SAFETY: a structure of plain numbers.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    raw!(fstat, fd, &raw mut stat).is_ok().then_some(stat)
}

/// Bytes of a file.
///
/// # Errors
/// EBADF.
pub fn file_size(fd: Fd) -> Result<u64, Errno> {
    stat(fd).map(|stat| stat.st_size as u64).ok_or(Errno::EBADF)
}

/// The device of what a descriptor stands for; `None` if it stands for nothing.
pub fn device(fd: Fd) -> Option<u64> {
    stat(fd).map(|stat| stat.st_dev)
}

/// The inode of what a descriptor stands for, 0 if it stands for nothing; and its type (`S_IFMT`).
pub fn inode(fd: Fd) -> (u64, u32) {
    stat(fd).map_or((0, 0), |stat| (stat.st_ino, stat.st_mode & libc::S_IFMT))
}
