//! Reading options as getopt does, one after the other: the first word that is none begins the command.

use std::env;
use std::ffi::{OsStr, OsString};

use clap_lex::RawArgs;

use super::launcher::{Launcher, Stop};

/// Gives the argument of the option that is being looked at: the rest of its own word, or else the next word.
pub type Argument<'a> = &'a mut dyn FnMut() -> Result<OsString, Stop>;

/// Hands this process's options to `take`, by their names (`-d`, `--smc`), until one ends the launcher. `take` answers
/// false for one that the launcher does not have. Returns the words of the command.
///
/// # Errors
/// What `take` stops with, and wrong options, and no command.
pub fn read(
    launcher: &Launcher,
    take: impl FnMut(&str, Argument<'_>) -> Result<bool, Stop>,
) -> Result<Vec<OsString>, Stop> {
    let command = split(&RawArgs::new(env::args_os()), take)?;
    if command.is_empty() {
        return Err(Stop::Refusal(format!("{}: Error: Missing command parameter", launcher.name)));
    }
    Ok(command)
}

fn split(
    words: &RawArgs,
    mut take: impl FnMut(&str, Argument<'_>) -> Result<bool, Stop>,
) -> Result<Vec<OsString>, Stop> {
    let mut cursor = words.cursor();
    words.next_os(&mut cursor);
    while let Some(word) = words.peek(&cursor) {
        if word.is_escape() {
            words.next_os(&mut cursor);
            break;
        }
        let invalid = |option: &OsStr| Stop::Usage(format!("Invalid option: {}", option.display()));
        if word.is_long() {
            words.next_os(&mut cursor);
            let whole = word.to_value_os();
            let known = match whole.to_str() {
                Some(name) => take(name, &mut || Err(Stop::Usage(format!("Option requires an argument: {name}"))))?,
                None => false,
            };
            if !known {
                return Err(invalid(whole));
            }
            continue;
        }
        let Some(mut flags) = word.to_short() else { break };
        words.next_os(&mut cursor);
        while let Some(flag) = flags.next_flag() {
            let letter = flag.map_err(|rest| invalid(&join("-", rest)))?;
            let name = format!("-{letter}");
            let mut argument = || {
                let found = flags.next_value_os().or_else(|| words.next_os(&mut cursor)).map(OsStr::to_owned);
                found.ok_or_else(|| Stop::Usage(format!("Option requires an argument: {name}")))
            };
            if !take(&name, &mut argument)? {
                return Err(invalid(OsStr::new(&name)));
            }
        }
    }
    Ok(words.remaining(&mut cursor).map(OsStr::to_owned).collect())
}

fn join(dash: &str, rest: &OsStr) -> OsString {
    let mut option = OsString::from(dash);
    option.push(rest);
    option
}
