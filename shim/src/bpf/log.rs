//! The verifier's log, as `bpf_vlog_init` and `bpf_vlog_finalize` of Linux's `kernel/bpf/log.c` (6.4) deal with it.

use preloop_sys::Errno;
use preloop_sys::memory::Memory;
use preloop_uapi::bpf::{LOG_FIXED, LOG_MASK, ProgLoad};

/// Where a program wants the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    level: u32,
    size: u32,
    buffer: u64,
}

impl Log {
    /// What the attributes ask for.
    ///
    /// # Errors
    /// EINVAL for a buffer without size or level, a size without buffer, unknown levels.
    pub(super) fn new(attr: &ProgLoad) -> Result<Self, Errno> {
        let ProgLoad { log_level: level, log_size: size, log_buf: buffer, .. } = *attr;
        let whole = (buffer != 0) == (size != 0) && (buffer == 0 || level != 0);
        let known = level & !LOG_MASK == 0 && size <= u32::MAX >> 2;
        if whole && known { Ok(Self { level, size, buffer }) } else { Err(Errno::EINVAL) }
    }

    /// Stores the log; of one that does not fit the end, or with `BPF_LOG_FIXED` the beginning. Answers how many bytes
    /// it needs in all, and how storing it went: ENOSPC, EFAULT.
    pub(super) fn store(self, text: &str, memory: Memory) -> (u32, Result<(), Errno>) {
        if self.level & !LOG_FIXED == 0 {
            return (0, Ok(()));
        }
        let needed = text.len() + 1;
        let room = self.size as usize;
        if room == 0 {
            return (needed as u32, Ok(()));
        }
        let kept = kept(text.as_bytes(), room - 1, self.level & LOG_FIXED != 0);
        let stored = memory.write(self.buffer, &[kept, &[0]].concat());
        let fits = if needed <= room { Ok(()) } else { Err(Errno::ENOSPC) };
        (needed as u32, stored.and(fits))
    }
}

fn kept(text: &[u8], room: usize, beginning: bool) -> &[u8] {
    let room = room.min(text.len());
    if beginning { &text[..room] } else { &text[text.len() - room..] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(level: u32, size: u32, buffer: u64) -> bool {
        Log::new(&ProgLoad { log_level: level, log_size: size, log_buf: buffer, ..ProgLoad::default() }).is_ok()
    }

    #[test]
    fn what_may_be_asked_for() {
        assert!(asked(0, 0, 0) && asked(1, 16, 8) && asked(2, 0, 0) && asked(15, 1, 8));
        assert!(!asked(0, 16, 8) && !asked(1, 16, 0) && !asked(1, 0, 8) && !asked(16, 16, 8));
        assert!(!asked(1, u32::MAX, 8));
    }

    #[test]
    fn logs_are_cut_as_the_kernel_cuts_them() {
        assert_eq!(kept(b"0123456789", 10, false), b"0123456789");
        assert_eq!(kept(b"0123456789", 99, true), b"0123456789");
        assert_eq!(kept(b"0123456789", 4, false), b"6789");
        assert_eq!(kept(b"0123456789", 4, true), b"0123");
        assert_eq!(kept(b"0123456789", 0, false), b"");
    }
}
