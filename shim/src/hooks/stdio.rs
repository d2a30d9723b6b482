//! stdin, stdout and stderr on a connection that the program before handed over. The C library reads and writes a stream's
//! descriptor unseen, so the stream is replaced by one that goes through the hooks, before `main` could keep the old one.
//! It follows the number, so that it serves whatever the program puts there later.
//!
//! Where a connection comes to stand at one of these numbers later, or the program has streams that cannot be replaced, it
//! stays on TCP as long as it stands there (`crate::streams`).

use super::{fd, io, kcm_stream};
use crate::fdtable;
use crate::socket::close::{self, Closing};
use crate::streams;
use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};
use libc::{FILE, size_t, ssize_t};
use preloop_image::elf;
use preloop_sys::{Errno, Fd, errno, real};
use std::path::Path;

/// `cookie_io_functions_t` of fopencookie(3).
#[repr(C)]
struct Functions {
    read: unsafe extern "C" fn(*mut c_void, *mut c_char, size_t) -> ssize_t,
    write: unsafe extern "C" fn(*mut c_void, *const c_char, size_t) -> ssize_t,
    seek: unsafe extern "C" fn(*mut c_void, *mut i64, c_int) -> c_int,
    close: unsafe extern "C" fn(*mut c_void) -> c_int,
}

/// How a FILE of glibc begins, since its version 2.1.
#[repr(C)]
struct Buffers {
    flags: c_int,
    read_next: *const c_char,
    read_end: *const c_char,
    read_base: *const c_char,
    write_base: *const c_char,
    write_next: *const c_char,
    _others: [*const c_char; 8],
    number: c_int,
}

unsafe extern "C" {
    static mut stdin: *mut FILE;
    static mut stdout: *mut FILE;
    static mut stderr: *mut FILE;
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: Functions) -> *mut FILE;
    fn __flbf(stream: *mut FILE) -> c_int;
    fn fflush_unlocked(stream: *mut FILE) -> c_int;
    fn ftrylockfile(stream: *mut FILE) -> c_int;
    fn funlockfile(stream: *mut FILE);
    fn _IO_list_lock();
    fn _IO_list_unlock();
}

/// The streams that stand in place of the C library's, by descriptor, and those in whose place they stand.
static REPLACED: [AtomicPtr<FILE>; 3] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 3];
static ORIGINAL: [AtomicPtr<FILE>; 3] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 3];

/// `_IO_UNBUFFERED`, of a FILE's flags.
const UNBUFFERED: c_int = 2;
/// `_IO_NO_READS` and `_IO_NO_WRITES`.
const CLOSED: c_int = 4 | 8;

unsafe extern "C" fn read(cookie: *mut c_void, buffer: *mut c_char, size: size_t) -> ssize_t {
    // SAFETY: the C library's buffer; the cookie is the descriptor.
    unsafe { io::read(cookie as usize as Fd, buffer.cast(), size) }
}

unsafe extern "C" fn write(cookie: *mut c_void, bytes: *const c_char, size: size_t) -> ssize_t {
    let mut done = 0;
    while done < size {
        // SAFETY: as in `read`; `done` is within.
        let sent = unsafe { io::write(cookie as usize as Fd, bytes.add(done).cast(), size - done) };
        if sent < 0 {
            break;
        }
        done += sent as usize;
    }
    // fopencookie(3): an error is 0, never negative.
    done as ssize_t
}

unsafe extern "C" fn seek(cookie: *mut c_void, position: *mut i64, whence: c_int) -> c_int {
    // SAFETY: a plain number, and the C library's variable.
    unsafe {
        let reached = libc::lseek64(cookie as usize as Fd, *position, whence);
        if reached < 0 {
            return -1;
        }
        *position = reached;
    }
    0
}

unsafe extern "C" fn close_number(cookie: *mut c_void) -> c_int {
    // SAFETY: a plain number.
    unsafe { fd::close(cookie as usize as Fd) }
}

/// A new stream on a descriptor that goes through the hooks; null, and errno, when there is none.
///
/// # Safety
/// As fdopen(3).
pub unsafe fn through_hooks(fd: Fd, mode: *const c_char) -> *mut FILE {
    let functions = Functions { read, write, seek, close: close_number };
    // SAFETY: the cookie is a number that the functions take for one; the mode is the caller's.
    unsafe { fopencookie(fd as usize as *mut c_void, mode, functions) }
}

/// At the start of a program: replaces the streams that stand on a connection, where that can be done.
pub fn start() {
    let on_socket = |number: &Fd| fdtable::get(*number).is_some();
    let mut numbers = (0..=2).filter(on_socket).peekable();
    let replaceable = || elf::has_plain_streams(Path::new("/proc/self/exe")).unwrap_or(false);
    if numbers.peek().is_some() && replaceable() {
        numbers.for_each(replace);
    }
}

fn replace(number: Fd) {
    // SAFETY: streams of the C library, which nobody uses before `main`.
    unsafe {
        let stream = variable(number);
        let new = if is_fresh(*stream) { make(number, *stream) } else { core::ptr::null_mut() };
        if !new.is_null() {
            ORIGINAL[number as usize].store(*stream, Ordering::Release);
            REPLACED[number as usize].store(new, Ordering::Release);
            *stream = new;
            streams::are_served(number);
        }
    }
}

/// Where the program finds the stream of a standard descriptor.
fn variable(number: Fd) -> *mut *mut FILE {
    match number {
        0 => &raw mut stdin,
        1 => &raw mut stdout,
        _ => &raw mut stderr,
    }
}

