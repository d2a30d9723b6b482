//! The subjects, and beside each what may differ from TCP while both ends are preloaded, with the reason.

/// Makes a test of each subject.
macro_rules! subjects {
    ($($subject:ident $({ $($fact:literal is $value:literal because $reason:literal),+ $(,)? })?)+) => {
        #[cfg(test)]
        pub(crate) const SUBJECTS: &[&str] = &[$(stringify!($subject)),+];

        /// Named as `verify` skips it for want of a compiler.
        mod syscall {
            use crate::report::Permit;

            $(#[test]
            fn $subject() -> std::process::ExitCode {
                const PERMITS: &[Permit] = &[$($(Permit { fact: $fact, value: $value, because: $reason }),+)?];
                crate::play(stringify!($subject), PERMITS)
            })+
        }
    };
}

subjects! {
    oob epoll_level epoll_edge epoll_sets epoll_threads epoll_mixed masks eintr poll_select half_close resets peek timeouts cancel threads vectors options sigio transfer connect dups stdio forks handovers limits writing
}

#[test]
fn every_source_is_a_subject() {
    let stem = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        path.extension().is_some_and(|extension| extension == "c").then(|| path.file_stem().unwrap().to_owned())
    };
    let mut found: Vec<_> = std::fs::read_dir(crate::compile::sources()).unwrap().filter_map(stem).collect();
    found.retain(|name| name != "facts");
    found.sort();
    let mut subjects = SUBJECTS.to_vec();
    subjects.sort();
    assert_eq!(found, subjects);
}
