//! Thread cancellation (pthread_cancel(3)). The C library ends a cancelled thread by unwinding its stack from where it
//! sleeps. Rust code compiled to abort on panics has unwind tables, but runs nothing on the way; so whatever must be put
//! right is registered with the C library, as its own `pthread_cleanup_push` once did.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;

/// `struct _pthread_cleanup_buffer`.
#[repr(C)]
struct Buffer {
    routine: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
    cancel_type: c_int,
    previous: *mut Buffer,
}

unsafe extern "C" {
    fn _pthread_cleanup_push(buffer: *mut Buffer, routine: unsafe extern "C" fn(*mut c_void), argument: *mut c_void);
    fn _pthread_cleanup_pop(buffer: *mut Buffer, execute: c_int);
    fn pthread_testcancel();
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// Runs `call`, which may be a cancellation point; if this thread is cancelled inside, `cancelled` runs and nothing after
/// it: values that the caller has are never dropped.
pub fn run<R>(mut cancelled: &mut dyn FnMut(), call: impl FnOnce() -> R) -> R {
    unsafe extern "C" fn routine(argument: *mut c_void) {
        // SAFETY: the pointer that `run` registered; its frame is still there while it is being unwound.
        unsafe { (*argument.cast::<&mut dyn FnMut()>())() }
    }
    let mut buffer = MaybeUninit::<Buffer>::uninit();
    let argument = (&raw mut cancelled).cast();
    // SAFETY: the buffer and the argument stay where they are until the pop, or until the thread has ended. Frames
    // between here and the cancellation point are unwound without running anything, so none may need to.
    unsafe {
        _pthread_cleanup_push(buffer.as_mut_ptr(), routine, argument);
        let result = call();
        _pthread_cleanup_pop(buffer.as_mut_ptr(), 0);
        result
    }
}

/// A cancellation point: a thread that was cancelled ends here.
pub fn point() {
    // SAFETY: as in `run`: nothing on the way needs to run.
    unsafe { pthread_testcancel() };
}

/// While it lives this thread is not cancelled: what it holds would never be let go.
#[derive(Debug)]
pub struct Uncancellable {
    before: c_int,
}

impl Uncancellable {
    /// From now on.
    pub fn begin() -> Self {
        const DISABLE: c_int = 1;
        let mut before = 0;
        // SAFETY: room for the state before.
        unsafe { pthread_setcancelstate(DISABLE, &raw mut before) };
        Self { before }
    }
}

impl Drop for Uncancellable {
    fn drop(&mut self) {
        // SAFETY: the state that the thread had; null is for "do not tell".
        unsafe { pthread_setcancelstate(self.before, core::ptr::null_mut()) };
    }
}
