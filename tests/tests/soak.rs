//! A short soak, see `src/bin/soak/`; `cargo soak` is the long one.

use std::process::{Command, ExitCode};

/// Named as `verify` skips it for want of Python.
mod soak {
    #[test]
    fn short() -> std::process::ExitCode {
        super::play()
    }
}

fn play() -> ExitCode {
    let run = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--as-built", "--minutes", "0.3", "--connections", "300"])
        .status();
    match run {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
