//! Any bytes as a parser's program and a message: nothing crashes, nothing hangs.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../bpf-parsers/tests/hostile/drive.rs"]
mod drive;

fuzz_target!(|bytes: &[u8]| drive::run_bytes(bytes));
