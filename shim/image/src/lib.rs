//! What execve(2) makes of a command, told before it is called.
//!
//! 1. [`program`] finds the file that the command names, as the shell would, and follows `#!` to the file that the
//!    kernel will load.
//! 2. [`obstacle`] says what would keep the dynamic loader from preloading there. [`elf`] and [`secure`] tell it what
//!    the file is and whom it would run as.
//! 3. [`preload`] reads and changes the list of libraries that the loader is told to preload.
//!
//! The dynamic loader ignores `LD_PRELOAD` in silence wherever it cannot honour it. The launcher looks first and says so;
//! the library looks before it hands connections over to the next program.

#![forbid(unsafe_code)]

pub mod elf;
pub mod obstacle;
pub mod preload;
pub mod program;
pub mod secure;
