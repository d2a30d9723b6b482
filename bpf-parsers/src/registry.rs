//! Parsers by name, and what a user may write for one.

use std::fmt;
use std::io;
use std::path::Path;

use crate::object;
use crate::parser::Parser;
use crate::spec::Spec;

/// A parser that comes with this crate.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// What users call it.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// The object file, compiled from `programs/`.
    pub object: &'static [u8],
}

/// All parsers that come with this crate, by name.
pub const KNOWN: [Known; 3] = [
    Known {
        name: "9p",
        about: "9P: 4 bytes of length, little-endian, themselves included",
        object: include_bytes!("../programs/9p.o"),
    },
    Known {
        name: "onc-rpc",
        about: "ONC RPC record marking (NFS and others): whole records of up to 32 fragments",
        object: include_bytes!("../programs/onc-rpc.o"),
    },
    Known {
        name: "thrift",
        about: "framed Thrift: 4 bytes of length, big-endian, before each message",
        object: include_bytes!("../programs/thrift.o"),
    },
];

/// What a user wrote for a parser cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoParser(String);

impl fmt::Display for NoParser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoParser {}

/// The parser of that name.
pub fn known(name: &str) -> Option<Parser> {
    let known = KNOWN.iter().find(|known| known.name == name)?;
    let parser = object::read(known.object, None).ok()?;
    Some(Parser { name: known.name.to_owned(), ..parser })
}

/// The parser that a user means: a name of [`KNOWN`], a [spec](Spec), or `FILE.o[:SECTION]`, whose bytes `read_file`
/// gives. The program is not checked yet: see [`Parser::load`].
///
/// # Errors
/// With words for the user.
pub fn find(text: &str, read_file: impl FnOnce(&Path) -> io::Result<Vec<u8>>) -> Result<Parser, NoParser> {
    if let Some(parser) = known(text) {
        return Ok(parser);
    }
    if let Some((file, section)) = object_file(text) {
        let bytes = read_file(Path::new(file)).map_err(|error| NoParser(format!("{file}: {error}")))?;
        let parser = object::read(&bytes, section).map_err(|error| NoParser(format!("{file}: {error}")))?;
        return Ok(Parser { name: text.to_owned(), ..parser });
    }
    if text.contains('@') {
        return text.parse().map(Spec::parser).map_err(|error| NoParser(error.to_string()));
    }
    let names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
    Err(NoParser(format!(
        "no parser {text}: neither one of {}, nor like u32be@0+4, nor FILE.o[:SECTION]",
        names.join(", ")
    )))
}

/// The parts of `FILE.o` or `FILE.o:SECTION`.
pub fn object_file(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some((stem, section)) = text.rsplit_once(".o:") {
        return Some((text.get(..stem.len() + 2)?, Some(section)));
    }
    text.ends_with(".o").then_some((text, None))
}
