//! The C functions that the library stands in front of, by subject. A hook checks, looks up, calls, and sets errno;
//! a descriptor that is not ours goes straight to the real call. One of the rooms where `unsafe` lives: each hook's
//! arguments are what the C function's caller vouches for.

mod aio;
mod alias;
mod bpf;
mod child;
mod conn;
mod dprintf;
mod event;
mod exec;
mod execl;
mod fd;
mod io;
mod kcm;
mod kcm_stream;
mod limit;
mod open;
mod opt;
mod process;
mod signal;
mod stdio;
mod syscall;
mod transfer;

use preloop_sys::{Errno, errno};

unsafe extern "C" {
    /// What at_quick_exit(3) is made of.
    fn __cxa_at_quick_exit(function: extern "C" fn(), library: *mut core::ffi::c_void) -> i32;
}

/// quick_exit(3) runs it.
extern "C" fn quick_end() {
    crate::socket::close::process_ends();
}

/// Runs when the library is loaded.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = {
    extern "C" fn start() {
        crate::process::start();
        stdio::start();
        // Registered first, it runs last.
        // SAFETY: a function that takes nothing and stays loaded.
        unsafe { __cxa_at_quick_exit(quick_end, core::ptr::null_mut()) };
    }
    start
};

/// Runs when the process exits: what a close would have done for siblings' counts.
#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = {
    extern "C" fn end() {
        stdio::flush();
        crate::socket::close::process_ends();
    }
    end
};

/// A result as C functions answer it: -1 and errno.
fn answer(result: Result<usize, Errno>) -> i32 {
    match result {
        Ok(value) => value as i32,
        Err(code) => {
            errno::set(code);
            -1
        }
    }
}
