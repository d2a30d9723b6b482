//! Short loads of KCM, see `src/bin/kcm-load/`; `cargo kcm-load` is the long one.

use std::process::{Command, ExitCode};

/// Named as `verify` skips it for want of a compiler.
mod kcm_load {
    use super::{ExitCode, play};

    #[test]
    fn sockets_and_connections_come_and_go() -> ExitCode {
        play(&["--messages", "1000000"])
    }

    #[test]
    fn peers_are_killed() -> ExitCode {
        play(&["--messages", "1000000", "--kill"])
    }

    #[test]
    fn forked_receivers_are_killed() -> ExitCode {
        play(&["--messages", "300000", "--forks"])
    }
}

fn play(arguments: &[&str]) -> ExitCode {
    match Command::new(env!("CARGO_BIN_EXE_kcm-load")).arg("--as-built").args(arguments).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
