//! What happens between a launcher's options and its `execve`: [`library`] finds `libpreloop.so` and writes the new
//! `LD_PRELOAD`. What the command will load, and whether the library gets there, `preloop_image` tells.

pub mod library;
