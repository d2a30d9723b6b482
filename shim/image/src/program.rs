//! From the words of a command to the file that the kernel will load.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::elf;

/// Where programs are looked for when `PATH` is not set: glibc's `_CS_PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// What runs a file of text that the kernel cannot run, as with `execvp` and in every shell.
pub const SHELL: &str = "/bin/sh";
/// How many `#!` the kernel follows.
pub(crate) const MAX_SCRIPTS: usize = 5;

/// Why a command cannot be run, as a shell distinguishes it.
#[derive(Debug)]
pub enum NoProgram {
    /// Exit code 127.
    NotFound(String),
    /// Exit code 126.
    NotExecutable(String),
}

/// Finds the file of `command`: itself when it has a slash, otherwise the first executable in `PATH`.
///
/// # Errors
/// There is no such file, or none that may be executed.
pub fn find(command: &OsStr) -> Result<PathBuf, NoProgram> {
    if command.as_bytes().contains(&b'/') {
        return match executable(Path::new(command)) {
            Ok(()) => Ok(command.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NoProgram::NotFound(reason(&error))),
            Err(error) => Err(NoProgram::NotExecutable(reason(&error))),
        };
    }
    let mut failure = NoProgram::NotFound("command not found".into());
    if command.is_empty() {
        return Err(failure);
    }
    let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    for directory in env::split_paths(&path) {
        // An empty entry is the current directory; the slash keeps execve's file apart from a name to look up.
        let file =
            if directory.as_os_str().is_empty() { Path::new(".").join(command) } else { directory.join(command) };
        match executable(&file) {
            Ok(()) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && file.is_file() => {
                failure = NoProgram::NotExecutable(reason(&error));
            }
            Err(_) => {}
        }
    }
    Err(failure)
}

fn executable(file: &Path) -> io::Result<()> {
    if fs::metadata(file)?.is_dir() {
        return Err(rustix::io::Errno::ISDIR.into());
    }
    Ok(accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// The kernel's words for an error, without the number that std adds.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or_else(|| text.clone(), |(words, _)| words.to_owned())
}

/// The ELF file that running `file` loads: itself, or at the end of a chain of `#!` (through `env`, too) the last
/// interpreter. `None` when that cannot be told, for example because the file may be run but not read.
pub fn loaded(file: &Path) -> Option<PathBuf> {
    let mut file = file.to_owned();
    for depth in 0..=MAX_SCRIPTS {
        let head = elf::head(&file).ok()?;
        if elf::is_elf(&head) {
            return Some(file);
        }
        file = match head.strip_prefix(b"#!") {
            Some(line) => interpreter(line)?,
            // The kernel refuses it; only the command itself gets a second chance.
            None if depth == 0 && is_text(&head) => SHELL.into(),
            None => return None,
        };
    }
    None
}

/// Whether a file that the kernel did not know may be meant for [`SHELL`].
pub fn runs_in_shell(file: &Path) -> bool {
    elf::head(file).is_ok_and(|head| is_text(&head))
}

fn is_text(head: &[u8]) -> bool {
    !head.contains(&0)
}

/// The program that a `#!` line (without these two bytes) starts.
fn interpreter(line: &[u8]) -> Option<PathBuf> {
    let (program, argument) = words(line)?;
    let program = Path::new(OsStr::from_bytes(program));
    if program.file_name() != Some(OsStr::new("env")) || argument.is_empty() {
        return Some(program.to_owned());
    }
    find(&env_command(argument)?).ok()
}

/// The interpreter that a `#!` line (without these two bytes) names, `env` being one like others.
pub(crate) fn interpreter_of(line: &[u8]) -> Option<&[u8]> {
    words(line).map(|(program, _)| program)
}

/// The two words that the kernel makes of the line: the program, and all the rest.
fn words(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let (program, argument) = match line.iter().position(u8::is_ascii_whitespace) {
        Some(end) => (&line[..end], line[end..].trim_ascii()),
        None => (line, &[][..]),
    };
    (!program.is_empty()).then_some((program, argument))
}

/// What `env` runs. The kernel hands it all the words as one argument, which `env` takes apart after `-S` only.
fn env_command(argument: &[u8]) -> Option<OsString> {
    let Some(split) = argument.strip_prefix(b"-S").or_else(|| argument.strip_prefix(b"--split-string=")) else {
        return Some(OsStr::from_bytes(argument).to_owned());
    };
    let mut words = split.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let command = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='))?;
    Some(OsStr::from_bytes(command).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_of_scripts() {
        let cases: [(&str, Option<&str>); 5] = [
            ("/bin/sh\nexit", Some("/bin/sh")),
            (" /bin/sh -eu\n", Some("/bin/sh")),
            ("/no/where", Some("/no/where")),
            ("\n/bin/sh", None),
            ("/usr/bin/env", Some("/usr/bin/env")),
        ];
        for (line, program) in cases {
            assert_eq!(interpreter(line.as_bytes()), program.map(PathBuf::from), "{line:?}");
        }
    }

    #[test]
    fn env_splits_after_s_only() {
        for (argument, command) in [("sh", "sh"), ("sh -e", "sh -e"), ("-S sh -e", "sh"), ("-Ssh", "sh")] {
            assert_eq!(env_command(argument.as_bytes()), Some(command.into()), "{argument:?}");
        }
        assert_eq!(env_command(b"-S -i A=1 sh -e"), Some("sh".into()));
        assert_eq!(env_command(b"-S -i"), None);
    }
}
