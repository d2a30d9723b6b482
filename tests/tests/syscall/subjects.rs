//! The subjects, and beside each what may differ from TCP while both ends are preloaded, with the reason.

/// Makes a test of each subject.
macro_rules! subjects {
    ($($subject:ident $({ $($fact:literal is $value:literal because $reason:literal),+ $(,)? })?)+) => {
        #[cfg(test)]
        pub(crate) const SUBJECTS: &[&str] = &[$(stringify!($subject)),+];

        /// Named as `verify` skips it for want of a compiler.
        mod syscall {
            use preloop_tests::syscall::report::Permit;

            $(#[test]
            fn $subject() -> std::process::ExitCode {
                const PERMITS: &[Permit] = &[$($(Permit { fact: $fact, value: $value, because: $reason }),+)?];
                crate::play(stringify!($subject), PERMITS)
            })+
        }
    };
}

subjects! {
    cancel
    connect
    crowd
    deaths
    dups
    eintr
    epoll_edge
    epoll_level
    epoll_mixed
    epoll_sets {
        "nested: read without asking inner" is "IN" because "an inner set is reported once too often",
        "nested: polled without asking inner" is "IN" because "an inner set is reported once too often",
    }
    epoll_threads
    forks
    high_numbers
    half_close {
        "both SHUT_WR: shutdown" is "0" because "the kernel's socket stays established until it is closed",
        "both SHUT_WR: getpeername" is "0" because "the kernel's socket stays established until it is closed",
    }
    handovers
    kinds
    late
    limits
    masks
    oob
    options
    parcels
    passing
    peek
    poll_select
    resets
    sigio
    stalls
    stdio {
        "io_uring" is "ENOSYS" because "programs are to do without it",
    }
    threads
    timeouts
    transfer
    unseen
    uncounted
    vectors
    writing
}

#[test]
fn every_source_is_a_subject() {
    let stem = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        path.extension().is_some_and(|extension| extension == "c").then(|| path.file_stem().unwrap().to_owned())
    };
    let mut found: Vec<_> = std::fs::read_dir(preloop_tests::syscall::sources()).unwrap().filter_map(stem).collect();
    found.retain(|name| !preloop_tests::syscall::COMMON.contains(&format!("{}.c", name.display()).as_str()));
    found.sort();
    let mut subjects = SUBJECTS.to_vec();
    subjects.sort();
    assert_eq!(found, subjects);
}
