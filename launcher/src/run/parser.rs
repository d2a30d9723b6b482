//! The parser that the user means, checked before any program starts.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, absolute};

use preloop_image::program::reason;
use preloop_parsers::object::MAX_OBJECT_BYTES;
use preloop_parsers::registry;

use super::verifier::{self, Word};

/// The text by which a program finds the parser: a file's name made absolute, since the program and its children may
/// change directory. `tell` says who checked it.
///
/// # Errors
/// With words for the user, when no parser is meant, or it cannot be loaded.
pub fn check(text: OsString, tell: impl FnOnce(&str)) -> Result<OsString, String> {
    let text = text.into_string().map_err(|text| format!("no parser {}: not in UTF-8", text.display()))?;
    let mut object = None;
    let read_object = |file: &Path| read(file).inspect(|bytes| object = Some(bytes.clone()));
    let parser = registry::find(&text, read_object).map_err(|error| error.to_string())?;
    let known = registry::KNOWN.iter().find(|known| known.name == text);
    verify(&text, object.as_deref().or(known.map(|known| known.object)), tell)?;
    parser.load().map_err(|rejected| format!("parser {text}: {rejected}"))?;
    let Some((file, section)) = registry::object_file(&text) else { return Ok(text.into()) };
    let mut place = absolute(file).map_err(|error| format!("{file}: {error}"))?.into_os_string();
    if let Some(section) = section {
        place.push(":");
        place.push(section);
    }
    Ok(place)
}

/// Puts an object before the kernel's verifier, which has the first word where it may be asked.
fn verify(text: &str, object: Option<&[u8]>, tell: impl FnOnce(&str)) -> Result<(), String> {
    let section = registry::object_file(text).and_then(|(_, section)| section);
    // A spec's program is of the project's own making.
    let word = object.map_or_else(|| Word::NotAsked("it is a spec".into()), |object| verifier::ask(object, section));
    match word {
        Word::Taken => tell(&format!("parser {text}: the kernel's verifier takes it")),
        Word::NotAsked(why) => tell(&format!("parser {text}: the kernel's verifier was not asked: {why}")),
        Word::Refused(why) => return Err(format!("parser {text}: the kernel's verifier refuses it: {why}")),
    }
    Ok(())
}

/// A file, or as much of it as shows that it is too large.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let done = File::open(file).and_then(|file| file.take(MAX_OBJECT_BYTES as u64 + 1).read_to_end(&mut bytes));
    done.map(|_| bytes).map_err(|error| io::Error::new(error.kind(), reason(&error)))
}
