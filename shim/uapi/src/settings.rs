//! The environment variables that users set and launchers pass on.

/// `1` prints debug lines to stderr.
pub const SMC_DEBUG: &str = "SMC_DEBUG";
/// Receive buffer of each connection: bytes, or a number with `k` or `m`.
pub const SMC_RCVBUF: &str = "SMC_RCVBUF";
/// Send buffer of each connection: bytes, or a number with `k` or `m`.
pub const SMC_SNDBUF: &str = "SMC_SNDBUF";
/// What the library does: a comma list of [`SMC`] and [`KCM`]. Unset or empty means SMC alone. See [`Serves`].
pub const PRELOOP_SERVES: &str = "PRELOOP_SERVES";
/// Carries local TCP connections through shared memory.
pub const SMC: &str = "smc";
/// Gives programs the sockets of AF_KCM.
pub const KCM: &str = "kcm";
/// `1` prints debug lines about KCM to stderr.
pub const KCM_DEBUG: &str = "KCM_DEBUG";
/// Parser of TCP sockets that are attached to a mux without a program: a name, a one-line spec, or `FILE.o[:SECTION]`.
pub const KCM_PARSER: &str = "KCM_PARSER";
/// `1` lets programs use io_uring; their connections then stay on TCP.
pub const PRELOOP_IO_URING: &str = "PRELOOP_IO_URING";
/// The descriptor of what one program leaves to the next at exec. The library's own: users do not set it.
pub const PRELOOP_LETTER: &str = "PRELOOP_LETTER";
/// The dynamic loader's list of libraries to preload.
pub const LD_PRELOAD: &str = "LD_PRELOAD";
/// File to which each event in the life of a connection's end appends a line, for tests.
pub const PRELOOP_STATS: &str = "PRELOOP_STATS";
/// `1` lets waiters that cannot be rung sleep without a bound, for tests: a lost wake-up then hangs.
pub const PRELOOP_UNBOUNDED_WAITS: &str = "PRELOOP_UNBOUNDED_WAITS";
/// `1` begins each connection's handshake when it is connected and accepted, not at its second message, for tests: short
/// connections move then, too, and pay for it.
pub const PRELOOP_EARLY_HANDSHAKE: &str = "PRELOOP_EARLY_HANDSHAKE";
/// Path of the library, for launchers that should not look beside themselves.
pub const PRELOOP_LIB: &str = "PRELOOP_LIB";
/// File name of the library.
pub const LIBRARY: &str = "libpreloop.so";

/// What the library does in a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Serves {
    /// See [`SMC`].
    pub smc: bool,
    /// See [`KCM`].
    pub kcm: bool,
}

impl Default for Serves {
    fn default() -> Self {
        Self { smc: true, kcm: false }
    }
}

impl Serves {
    /// Reads the text of [`PRELOOP_SERVES`], and says whether all of it made sense. Words that do not are left out; with
    /// none left it is the default.
    pub fn parse(text: &str) -> (Self, bool) {
        let has = |name: &str| text.split(',').any(|word| word == name);
        let serves = Self { smc: has(SMC), kcm: has(KCM) };
        let known = text.split(',').all(|word| matches!(word, SMC | KCM | ""));
        (if serves.smc || serves.kcm { serves } else { Self::default() }, known)
    }
}

/// Bytes meant by a size as smc-tools takes it: `[0-9]+[kKmM]?`.
///
/// # Errors
/// `None` when the text is anything else, or the number does not fit in 63 bits.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let bytes = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    (bytes <= i64::MAX as u64).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Serves, parse_size};

    #[test]
    fn what_the_library_does() {
        for (text, smc, kcm, known) in [
            ("", true, false, true),
            ("smc", true, false, true),
            ("kcm", false, true, true),
            ("kcm,smc", true, true, true),
            (",kcm,", false, true, true),
            ("kcm,tls", false, true, false),
            ("smc kcm", true, false, false),
            ("KCM", true, false, false),
        ] {
            assert_eq!(Serves::parse(text), (Serves { smc, kcm }, known), "{text}");
        }
    }

    #[test]
    fn sizes_as_smc_tools_takes_them() {
        for (text, bytes) in
            [("0", 0), ("65536", 65536), ("64k", 65536), ("64K", 65536), ("2m", 2 << 20), ("2M", 2 << 20)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "k", "-1", "+1", "1g", "1 k", "1kk", "0x10", "99999999999999999999", "9999999999999999m"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
