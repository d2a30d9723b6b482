//! eBPF parsers for KCM.
#![forbid(unsafe_code)]

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

pub use check::{MAX_INSNS, Rejected};
pub use eval::{Fault, MAX_STEPS};
pub use packet::Packet;
pub use parser::{NotAParser, Parser, ParserMap};
pub use program::{MapRef, Program};
pub use skb::Fields;
