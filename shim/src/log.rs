//! Lines on stderr, prefixed with the tool's name. Written with one direct system call, never through a hook.

use core::fmt::Arguments;
use preloop_sys::call;
use std::io::Write;

const STDERR: i32 = 2;

fn line(tool: &str, text: Arguments<'_>) {
    let mut buffer = [0u8; 256];
    let mut room = &mut buffer[..255];
    // A line that is too long is cut.
    let _ = write!(room, "{tool}: {text}");
    let used = 255 - room.len();
    buffer[used] = b'\n';
    let _ = call::write(STDERR, &buffer[..=used]);
}

/// Tells the user that what a variable is set to makes no sense.
pub fn complain(variable: &str, what: &str) {
    let tool = if variable.starts_with("KCM_") { "kcm_run" } else { "smc_run" };
    line(tool, format_args!("Warning: {variable}={what}"));
}

/// A debug line about SMC, printed with `SMC_DEBUG=1`.
pub fn debug(text: Arguments<'_>) {
    if crate::process::settings().debug {
        line("smc_run", format_args!("[{}] {text}", crate::process::pid()));
    }
}

/// A debug line about KCM, printed with `KCM_DEBUG=1`.
pub fn debug_kcm(text: Arguments<'_>) {
    if crate::process::settings().kcm_debug {
        line("kcm_run", format_args!("[{}] {text}", crate::process::pid()));
    }
}
