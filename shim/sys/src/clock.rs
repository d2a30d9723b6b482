//! Time and place: the monotonic clock and the current processor, both without entering the kernel.

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// The processor this thread runs on, plus one; 0 when unknown.
pub fn cpu() -> u32 {
    // SAFETY: takes no arguments.
    (unsafe { libc::sched_getcpu() } + 1) as u32
}
