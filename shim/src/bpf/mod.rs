//! `bpf(2)`: programs written for the kernel's KCM load their parsers with it, and under the library they need no
//! privileges for that.
//!
//! The kernel is asked first: what its verifier says is the answer. Where it refuses for want of privileges, the
//! project's own check ([`Program::load`]) stands in for the verifier ([`load`]), memory of this process for maps
//! ([`create`], [`elem`], [`table`]), and a sealed memfd for the descriptor of either ([`standin`]). Programs that the
//! kernel loaded are remembered by its number ([`kernel`]), since it does not give their instructions back.
//! docs/KCM.md, "Loading programs", says what users see of it.

mod attr;
mod create;
mod elem;
mod info;
mod kernel;
mod load;
mod log;
mod standin;
mod table;

use preloop_parsers::{Parser, Program, Rejected};
use preloop_sys::memory::Memory;
use preloop_sys::{Errno, Fd};
use preloop_uapi::bpf::cmd;
use std::sync::Arc;

pub use table::hold;

/// What a call answers.
type Answer = Result<usize, Errno>;

/// A program that a descriptor stands for.
#[derive(Debug)]
pub struct Loaded {
    /// To run in this process, with the maps that the process's own calls read and change.
    pub program: Arc<Program>,
    /// The same, with what the maps hold now, as [`Parser::from_bytes`] reads it: for processes that share the mux.
    pub parser: Vec<u8>,
}

impl Loaded {
    fn new(program: Program, parser: &Parser) -> Self {
        Self { program: Arc::new(program), parser: parser.to_bytes() }
    }
}

/// Whether the library has a say in `bpf(2)`.
fn is_on() -> bool {
    crate::process::settings().kcm
}

/// The socket filter that a descriptor stands for, as `bpf_prog_get_type` of Linux's `kernel/bpf/syscall.c` finds it.
///
/// # Errors
/// EBADF for a descriptor that is not open; EINVAL for one that is no program, or no socket filter, or whose
/// instructions this process has not seen (of a program that the kernel loaded) or cannot evaluate.
pub fn program(fd: Fd) -> Result<Loaded, Errno> {
    match standin::find(fd)? {
        Some(standin::Found::Program(program)) => program.load(),
        Some(standin::Found::Map(_)) => Err(Errno::EINVAL),
        None => kernel::program(fd),
    }
}

/// Loads a parser that came as such, by name or from a process that shares the mux: with maps of its own, which hold
/// still over fork as the others do.
///
/// # Errors
/// As [`Parser::load`].
pub fn of_parser(parser: &Parser) -> Result<Arc<Program>, Rejected> {
    let program = parser.load()?;
    program.maps().iter().for_each(table::enter_own);
    Ok(Arc::new(program))
}

/// bpf(2). `at` and `size` are of the program's `union bpf_attr`; `kernel` makes the call as it stands.
///
/// # Errors
/// As the kernel's.
pub fn call(command: i32, at: u64, size: u32, memory: Memory, kernel: &dyn Fn() -> Answer) -> Answer {
    if !is_on() || crate::fork::is_inside() || crate::process::is_filtered() {
        return kernel();
    }
    answer(command, at, size, memory, kernel)
}

/// What [`call`] answers where the library has its say.
///
/// # Errors
/// As the kernel's.
pub fn answer(command: i32, at: u64, size: u32, memory: Memory, kernel: &dyn Fn() -> Answer) -> Answer {
    let call = attr::Call { memory, at, size, kernel };
    match command {
        cmd::PROG_LOAD => load::load(&call),
        cmd::MAP_CREATE => create::create(&call),
        cmd::MAP_LOOKUP_ELEM
        | cmd::MAP_UPDATE_ELEM
        | cmd::MAP_DELETE_ELEM
        | cmd::MAP_GET_NEXT_KEY
        | cmd::MAP_LOOKUP_AND_DELETE_ELEM
        | cmd::MAP_FREEZE => elem::element(command, &call),
        cmd::MAP_LOOKUP_BATCH..=cmd::MAP_DELETE_BATCH => elem::batch(&call),
        cmd::OBJ_GET_INFO_BY_FD => info::info(&call),
        _ => kernel(),
    }
}
