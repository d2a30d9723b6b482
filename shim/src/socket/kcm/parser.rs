//! The program that a TCP socket is attached with.

use super::local::Loaded;
use crate::bpf;
use crate::process;
use preloop_parsers::registry;
use preloop_sys::{Errno, Fd};
use std::sync::Arc;

/// The program behind a descriptor; with -1 the one that the user named in `KCM_PARSER`.
///
/// # Errors
/// EBADF, or EINVAL when it is no socket filter. A parser of the user's that cannot be loaded is EINVAL too.
pub fn find(fd: Fd) -> Result<Loaded, Errno> {
    match &process::settings().kcm_parser {
        Some(text) if fd == -1 => {
            let parser = registry::find(&text.to_string_lossy(), |path| std::fs::read(path));
            let loaded = parser.ok().and_then(|parser| Some((Arc::new(parser.load().ok()?), parser.to_bytes())));
            loaded.ok_or(Errno::EINVAL)
        }
        _ => bpf::program(fd).map(|loaded| (loaded.program, loaded.parser)),
    }
}
