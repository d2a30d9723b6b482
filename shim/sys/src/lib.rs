//! The kernel as the library meets it. One of the three rooms where `unsafe` lives (with `shm` and the hooks).
//!
//! Two ways lead down. [`real`] finds the next definition of a libc function, which keeps cancellation points and
//! other preloaded libraries in the chain: it serves what the program itself asked for. Everything the library
//! asks for itself goes through [`call`]: direct system calls that touch neither errno nor our own hooks.

pub mod addr;
pub mod bpf;
pub mod call;
pub mod cancel;
pub mod clock;
pub mod diag;
pub mod errno;
pub mod event;
pub mod memory;
pub mod outgoing;
#[cfg(test)]
mod pair;
pub mod probe;
pub mod process;
pub mod real;
pub mod record;
pub mod rights;
pub mod sleep;
pub mod tcp;
pub mod unix;

pub use syscalls::Errno;

/// A file descriptor number.
pub type Fd = i32;
