//! Memory that processes share. One of the three rooms where `unsafe` lives.
//!
//! Two kinds: a [`group::GroupMemory`] is shared with a *peer*, which may store anything at any time; an
//! [`arena::Arena`] is shared only with forked *siblings*, and holds what no peer may touch: locks, holder counts,
//! the truth of our own cursors.

pub mod arena;
pub mod copy;
pub mod counted;
pub mod group;
pub mod lock;
