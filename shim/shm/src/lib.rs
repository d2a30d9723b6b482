//! Memory that processes share. One of the three rooms where `unsafe` lives.
//!
//! Three kinds: a [`group::GroupMemory`] is shared with a *peer*, which may store anything at any time; an
//! [`arena::Arena`] is shared only with forked *siblings*, and holds what no peer may touch: locks, holder counts,
//! the truth of our own cursors; a [`mux::MuxMemory`] too, as a whole.

pub mod arena;
pub mod copy;
pub mod counted;
pub mod group;
pub mod lock;
pub mod mapped;
pub mod mux;
