//! Why a program cannot be preloaded.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::elf::{self, Abi, Elf};
use super::program;
use super::secure::{Privilege, privilege};

/// Beginnings of the file names of dynamic loaders that are not glibc's.
const FOREIGN_LOADERS: [&str; 3] = ["ld-musl", "ld-uClibc", "linker"];
/// Beginnings of the file names of glibc's dynamic loader, which has no loader of its own and preloads all the same.
const GLIBC_LOADERS: [&str; 3] = ["ld-linux", "ld.so", "ld64.so"];

/// What keeps the library out of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// No dynamic loader runs.
    Static,
    /// It is for another kind of process than the library.
    OtherMachine(Abi),
    /// Its dynamic loader belongs to another C library, in which a library for glibc does not load.
    OtherLibc(PathBuf),
    /// It would be preloaded, but makes its system calls without the C library.
    Go,
    /// It runs with more rights than the caller, so the dynamic loader ignores `LD_PRELOAD`.
    Privileged(Privilege),
}

impl Obstacle {
    /// Whether the library must not even be named: the loader would complain, or refuse to start the program.
    pub fn breaks_loading(&self) -> bool {
        matches!(self, Self::OtherMachine(_) | Self::OtherLibc(_))
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => write!(out, "is statically linked, nothing can be preloaded"),
            Self::OtherMachine(abi) => {
                let bits = if abi.wide { 64 } else { 32 };
                write!(out, "is a {bits}-bit program for ELF machine {}, which the library is not", abi.machine)
            }
            Self::OtherLibc(loader) => write!(out, "is loaded by {}, the library needs glibc", loader.display()),
            Self::Go => write!(out, "is a Go program, which bypasses the C library"),
            Self::Privileged(Privilege::Identity) => {
                write!(out, "is setuid or setgid, so the loader ignores LD_PRELOAD")
            }
            Self::Privileged(Privilege::Capabilities) => {
                write!(out, "has file capabilities, so the loader ignores LD_PRELOAD")
            }
        }
    }
}

/// What keeps a library for `library` out of the ELF file `file`; `None` when nothing is known that would.
pub fn find(file: &Path, library: Abi) -> Option<Obstacle> {
    let elf = elf::look(file).ok()?;
    of_contents(&elf, file, library).or_else(|| privilege(file).ok()?.map(Obstacle::Privileged))
}

/// Whether the loader that running `file` brings in, itself or as the interpreter of a script, would complain of a library
/// for `library`, or refuse to start the program: see [`Obstacle::breaks_loading`]. Without allocating, for a caller
/// that may be a signal handler; what it cannot tell so is no.
pub fn breaks_loading(file: &CStr, library: Abi) -> bool {
    let mut head = [0; elf::PAGE];
    let mut name = [0; elf::PAGE];
    let mut length = file.to_bytes().len();
    if length >= name.len() {
        return false;
    }
    name[..length].copy_from_slice(file.to_bytes());
    for _ in 0..=program::MAX_SCRIPTS {
        let Some(read) = elf::first_page(OsStr::from_bytes(&name[..length]), &mut head) else { return false };
        let Some(line) = head[..read].strip_prefix(b"#!") else {
            return elf::loader_in(&head[..read]).is_some_and(|(abi, loader)| {
                abi != library || loader.is_some_and(|loader| file_name_starts(Path::new(loader), &FOREIGN_LOADERS))
            });
        };
        let Some(interpreter) = program::interpreter_of(line) else { return false };
        length = interpreter.len();
        name[..length].copy_from_slice(interpreter);
    }
    false
}

fn of_contents(elf: &Elf, file: &Path, library: Abi) -> Option<Obstacle> {
    if elf.abi != library {
        return Some(Obstacle::OtherMachine(elf.abi));
    }
    match &elf.loader {
        None if file_name_starts(file, &GLIBC_LOADERS) => None,
        None => Some(Obstacle::Static),
        Some(loader) if file_name_starts(loader, &FOREIGN_LOADERS) => Some(Obstacle::OtherLibc(loader.clone())),
        Some(_) if elf.go => Some(Obstacle::Go),
        Some(_) => None,
    }
}

fn file_name_starts(path: &Path, beginnings: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    beginnings.iter().any(|beginning| name.starts_with(beginning.as_bytes()))
}
