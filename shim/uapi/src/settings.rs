//! The environment variables that users set and launchers pass on.

/// `1` prints debug lines to stderr.
pub const SMC_DEBUG: &str = "SMC_DEBUG";
/// Receive buffer of each connection: bytes, or a number with `k` or `m`.
pub const SMC_RCVBUF: &str = "SMC_RCVBUF";
/// Send buffer of each connection: bytes, or a number with `k` or `m`.
pub const SMC_SNDBUF: &str = "SMC_SNDBUF";
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
/// Path of the library, for launchers that should not look beside themselves.
pub const PRELOOP_LIB: &str = "PRELOOP_LIB";
/// File name of the library.
pub const LIBRARY: &str = "libpreloop.so";

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
    use super::parse_size;

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
