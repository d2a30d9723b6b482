//! What `smc_run` and `kcm_run` share: everything but their own options.
//!
//! [`options`] reads the words of the command line, [`launcher`] says what a launcher says. [`command`] runs what is then
//! known: [`library`] finds `libpreloop.so` and writes the new `LD_PRELOAD`, [`environment`] puts the rest of the settings
//! beside it, and the launcher becomes the command. What that will load, and whether the library gets there,
//! `preloop_image` tells. [`parser`] checks the parser of `kcm_run`, for which [`verifier`] asks the kernel.

pub mod command;
pub mod environment;
pub mod launcher;
pub mod library;
pub mod options;
pub mod parser;
pub mod verifier;
