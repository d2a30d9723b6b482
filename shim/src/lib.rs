//! `libpreloop.so`: preloaded into an unmodified program, it carries local TCP connections through shared memory.
//!
//! A call comes in through `hooks`, is looked up in `fdtable`, and answered by `socket`, or by the kernel. What
//! the library does to a connection is decided in `policy` and agreed with the peer in `socket::clc`. The
//! protocol's own logic is in the crates `preloop-smc` (no system calls), `preloop-shm` (memory) and `preloop-sys`
//! (kernel). docs/ARCHITECTURE.md is the map.

mod bpf;
mod fdtable;
mod fork;
mod hooks;
mod log;
mod policy;
mod process;
mod settings;
mod signals;
mod socket;
mod stats;
mod streams;
