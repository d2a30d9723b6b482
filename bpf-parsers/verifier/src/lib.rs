//! Asks the kernel's verifier about a parser, through aya. A crate of its own, so that nothing of it comes into
//! preloaded processes: launchers use it before they start one.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::ErrorKind;

use aya::programs::{ProgramError, SocketFilter};
use aya::{EbpfLoader, VerifierLogLevel, features};
use preloop_parsers::object::{ObjectError, prepare};
use rustix::thread::{CapabilitySet, capabilities};

/// What the kernel says of a parser.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Its verifier takes it.
    Taken,
    /// Its verifier refuses it.
    Refused {
        /// The error number of `bpf(BPF_PROG_LOAD)`.
        errno: i32,
        /// The verifier's log.
        log: String,
    },
    /// It lets this process load no programs, or none that want privileges: its verifier was not asked.
    NotPermitted,
}

/// The kernel could not be asked.
#[derive(Debug)]
pub enum Error {
    /// The bytes are no object with such a program.
    Object(ObjectError),
    /// Making maps or loading failed for another reason than the verifier's: want of memory, or what else a kernel may have
    /// against `bpf(2)`.
    Kernel(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(error) => error.fmt(f),
            Self::Kernel(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

const EPERM: i32 = 1;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;

/// Whether this process has a capability that lets it load programs, as far as it knows: of a user namespace of its own the
/// kernel takes none.
pub fn is_privileged() -> bool {
    let wanted = CapabilitySet::BPF | CapabilitySet::SYS_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.intersects(wanted))
}

/// Loads the program of an object file as a socket filter, and lets go of it again. The program is found as by
/// [`preloop_parsers::object::read`]. For a process that does nothing else: aya may panic, and raises RLIMIT_MEMLOCK where the
/// kernel says EPERM.
///
/// # Errors
/// See [`Error`].
pub fn ask_kernel(object: &[u8], section: Option<&str>) -> Result<Answer, Error> {
    let prepared = prepare(object, section).map_err(Error::Object)?;
    // Only the privileged may load types. To others the verifier, if they may ask it at all, denies loops and calls too.
    if features().btf().is_none() {
        return Ok(Answer::NotPermitted);
    }
    let mut loaded = match EbpfLoader::new().verifier_log_level(VerifierLogLevel::DEBUG).load(&prepared.bytes) {
        Ok(loaded) => loaded,
        Err(error) if is_not_permitted(&error) => return Ok(Answer::NotPermitted),
        Err(error) => return Err(Error::Kernel(in_full(&error))),
    };
    let missing = || Error::Kernel(format!("no program {}", prepared.function));
    let program = loaded.program_mut(&prepared.function).ok_or_else(missing)?;
    let program: &mut SocketFilter = program.try_into().map_err(|error| Error::Kernel(in_full(&error)))?;
    match program.load() {
        Ok(()) => Ok(Answer::Taken),
        Err(error) if is_not_permitted(&error) => Ok(Answer::NotPermitted),
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            let (errno, log) = (io_error.raw_os_error().unwrap_or_default(), verifier_log.to_string());
            // Without a word it was somebody else: a security module, for one.
            if matches!(errno, EINTR | EAGAIN | ENOMEM) || log.trim().is_empty() {
                return Err(Error::Kernel(in_full(&io_error)));
            }
            Ok(Answer::Refused { errno, log })
        }
        Err(error) => Err(Error::Kernel(in_full(&error))),
    }
}

/// Whether EPERM is at the bottom of an error.
fn is_not_permitted(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).filter_map(|error| error.downcast_ref::<std::io::Error>()).any(|error| {
        error.raw_os_error() == Some(EPERM)
            || error.kind() == ErrorKind::PermissionDenied && error.raw_os_error().is_none()
    })
}

fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}
