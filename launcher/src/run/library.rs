//! Where the library is, and how `LD_PRELOAD` names it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use preloop_uapi::settings::{LD_PRELOAD, LIBRARY, PRELOOP_LIB};

use preloop_image::elf::{self, Abi};
use preloop_image::preload;

/// The library, ready to be preloaded.
#[derive(Debug)]
pub struct Library {
    /// Absolute path, free of spaces and colons.
    pub path: PathBuf,
    /// For which processes it is.
    pub abi: Abi,
}

/// Why nothing can be preloaded.
#[derive(Debug)]
pub enum Unusable {
    /// No file at any of these places.
    Missing(Vec<PathBuf>),
    /// There is a file, but no shared library.
    NoLibrary(PathBuf),
    /// `LD_PRELOAD` is split at spaces and colons, and knows no quoting.
    Unnameable(PathBuf),
}

impl fmt::Display for Unusable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(places) => {
                write!(out, "{LIBRARY} not found (looked at")?;
                for (index, place) in places.iter().enumerate() {
                    write!(out, "{} {}", if index == 0 { "" } else { "," }, place.display())?;
                }
                write!(out, "); {PRELOOP_LIB} can name it")
            }
            Self::NoLibrary(path) => write!(out, "{} is not a shared library", path.display()),
            Self::Unnameable(path) => {
                write!(out, "{LD_PRELOAD} cannot hold '{}': its path has a space or a colon", path.display())
            }
        }
    }
}

/// Finds the library: at `PRELOOP_LIB` and nowhere else when that is set, otherwise near the launcher.
///
/// # Errors
/// Why there is none to preload.
pub fn find() -> Result<Library, Unusable> {
    let places = match env::var_os(PRELOOP_LIB).filter(|path| !path.is_empty()) {
        // Made absolute: the program and its children may change directory before they start others.
        Some(path) => vec![std::path::absolute(&path).unwrap_or_else(|_| path.into())],
        None => near_launcher(),
    };
    let Some(path) = places.iter().find(|place| place.exists()).cloned() else {
        return Err(Unusable::Missing(places));
    };
    if path.as_os_str().as_bytes().iter().any(|byte| preload::separates(*byte)) {
        return Err(Unusable::Unnameable(path));
    }
    match elf::look(&path) {
        Ok(elf) if elf.shared => Ok(Library { path, abi: elf.abi }),
        _ => Err(Unusable::NoLibrary(path)),
    }
}

/// Beside the launcher, and in the `lib` directories of the tree that it is installed in.
fn near_launcher() -> Vec<PathBuf> {
    let launcher = fs::read_link("/proc/self/exe").unwrap_or_default();
    let Some(directory) = launcher.parent() else { return vec![LIBRARY.into()] };
    let mut places = vec![directory.join(LIBRARY)];
    if let Some(prefix) = directory.parent() {
        let multiarch = format!("lib/{}-linux-gnu", env::consts::ARCH);
        places.extend(["lib", &multiarch, "lib64"].map(|lib| prefix.join(lib).join(LIBRARY)));
    }
    places
}

/// `LD_PRELOAD` with `library` appended, unless it is there already.
pub fn with(existing: Option<&OsStr>, library: &Path) -> OsString {
    let existing = existing.unwrap_or_default().as_bytes();
    if preload::has(existing, |entry| names(entry, library)) {
        return OsString::from_vec(existing.to_vec());
    }
    let mut value = existing.to_vec();
    if value.last().is_some_and(|byte| !preload::separates(*byte)) {
        value.push(b':');
    }
    value.extend(library.as_os_str().as_bytes());
    OsString::from_vec(value)
}

/// `LD_PRELOAD` without `library`, or `None` when nothing else is in it.
pub fn without(existing: Option<&OsStr>, library: &Path) -> Option<OsString> {
    let existing = existing?.as_bytes();
    let left = preload::without(existing, |entry| names(entry, library)).unwrap_or_else(|| existing.to_vec());
    (!left.is_empty()).then(|| OsString::from_vec(left))
}

/// Whether an entry of `LD_PRELOAD` means this library, be it by another path.
fn names(entry: &[u8], library: &Path) -> bool {
    let entry = Path::new(OsStr::from_bytes(entry));
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    entry == library || (entry.is_absolute() && identity(entry).is_some_and(|id| identity(library) == Some(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "/no/such/libpreloop.so";

    fn with_str(existing: Option<&str>) -> String {
        with(existing.map(OsStr::new), Path::new(LIB)).into_string().unwrap()
    }

    #[test]
    fn appended_once_whatever_the_separator() {
        assert_eq!(with_str(None), LIB);
        assert_eq!(with_str(Some("")), LIB);
        assert_eq!(with_str(Some("/a.so")), format!("/a.so:{LIB}"));
        assert_eq!(with_str(Some("/a.so:")), format!("/a.so:{LIB}"));
        for present in [format!("{LIB}:/a.so"), format!("/a.so {LIB}"), LIB.to_owned()] {
            assert_eq!(with_str(Some(&present)), present);
        }
    }

    #[test]
    fn another_path_to_the_same_file_is_the_same_library() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link] = ["libpreloop.so", "link.so"].map(|name| directory.path().join(name));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(with(Some(link.as_os_str()), &file), link.as_os_str());
    }

    #[test]
    fn taken_out_again() {
        let without = |existing: Option<&str>| without(existing.map(OsStr::new), Path::new(LIB));
        assert_eq!(without(None), None);
        assert_eq!(without(Some(LIB)), None);
        assert_eq!(without(Some(&format!("/a.so {LIB}:/b.so"))), Some("/a.so:/b.so".into()));
    }
}
