//! KCM's message parsers: eBPF programs that say how long the next message of a TCP stream is.
//!
//! The kernel has a verifier, which proves that a program is harmless, and then trusts it. This crate runs programs
//! without privileges in somebody else's process, so it trusts nothing:
//!
//! - [`Program::load`] checks what can be checked before: the shape (`check`), and what registers certainly hold
//!   (`flow`). What it refuses has the kernel's error number and words ([`Rejected`]).
//! - The program is then translated once (`decode`), and interpreted (`eval`). It has an address space of its own
//!   (`memory`), so that no pointer leads out of it, and fuel, so that it ends. What goes wrong is a [`Fault`].
//! - [`Verdict`] says what the result means. [`maps`] and [`Packet`] are what a program may look at.
//!
//! Programs come from `bpf(2)`, or as a [`Parser`]: [`registry::find`] takes a name, a one-line [`spec`] or an
//! [`object`] file. `docs/PARSERS.md` describes all of it for users.
//!
//! The judge is the kernel's `BPF_PROG_TEST_RUN`; `tests/kernel` puts random programs before both. Nothing here panics,
//! starts a thread, or makes a system call, except that [`object`] reads files through aya-obj, which a launcher should
//! rather do than a preloaded library.
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod check;
mod decode;
pub mod errno;
mod eval;
mod flow;
mod helpers;
pub mod insn;
pub mod maps;
mod memory;
pub mod object;
mod packet;
mod parser;
mod program;
pub mod registry;
mod skb;
pub mod spec;
mod verdict;

pub use check::{MAX_INSNS, Rejected};
pub use eval::{Fault, MAX_STEPS};
pub use packet::Packet;
pub use parser::{NotAParser, Parser, ParserMap};
pub use program::{MapRef, Program};
pub use skb::Fields;
pub use verdict::Verdict;
