//! exec(2) with connections that stay open: the next program of this process goes on with them, through shared memory.
//!
//! Before the call, [`leave`] writes a [`letter`] into a memfd: which sockets there are, by their cookies; where their
//! slots lie; which group's memory they use. The letter's descriptor stands in the environment, and the memory it names
//! loses its close-on-exec for as long as the call takes. When the next program starts, and it is preloaded, [`adopt`]
//! finds the sockets again, under whatever numbers.
//!
//! [`spawn`] does the same for a child of posix_spawn(3), where the parent goes on as it was.
//!
//! What this process counts for (holders, users) it goes on to count for. A program that cannot be preloaded finds
//! kernel sockets: what had not moved is pinned to TCP, and what had cannot be used there.

pub mod adopt;
pub mod envelope;
pub mod leave;
pub mod letter;
pub mod next;
pub mod spawn;
