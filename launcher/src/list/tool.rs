//! Options and exit codes of the listing tools.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// A tool whose options are switches.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Its help.
    pub usage: &'static str,
    /// The release that its `-v` names.
    pub version: &'static str,
    /// Its options but `-h` and `-v`.
    pub switches: &'static [(Option<char>, &'static str)],
}

impl Tool {
    /// Reads the options. Help and version are answered here.
    ///
    /// # Errors
    /// The exit code, when they end the tool.
    pub fn options(&self) -> Result<ArgMatches, ExitCode> {
        let matches = self.command().try_get_matches().map_err(|error| {
            let text = error.render().to_string();
            let prefix = format!("{}:", self.name);
            self.usage_error(&text.lines().next().unwrap_or_default().replacen("error:", &prefix, 1))
        })?;
        if matches.get_flag("help") {
            return Err(self.finish(writeln!(io::stdout(), "{}", self.usage)));
        }
        if matches.get_flag("version") {
            return Err(self.finish(writeln!(io::stdout(), "{} utility, {}", self.name, self.version)));
        }
        Ok(matches)
    }

    fn command(&self) -> Command {
        let switch = |(short, name): (Option<char>, &'static str)| {
            let switch = Arg::new(name).long(name).action(ArgAction::SetTrue).overrides_with(name);
            if let Some(short) = short { switch.short(short) } else { switch }
        };
        Command::new(self.name)
            .disable_help_flag(true)
            .disable_version_flag(true)
            // getopt_long takes any unambiguous beginning of a long option, and smcss ignores words that are none.
            .infer_long_args(true)
            .args([(Some('h'), "help"), (Some('v'), "version")].map(switch))
            .args(self.switches.iter().copied().map(switch))
            .arg(Arg::new("ignored").num_args(0..).value_parser(value_parser!(OsString)))
    }

    /// Tells of options that make no sense.
    pub fn usage_error(&self, message: &str) -> ExitCode {
        let _ = writeln!(io::stderr(), "{message}\n{}", self.usage);
        ExitCode::FAILURE
    }

    /// The exit code of a listing. A reader that has seen enough, such as `head`, is no failure.
    pub fn finish(&self, result: io::Result<()>) -> ExitCode {
        match result {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let _ = writeln!(io::stderr(), "{}: {error}", self.name);
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        }
    }
}
