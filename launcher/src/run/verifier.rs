//! The kernel's verifier, asked about the parser where there are privileges for it.
//!
//! A child asks, and is gone before the command begins: what a kernel or a filter of system calls does to those who call
//! `bpf(2)`, what aya does to limits, and what a damaged object does to aya, happens to nobody else.

use std::fs::File;
use std::io::{self, Write};
use std::panic;

use preloop_image::program::reason;
use preloop_parser_verifier::{Answer, ask_kernel, is_privileged};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::sys;

/// Lines of the verifier's log that a user is shown: the reason comes last, after all that was verified.
const LINES: usize = 10;

/// What the kernel's verifier says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// It takes the parser.
    Taken,
    /// It refuses it, in these words.
    Refused(String),
    /// It was not asked, for this reason.
    NotAsked(String),
}

/// Asks about the program in a section of an object.
pub fn ask(object: &[u8], section: Option<&str>) -> Word {
    if !is_privileged() {
        return Word::NotAsked("neither CAP_BPF nor CAP_SYS_ADMIN".into());
    }
    match sys::in_child(|out| answer(object, section, out)) {
        Ok(bytes) => Word::from_bytes(&bytes).unwrap_or_else(|| Word::NotAsked("asking it failed".into())),
        Err(error) => Word::NotAsked(reason(&error)),
    }
}

/// The child's part.
fn answer(object: &[u8], section: Option<&str>, mut out: File) {
    // If it dies nobody is to see it.
    panic::set_hook(Box::new(|_| {}));
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let word = match ask_kernel(object, section) {
        Ok(Answer::Taken) => Word::Taken,
        Ok(Answer::Refused { errno, log }) => Word::Refused(refusal(errno, &log)),
        Ok(Answer::NotPermitted) => Word::NotAsked("the kernel does not permit bpf(2)".into()),
        Err(error) => Word::NotAsked(error.to_string()),
    };
    // Somebody who does not read it all hears that it failed.
    let _ = out.write_all(&word.to_bytes());
}

/// The reason, and the last lines of the log but for the verifier's statistics.
fn refusal(errno: i32, log: &str) -> String {
    let error = io::Error::from_raw_os_error(errno);
    let lines: Vec<_> = log.trim().lines().filter(|line| !line.starts_with("processed ")).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(LINES));
    last.fold(reason(&error), |text, line| text + "\n  " + line)
}

/// What ends the bytes of a word: a child that was killed did not come to it.
const END: u8 = 0;

impl Word {
    fn to_bytes(&self) -> Vec<u8> {
        let (kind, text) = match self {
            Self::Taken => (b't', ""),
            Self::Refused(text) => (b'r', text.as_str()),
            Self::NotAsked(text) => (b'n', text.as_str()),
        };
        [&[kind], text.as_bytes(), &[END]].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, text) = bytes.strip_suffix(&[END])?.split_first()?;
        let text = String::from_utf8_lossy(text).into_owned();
        match kind {
            b't' => Some(Self::Taken),
            b'r' => Some(Self::Refused(text)),
            _ => Some(Self::NotAsked(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Word, refusal};

    #[test]
    fn words_come_whole_or_not_at_all() {
        for word in [Word::Taken, Word::Refused("no\n  2: why".into()), Word::NotAsked("because".into())] {
            let bytes = word.to_bytes();
            assert_eq!(Word::from_bytes(&bytes), Some(word));
            for end in 0..bytes.len() {
                assert_eq!(Word::from_bytes(&bytes[..end]), None);
            }
        }
    }

    #[test]
    fn the_reason_comes_last() {
        let log: String = (0..20).map(|n| format!("{n}: (b7) r0 = {n}\n")).collect();
        let text = refusal(13, &format!("\n{log}R0 !read_ok\nprocessed 20 insns (limit 1000000)\n"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[1]), (11, "Permission denied", "  11: (b7) r0 = 11"));
        assert_eq!(lines[10], "  R0 !read_ok");
    }
}
