//! What a launcher says, and how it ends when it runs nothing.

use std::ffi::c_int;
use std::io::{self, Write};

/// A launcher.
#[derive(Clone, Copy, Debug)]
pub struct Launcher {
    /// Its name, which stands before what it says.
    pub name: &'static str,
    /// Its help.
    pub usage: &'static str,
}

/// How options end a launcher by themselves.
#[derive(Debug)]
pub enum Stop {
    /// They asked for this text.
    Answer(String),
    /// An error that smc-tools words itself, and prints to stdout.
    Refusal(String),
    /// There is no such option, or its argument is missing: the help follows.
    Usage(String),
    /// Anything else that is wrong.
    Error(String),
}

impl Launcher {
    /// Prints what ends the launcher, and returns its exit code.
    pub fn stop(&self, stop: Stop) -> c_int {
        let (text, code) = match stop {
            Stop::Answer(text) => (text, 0),
            Stop::Refusal(text) => (text, 1),
            Stop::Usage(message) => return self.fail(&format!("{message}\n{}", self.usage)),
            Stop::Error(message) => return self.fail(&message),
        };
        let _ = writeln!(io::stdout(), "{text}");
        code
    }

    fn fail(&self, message: &str) -> c_int {
        self.complain(&format!("Error: {message}"));
        1
    }

    /// Tells the user something. Unlike `eprintln`, it lets the command run even where nobody can be told.
    pub fn complain(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{}: {text}", self.name);
    }
}
