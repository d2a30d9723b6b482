//! What happens between a launcher's options and its `execve`.
//!
//! 1. [`library`] finds `libpreloop.so` and writes the new `LD_PRELOAD`.
//! 2. [`program`] finds the file that the command names, as the shell would, and follows `#!` to the file that the
//!    kernel will load.
//! 3. [`obstacle`] says what would keep the dynamic loader from preloading there. [`elf`] and [`secure`] tell it what
//!    the file is and whom it would run as.
//!
//! The dynamic loader ignores `LD_PRELOAD` in silence wherever it cannot honour it. Users of smc-tools complain of
//! exactly that, so the launcher looks first and says so.

pub mod elf;
pub mod library;
pub mod obstacle;
pub mod program;
pub mod secure;
