//! stdin, stdout and stderr on a socket. The C library reads and writes a stream's descriptor unseen; where a standard
//! descriptor becomes a connection that may move, the stream is replaced by one that goes through the hooks. It follows
//! the number, so that it serves whatever the program puts there later.

use super::{fd, io};
use crate::fdtable;
use crate::socket::sock::phase;
use crate::socket::{clc, close};
use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};
use libc::{FILE, size_t, ssize_t};
use preloop_sys::{Fd, real};
use preloop_uapi::decline::Decline;

/// `cookie_io_functions_t` of fopencookie(3).
#[repr(C)]
struct Functions {
    read: unsafe extern "C" fn(*mut c_void, *mut c_char, size_t) -> ssize_t,
    write: unsafe extern "C" fn(*mut c_void, *const c_char, size_t) -> ssize_t,
    seek: Option<unsafe extern "C" fn(*mut c_void, *mut i64, c_int) -> c_int>,
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
}

unsafe extern "C" {
    static mut stdin: *mut FILE;
    static mut stdout: *mut FILE;
    static mut stderr: *mut FILE;
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: Functions) -> *mut FILE;
    fn __flbf(stream: *mut FILE) -> c_int;
}

/// The streams that stand in place of the C library's, by descriptor, and those in whose place they stand.
static REPLACED: [AtomicPtr<FILE>; 3] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 3];
static ORIGINAL: [AtomicPtr<FILE>; 3] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 3];

/// libstdc++'s `std::ios_base::Init`: its streams keep the C library's as they were at the start.
const CXX_STREAMS: &CStr = c"_ZNSt8ios_base4InitC1Ev";

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

unsafe extern "C" fn close_number(cookie: *mut c_void) -> c_int {
    // SAFETY: a plain number.
    unsafe { fd::close(cookie as usize as Fd) }
}

/// `fd`, 0 to 2, stands for a socket now: its stream reads and writes through the hooks, or the socket stays on TCP.
pub fn becomes_socket(number: Fd) {
    let Some(place) = usize::try_from(number).ok().and_then(|index| REPLACED.get(index)) else { return };
    let Some(file) = fdtable::get(number).filter(|file| file.sock.phase() != phase::TCP) else { return };
    if !place.load(Ordering::Acquire).is_null() {
        return;
    }
    // SAFETY: streams of the C library, which a program sets up before it has threads that use them.
    unsafe {
        let stream = variable(number);
        let new = if may_replace(*stream) { make(number, *stream) } else { core::ptr::null_mut() };
        if new.is_null() {
            clc::pin(&file, Decline::OPTION);
            return;
        }
        ORIGINAL[number as usize].store(*stream, Ordering::Release);
        place.store(new, Ordering::Release);
        *stream = new;
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

/// Whether the stream holds nothing, and nobody but its variable knows it.
///
/// # Safety
/// `stream` is null or one of the C library's.
unsafe fn may_replace(stream: *mut FILE) -> bool {
    // SAFETY: the caller's; dlsym is asked for a C string.
    unsafe {
        if stream.is_null() || !libc::dlsym(libc::RTLD_DEFAULT, CXX_STREAMS.as_ptr()).is_null() {
            return false;
        }
        let buffers = &*stream.cast::<Buffers>();
        buffers.read_next == buffers.read_end && buffers.write_base == buffers.write_next
    }
}

/// # Safety
/// `old` is a stream of the C library.
unsafe fn make(number: Fd, old: *mut FILE) -> *mut FILE {
    let mode = if number == 0 { c"r" } else { c"w" };
    let functions = Functions { read, write, seek: None, close: close_number };
    // SAFETY: the cookie is a number that the functions take for one; modes are those of setvbuf(3).
    unsafe {
        let new = fopencookie(number as usize as *mut c_void, mode.as_ptr(), functions);
        if !new.is_null() && number == 2 {
            libc::setvbuf(new, core::ptr::null_mut(), libc::_IONBF, 0);
        } else if !new.is_null() && __flbf(old) != 0 {
            libc::setvbuf(new, core::ptr::null_mut(), libc::_IOLBF, 0);
        }
        new
    }
}

/// The descriptor of a stream that was replaced.
fn number_of(stream: *mut FILE) -> Option<Fd> {
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
        match number_of(stream) {
            // What it holds is written first, and then its descriptor closed, both through the hooks.
            Some(number) => REPLACED[number as usize].store(core::ptr::null_mut(), Ordering::Release),
            None => before_unseen_close(stream),
        }
        real::fclose(stream)
    }
}

/// The C library is about to close a stream's descriptor.
///
/// # Safety
/// `stream` is null or one of the C library's.
unsafe fn before_unseen_close(stream: *mut FILE) {
    // SAFETY: the caller's.
    let number = if stream.is_null() { -1 } else { unsafe { real::fileno(stream) } };
    if number >= 0 {
        close::before_close(number);
    }
}

/// At the exit of the process, before its connections end: what the streams hold is sent.
pub fn flush() {
    for place in &REPLACED {
        let stream = place.load(Ordering::Acquire);
        if !stream.is_null() {
            // SAFETY: a stream that was not closed.
            unsafe { libc::fflush(stream) };
        }
    }
}

/// # Safety
/// As freopen(3).
unsafe fn reopen(stream: *mut FILE, real: impl FnOnce(*mut FILE) -> *mut FILE) -> *mut FILE {
    // SAFETY: the program's own call, and the stream that it had before.
    unsafe {
        let Some(number) = number_of(stream) else {
            before_unseen_close(stream);
            return real(stream);
        };
        // A stream of fopencookie(3) cannot be opened anew; the original can, for it has the same number.
        libc::fflush(stream);
        close::before_close(number);
        REPLACED[number as usize].store(core::ptr::null_mut(), Ordering::Release);
        let original = ORIGINAL[number as usize].load(Ordering::Acquire);
        *variable(number) = original;
        real(original)
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
