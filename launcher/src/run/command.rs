//! Becoming the command.

use std::ffi::{CString, OsStr, OsString, c_int};
use std::io;
use std::path::Path;

use preloop_image::obstacle;
use preloop_image::program::{self, NoProgram, SHELL};
use rustix::io::Errno;

use super::environment::{self, Setting, c_string};
use super::launcher::{Launcher, Stop};
use super::library;
use crate::sys;

/// Exit codes of the shell for a command that cannot be run.
const NOT_EXECUTABLE: c_int = 126;
const NOT_FOUND: c_int = 127;

/// What to run, and how.
#[derive(Debug)]
pub struct Plan {
    /// The command's words; at least one.
    pub command: Vec<OsString>,
    /// Variables to set.
    pub settings: Vec<Setting>,
    /// What the library is to do: see [`preloop_uapi::settings::Serves`].
    pub serves: &'static [&'static str],
    /// What becomes of a program that cannot be preloaded, in words.
    pub otherwise: &'static str,
}

/// Does what was planned. Returns the launcher's exit code, unless it becomes the command.
pub fn run(launcher: &Launcher, plan: Result<Plan, Stop>) -> c_int {
    match plan {
        Ok(plan) => become_planned(launcher, plan),
        Err(stop) => launcher.stop(stop),
    }
}

fn become_planned(launcher: &Launcher, plan: Plan) -> c_int {
    let Plan { command, settings, serves, otherwise } = plan;
    let library = match library::find() {
        Ok(library) => library,
        Err(unusable) => return launcher.stop(Stop::Error(unusable.to_string())),
    };
    let name = command[0].display();
    let file = match program::find(&command[0]) {
        Ok(file) => file,
        Err(failure) => {
            let (reason, code) = match failure {
                NoProgram::NotFound(reason) => (reason, NOT_FOUND),
                NoProgram::NotExecutable(reason) => (reason, NOT_EXECUTABLE),
            };
            launcher.complain(&format!("{name}: {reason}"));
            return code;
        }
    };
    let loaded = program::loaded(&file);
    let obstacle = loaded.as_deref().and_then(|loaded| obstacle::find(loaded, library.abi));
    if let (Some(loaded), Some(obstacle)) = (&loaded, &obstacle) {
        let through = if *loaded == file { String::new() } else { format!("{} ", loaded.display()) };
        launcher.complain(&format!("Warning: {name}: {through}{obstacle}: {otherwise}"));
    }
    let environment = environment::with(settings, serves, &library, obstacle.as_ref());
    let error = become_command(&file, &command, &environment);
    launcher.complain(&format!("{name}: {}", program::reason(&error)));
    NOT_EXECUTABLE
}

/// Hands over to the command, or to a shell when its file is text that the kernel cannot run.
fn become_command(file: &Path, command: &[OsString], environment: &[CString]) -> io::Error {
    let words = |words: &[OsString]| words.iter().map(c_string).collect::<Vec<_>>();
    let exec = |file: &OsStr, arguments: &[CString]| sys::exec(&c_string(file), arguments, environment);
    let error = exec(file.as_os_str(), &words(command));
    if error.raw_os_error() != Some(Errno::NOEXEC.raw_os_error()) || !program::runs_in_shell(file) {
        return error;
    }
    let mut arguments = vec![c_string(SHELL), c_string(file)];
    arguments.extend(words(&command[1..]));
    exec(OsStr::new(SHELL), &arguments)
}
