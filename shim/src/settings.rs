//! What the user set in the environment. Nonsense gets one line on stderr, and the default.

use crate::log;
use preloop_sys::process;
use preloop_uapi::group::{RING_MAX, RING_MIN};
use preloop_uapi::settings::{
    KCM_DEBUG, KCM_PARSER, PRELOOP_EARLY_HANDSHAKE, PRELOOP_IO_URING, PRELOOP_SERVES, PRELOOP_STATS,
    PRELOOP_UNBOUNDED_WAITS, SMC_DEBUG, SMC_RCVBUF, SMC_SNDBUF, Serves, parse_size,
};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

/// Ring bytes per direction when nothing is set.
const RING_DEFAULT: u64 = 256 << 10;

/// The settings of this process.
#[derive(Debug)]
pub struct Settings {
    /// Local TCP connections may move to shared memory. Without it no TCP socket is known to the library.
    pub smc: bool,
    /// The program may have sockets of AF_KCM.
    pub kcm: bool,
    /// Print debug lines.
    pub debug: bool,
    /// Print debug lines about KCM.
    pub kcm_debug: bool,
    /// Parser of TCP sockets that are attached without a program, as the user wrote it.
    pub kcm_parser: Option<OsString>,
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
    /// Connections begin their handshake when they are connected, and accepted.
    pub early_handshake: bool,
    /// Waiters that cannot be rung sleep without a bound.
    pub unbounded_waits: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let Serves { smc, kcm } = Serves::default();
        Self {
            smc,
            kcm,
            debug: false,
            kcm_debug: false,
            kcm_parser: None,
            receive_ring: RING_DEFAULT,
            send_ring: RING_DEFAULT,
            memory_budget: process::memory_limit() / 16,
            io_uring: false,
            stats: None,
            early_handshake: false,
            unbounded_waits: false,
        }
    }
}

impl Settings {
    /// Reads the environment.
    pub fn from_env() -> Self {
        let Serves { smc, kcm } = serves();
        Self {
            smc,
            kcm,
            debug: switch(SMC_DEBUG),
            kcm_debug: switch(KCM_DEBUG),
            kcm_parser: std::env::var_os(KCM_PARSER).filter(|text| !text.is_empty()),
            receive_ring: ring(SMC_RCVBUF),
            send_ring: ring(SMC_SNDBUF),
            io_uring: switch(PRELOOP_IO_URING),
            stats: std::env::var_os(PRELOOP_STATS).and_then(|path| CString::new(path.into_vec()).ok()),
            early_handshake: switch(PRELOOP_EARLY_HANDSHAKE),
            unbounded_waits: switch(PRELOOP_UNBOUNDED_WAITS),
            ..Self::default()
        }
    }
}

/// What the library is to do.
fn serves() -> Serves {
    let text = std::env::var_os(PRELOOP_SERVES).unwrap_or_default();
    let (serves, known) = Serves::parse(&text.to_string_lossy());
    if !known {
        log::complain(PRELOOP_SERVES, &format!("{:?}: only smc and kcm are known", text.display()));
    }
    serves
}

/// A variable that is on or off.
fn switch(variable: &str) -> bool {
    match std::env::var(variable).as_deref() {
        Ok("" | "0") | Err(_) => false,
        Ok("1") => true,
        Ok(other) => {
            log::complain(variable, &format!("{other:?} is neither 0 nor 1: taken as 1"));
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
                log::complain(variable, &format!("{}: cut to {RING_MAX} bytes", text.display()));
            }
            bytes.clamp(RING_MIN, RING_MAX).next_power_of_two()
        }
        None => {
            log::complain(variable, &format!("{:?} is no size (NUMBER, NUMBERk or NUMBERm): ignored", text.display()));
            RING_DEFAULT
        }
    }
}
