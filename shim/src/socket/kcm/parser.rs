//! The program that a TCP socket is attached with.

use super::local::Loaded;
use crate::bpf;
use crate::log;
use crate::process;
use preloop_parsers::registry;
use preloop_sys::{Errno, Fd};
use preloop_uapi::settings::KCM_PARSER;
use std::fmt::Display;

/// The program behind a descriptor; with -1 the one that the user named in `KCM_PARSER`.
///
/// # Errors
/// EBADF, or EINVAL when it is no socket filter. A parser of the user's that cannot be loaded is EINVAL too.
pub fn find(fd: Fd) -> Result<Loaded, Errno> {
    match &process::settings().kcm_parser {
        Some(text) if fd == -1 => {
            let text = text.to_string_lossy();
            let unusable = |why: &dyn Display| {
                log::debug_kcm(format_args!("{KCM_PARSER}={text}: {why}"));
                Errno::EINVAL
            };
            let parser = registry::find(&text, |path| std::fs::read(path)).map_err(|why| unusable(&why))?;
            let program = bpf::of_parser(&parser).map_err(|why| unusable(&why))?;
            Ok((program, parser.to_bytes()))
        }
        _ => bpf::program(fd).map(|loaded| (loaded.program, loaded.parser)),
    }
}
