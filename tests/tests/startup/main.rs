//! How programs come to be preloaded, or not: with other libraries before and after this one, without the launcher, for
//! other C libraries and machines, and with libraries that pass preloaded ones by. Each program talks to an echo server
//! that is preloaded, compares what comes back, and prints what it prints without the library.

mod built;
mod by_hand;
mod musl;
#[cfg(target_arch = "x86_64")]
mod narrow;
mod preloads;
mod serves;
mod talk;

use std::process::ExitCode;

use anyhow::Result;
use preloop_tests::verdict;

/// Makes a test of each function of a module.
macro_rules! tests {
    ($($test:ident),+ $(,)?) => {
        mod each {$(
            #[test]
            fn $test() -> std::process::ExitCode {
                crate::play(super::$test)
            }
        )+}
    };
}
pub(crate) use tests;

fn play(test: fn() -> Result<()>) -> ExitCode {
    verdict::of(test())
}
