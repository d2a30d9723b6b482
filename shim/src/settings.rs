//! What the user set in the environment. Nonsense gets one line on stderr, and the default.

use crate::log;
use preloop_sys::process;
use preloop_uapi::group::{RING_MAX, RING_MIN};
use preloop_uapi::settings::{
    PRELOOP_IO_URING, PRELOOP_STATS, PRELOOP_UNBOUNDED_WAITS, SMC_DEBUG, SMC_RCVBUF, SMC_SNDBUF, parse_size,
};
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

/// Ring bytes per direction when nothing is set.
const RING_DEFAULT: u64 = 256 << 10;

/// The settings of this process.
#[derive(Debug)]
pub struct Settings {
    /// Print debug lines.
    pub debug: bool,
    /// Ring bytes of what this process receives: a power of two.
    pub receive_ring: u64,
    /// Ring bytes of what this process sends: a power of two.
    pub send_ring: u64,
    /// Ring bytes of all connections together.
    pub memory_budget: u64,
    /// Programs may use io_uring, and their connections stay on TCP.
    pub io_uring: bool,
    /// File to count in; see [`crate::stats`].
    pub stats: Option<CString>,
    /// Waiters that cannot be rung sleep without a bound.
    pub unbounded_waits: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            debug: false,
            receive_ring: RING_DEFAULT,
            send_ring: RING_DEFAULT,
            memory_budget: process::memory_limit() / 16,
            io_uring: false,
            stats: None,
            unbounded_waits: false,
        }
    }
}

impl Settings {
    /// Reads the environment.
    pub fn from_env() -> Self {
        Self {
            debug: switch(SMC_DEBUG),
            receive_ring: ring(SMC_RCVBUF),
            send_ring: ring(SMC_SNDBUF),
            io_uring: switch(PRELOOP_IO_URING),
            stats: std::env::var_os(PRELOOP_STATS).and_then(|path| CString::new(path.into_vec()).ok()),
            unbounded_waits: switch(PRELOOP_UNBOUNDED_WAITS),
            ..Self::default()
        }
    }
}

/// A variable that is on or off.
fn switch(variable: &str) -> bool {
    match std::env::var(variable).as_deref() {
        Ok("" | "0") | Err(_) => false,
        Ok("1") => true,
        Ok(other) => {
            log::complain(&format!("{variable}={other:?} is neither 0 nor 1: taken as 1"));
            true
        }
    }
}

/// A ring size from a variable: rounded up to a power of two, within what a ring may be. 0 asks for the default.
fn ring(variable: &str) -> u64 {
    let Some(text) = std::env::var_os(variable) else { return RING_DEFAULT };
    match text.to_str().and_then(parse_size) {
        Some(0) => RING_DEFAULT,
        Some(bytes) => {
            if bytes > RING_MAX {
                log::complain(&format!("{variable}={}: cut to {RING_MAX} bytes", text.display()));
            }
            bytes.clamp(RING_MIN, RING_MAX).next_power_of_two()
        }
        None => {
            log::complain(&format!("{variable}={:?} is no size (NUMBER, NUMBERk or NUMBERm): ignored", text.display()));
            RING_DEFAULT
        }
    }
}
