//! Whether the next program of this process will have the library.

use crate::process;
use preloop_image::elf::{self, Abi};
use preloop_image::{obstacle, preload, program};
use preloop_sys::process as system;
use preloop_uapi::settings::{LD_PRELOAD, LIBRARY, PRELOOP_SERVES, Serves};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The libraries that are preloaded whatever the environment says (ld.so(8)).
const SYSTEM_PRELOAD: &str = "/etc/ld.so.preload";

/// What the library itself is, and can be loaded with.
const OWN_ABI: Abi = Abi {
    wide: cfg!(target_pointer_width = "64"),
    little_endian: cfg!(target_endian = "little"),
    machine: if cfg!(target_arch = "x86_64") { object::elf::EM_X86_64.0 } else { object::elf::EM_AARCH64.0 },
};

/// What comes after exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the file is not there, or is none that this process may execute.
    None,
    /// A program without the library.
    Bare,
    /// A program with it. `streams`: its standard streams, too, can serve a connection that has moved.
    Preloaded {
        /// See above.
        streams: bool,
        /// Whether it serves KCM sockets.
        kcm: bool,
    },
}

impl Next {
    /// Whether it can go on with KCM sockets, whatever their connections are carried by.
    pub fn serves_kcm(self) -> bool {
        matches!(self, Self::Preloaded { kcm: true, .. })
    }
}

/// What running `file` with this environment leads to.
pub fn of_file<'a>(file: &Path, environment: impl Iterator<Item = &'a [u8]> + Clone) -> Next {
    if !file.is_file() || !may_execute(file) {
        return Next::None;
    }
    let loads = |loaded: &PathBuf| obstacle::find(loaded, OWN_ABI).is_none();
    match program::loaded(file).filter(|loaded| is_named(environment.clone()) && loads(loaded)) {
        Some(loaded) => Next::Preloaded {
            streams: elf::has_plain_streams(&loaded).unwrap_or(false),
            kcm: Serves::parse(&String::from_utf8_lossy(value(environment, PRELOOP_SERVES).unwrap_or_default())).0.kcm,
        },
        None => Next::Bare,
    }
}

/// So that no connection changes back to TCP for a program that is not going to run.
fn may_execute(file: &Path) -> bool {
    process::is_filtered() || CString::new(file.as_os_str().as_bytes()).is_ok_and(|file| system::may_execute(&file))
}

/// Whether naming the library would keep the file from starting, or make its loader complain: it is for another C library
/// or machine. Allocates nothing.
pub fn chokes(file: &CStr) -> bool {
    obstacle::breaks_loading(file, OWN_ABI)
}

/// An entry of an environment, without the library if it is the list of those to preload.
pub fn without_library(entry: &[u8]) -> Option<CString> {
    let list = entry.strip_prefix(LD_PRELOAD.as_bytes())?.strip_prefix(b"=")?;
    let others = preload::without(list, is_library)?;
    CString::new([LD_PRELOAD.as_bytes(), b"=", &others].concat()).ok()
}

/// What a variable is set to.
fn value<'a>(mut environment: impl Iterator<Item = &'a [u8]>, variable: &str) -> Option<&'a [u8]> {
    environment.find_map(|entry| entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"="))
}

/// Whether the dynamic loader is told to preload the library.
fn is_named<'a>(environment: impl Iterator<Item = &'a [u8]>) -> bool {
    let list = value(environment, LD_PRELOAD);
    let of_system = || std::fs::read(SYSTEM_PRELOAD).unwrap_or_default();
    list.is_some_and(|list| preload::has(list, is_library))
        || of_system().split(u8::is_ascii_whitespace).any(|list| preload::has(list, is_library))
}

fn is_library(name: &[u8]) -> bool {
    let path = Path::new(OsStr::from_bytes(name));
    // The loader passes over what is not there (after chroot(2)).
    path.file_name() == Some(OsStr::new(LIBRARY)) && (!name.contains(&b'/') || path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_split_as_the_loader_splits_it() {
        for (list, names) in [
            ("libpreloop.so", true),
            ("/a/libx.so:libpreloop.so", true),
            ("/a/libx.so libpreloop.so", true),
            ("/no/such/libpreloop.so", false),
            ("libpreloop.so.1", false),
            ("", false),
        ] {
            assert_eq!(preload::has(list.as_bytes(), is_library), names, "{list:?}");
        }
    }

    #[test]
    fn the_library_is_taken_out() {
        let without = |entry: &str| without_library(entry.as_bytes()).map(|entry| entry.into_string().unwrap());
        assert_eq!(without("LD_PRELOAD=libpreloop.so").as_deref(), Some("LD_PRELOAD="));
        assert_eq!(without("LD_PRELOAD=a.so libpreloop.so:b.so").as_deref(), Some("LD_PRELOAD=a.so:b.so"));
        assert_eq!(without("LD_PRELOAD=a.so"), None);
        assert_eq!(without("PATH=libpreloop.so"), None);
    }

    #[test]
    fn what_follows() {
        let preload = [&b"PATH=/bin"[..], b"LD_PRELOAD=libpreloop.so"];
        let with = || preload.into_iter();
        assert_eq!(of_file(Path::new("/no/such/file"), with()), Next::None);
        assert_eq!(of_file(Path::new("/etc/passwd"), with()), Next::None);
        assert_eq!(of_file(Path::new("/bin"), with()), Next::None);
        assert_eq!(of_file(Path::new("/bin/sh"), with()), Next::Preloaded { streams: true, kcm: false });
        let serving = with().chain([&b"PRELOOP_SERVES=kcm,smc"[..]]);
        assert_eq!(of_file(Path::new("/bin/sh"), serving), Next::Preloaded { streams: true, kcm: true });
        assert_eq!(of_file(Path::new("/bin/sh"), preload.into_iter().take(1)), Next::Bare);
        assert_eq!(of_file(Path::new(""), with()), Next::None);
    }
}