/// Whether the stream holds nothing.
///
/// # Safety
/// `stream` is null or one of the C library's.
unsafe fn is_fresh(stream: *mut FILE) -> bool {
    // SAFETY: the caller's.
    unsafe { stream.cast::<Buffers>().as_ref() }
        .is_some_and(|held| held.read_next == held.read_end && held.write_base == held.write_next)
}

/// # Safety
/// `old` is a stream of the C library.
unsafe fn make(number: Fd, old: *mut FILE) -> *mut FILE {
    let mode = if number == 0 { c"r" } else { c"w" };
    // SAFETY: modes are those of setvbuf(3).
    unsafe {
        let new = through_hooks(number, mode.as_ptr());
        // Another library (stdbuf's) may have chosen how it is buffered.
        let mode = if number == 2 || (*old.cast::<Buffers>()).flags & UNBUFFERED != 0 {
            libc::_IONBF
        } else if __flbf(old) != 0 {
            libc::_IOLBF
        } else {
            libc::_IOFBF
        };
        if !new.is_null() && mode != libc::_IOFBF {
            libc::setvbuf(new, core::ptr::null_mut(), mode, 0);
        }
        new
    }
}

/// Runs fork while no thread is inside a flush of all streams, with the list of them locked: it may sleep there, in a
/// replaced one, and wants locks of the library's afterwards that fork holds.
pub fn hold(fork: impl FnOnce() -> c_int) -> c_int {
    if REPLACED.iter().all(|place| place.load(Ordering::Acquire).is_null()) && !kcm_stream::any() {
        return fork();
    }
    // SAFETY: the lock is recursive, and the C library's own fork takes it too; it makes it anew in the child.
    unsafe {
        _IO_list_lock();
        let child = kcm_stream::hold(fork);
        if child != 0 {
            _IO_list_unlock();
        }
        child
    }
}

/// The descriptor of a stream that goes through the hooks, if it is one.
fn number_of(stream: *mut FILE) -> Option<Fd> {
    standard_number_of(stream).or_else(|| kcm_stream::number_of(stream))
}

/// The descriptor of a stream that was replaced.
fn standard_number_of(stream: *mut FILE) -> Option<Fd> {
    let found = REPLACED.iter().position(|place| core::ptr::eq(place.load(Ordering::Acquire), stream))?;
    (!stream.is_null()).then_some(found as Fd)
}

/// fileno(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fileno(stream: *mut FILE) -> c_int {
    // SAFETY: the program's own call.
    number_of(stream).unwrap_or_else(|| unsafe { real::fileno(stream) })
}

/// fileno_unlocked(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fileno_unlocked(stream: *mut FILE) -> c_int {
    // SAFETY: the program's own call.
    number_of(stream).unwrap_or_else(|| unsafe { real::fileno_unlocked(stream) })
}

/// fclose(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fclose(stream: *mut FILE) -> c_int {
    // SAFETY: the program's own call.
    unsafe {
        let _closing = match standard_number_of(stream) {
            // What it holds is written first, and then its descriptor closed, both through the hooks.
            Some(number) => {
                // The original is closed with it, except for the number, which is closed once.
                let original = &mut *restore(number).cast::<Buffers>();
                (original.flags, original.number) = (original.flags | CLOSED, -1);
                None
            }
            // Likewise; only the number of another one is the C library's to close.
            None if kcm_stream::forget(stream).is_some() => None,
            None => before_unseen_close(stream),
        };
        real::fclose(stream)
    }
}

/// The C library is about to close a stream's descriptor.
///
/// # Safety
/// `stream` is null or one of the C library's.
unsafe fn before_unseen_close(stream: *mut FILE) -> Option<Closing> {
    // SAFETY: the caller's.
    let number = if stream.is_null() { -1 } else { unsafe { real::fileno(stream) } };
    (number >= 0).then(|| close::before_close(number))
}

/// At the exit of the process, before its connections end: what the streams hold is sent. One that a thread is using is
/// left to the C library.
pub fn flush() {
    for place in &REPLACED[1..] {
        let stream = place.load(Ordering::Acquire);
        // SAFETY: a stream that was not closed, locked here.
        unsafe {
            if !stream.is_null() && ftrylockfile(stream) == 0 {
                fflush_unlocked(stream);
                funlockfile(stream);
            }
        }
    }
}

/// The program finds the C library's own stream again, which is returned.
fn restore(number: Fd) -> *mut FILE {
    REPLACED[number as usize].store(core::ptr::null_mut(), Ordering::Release);
    streams::are_not_served(number);
    let original = ORIGINAL[number as usize].load(Ordering::Acquire);
    // SAFETY: the variable of the C library, and what it held before.
    unsafe { *variable(number) = original };
    original
}

/// # Safety
/// As freopen(3).
unsafe fn reopen(stream: *mut FILE, real: impl FnOnce(*mut FILE) -> *mut FILE) -> *mut FILE {
    // SAFETY: the program's own call, and the stream that it had before.
    unsafe {
        // A stream of fopencookie(3) cannot be opened anew: the C library would crash.
        if kcm_stream::number_of(stream).is_some() {
            errno::set(Errno::EOPNOTSUPP);
            return core::ptr::null_mut();
        }
        let Some(number) = standard_number_of(stream) else {
            let _closing = before_unseen_close(stream);
            return real(stream);
        };
        // The original can, for it has the same number.
        libc::fflush(stream);
        let _closing = close::before_close(number);
        real(restore(number))
    }
}

/// freopen(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freopen(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
    // SAFETY: the program's own call.
    unsafe { reopen(stream, |stream| real::freopen(path, mode, stream)) }
}

/// freopen64(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn freopen64(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
    // SAFETY: the program's own call.
    unsafe { reopen(stream, |stream| real::freopen64(path, mode, stream)) }
}
