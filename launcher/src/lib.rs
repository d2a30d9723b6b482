//! What the launchers and the listing tools share.
//!
//! [`run`] is what a launcher does from its options until it hands over: where is the library, which file will the command
//! really run, can that file be preloaded. [`list`] finds the preloaded processes of this machine and reads what
//! they show of their sockets. [`sys`] holds the two system calls that need `unsafe`.

pub mod list;
pub mod run;
pub mod sys;

/// The release of smc-tools whose contract `smc_run` and `smcss` keep, as their `-v` prints it.
pub const SMC_TOOLS: &str = "smc-tools-1.8.5";

/// This release, as the `-v` of tools prints it that smc-tools does not have.
pub const PRELOOP: &str = concat!("preloop-", env!("CARGO_PKG_VERSION"));
