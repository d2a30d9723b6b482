//! The environment of the command: the launcher's, with its settings and the library in it.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use preloop_image::obstacle::Obstacle;
use preloop_uapi::settings::{LD_PRELOAD, PRELOOP_SERVES};

use super::library::{self, Library};

/// A variable and its value, if it is to have another one than now.
pub type Setting = (&'static str, Option<OsString>);

/// Name and value of every variable, as execve takes them.
pub fn with(settings: Vec<Setting>, serves: &[&str], library: &Library, obstacle: Option<&Obstacle>) -> Vec<CString> {
    let existing = env::var_os(LD_PRELOAD);
    let preload = if obstacle.is_some_and(Obstacle::breaks_loading) {
        library::without(existing.as_deref(), &library.path)
    } else {
        Some(library::with(existing.as_deref(), &library.path))
    };
    let serves = added(env::var_os(PRELOOP_SERVES), serves);
    let settings: Vec<_> = settings.into_iter().filter(|(_, value)| value.is_some()).collect();
    let settings = [(LD_PRELOAD, preload), (PRELOOP_SERVES, Some(serves))].into_iter().chain(settings);
    let settings: Vec<Setting> = settings.collect();
    let kept = env::vars_os().filter(|(name, _)| settings.iter().all(|(set, _)| name != set));
    let set = settings.iter().filter_map(|(name, value)| Some((OsString::from(name), value.clone()?)));
    kept.chain(set)
        .map(|(mut entry, value)| {
            entry.push("=");
            entry.push(value);
            c_string(entry)
        })
        .collect()
}

/// A comma list with `words` in it, behind what there is: this may be a launcher inside a launcher.
fn added(existing: Option<OsString>, words: &[&str]) -> OsString {
    let mut list = existing.unwrap_or_default();
    for word in words {
        if list.as_bytes().split(|byte| *byte == b',').any(|there| there == word.as_bytes()) {
            continue;
        }
        if !list.is_empty() {
            list.push(",");
        }
        list.push(word);
    }
    list
}

/// A word for execve. It comes from this process's own arguments and environment, so no zero byte is inside.
pub fn c_string(word: impl AsRef<OsStr>) -> CString {
    CString::new(word.as_ref().to_owned().into_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::added;

    #[test]
    fn words_are_added_once() {
        for (existing, words, list) in [
            (None, &["smc"][..], "smc"),
            (Some(""), &["kcm"], "kcm"),
            (Some("smc"), &["kcm"], "smc,kcm"),
            (Some("kcm,smc"), &["kcm", "smc"], "kcm,smc"),
            (Some("nonsense"), &["kcm", "smc"], "nonsense,kcm,smc"),
        ] {
            assert_eq!(added(existing.map(Into::into), words), list);
        }
    }
}
