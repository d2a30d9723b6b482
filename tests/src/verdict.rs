//! What a test answers.

use std::process::ExitCode;

use anyhow::Result;

/// The verdict on a test; why it failed is printed, with all causes in one line.
pub fn of(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
