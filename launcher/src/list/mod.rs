//! How `smcss`, and `kcmss` (in [`mux`]), learn what they print.
//!
//! 1. [`processes`] finds, in `/proc/PID/maps`, the processes that map an arena of listings. Forked siblings map the
//!    same arena, so it is read once and belongs to all of them.
//! 2. [`arena`] copies the listings out of one of these processes.
//! 3. [`socket`] gives each listing the socket that its descriptor is, with what [`tcp`] (the kernel's tables) and
//!    [`cursors`] (the shared memory of the link group) know of it, and drops what is no socket any more.
//! 4. [`state`] turns all that into SMC's states; [`table`] and [`json`] print it.
//!
//! Everything that is read belongs to other processes and may be gone, or be nonsense, the next moment: whatever
//! cannot be read is left out, and no number is used as an index before it was checked.

pub mod arena;
pub mod cursors;
pub mod json;
pub mod link;
pub mod mux;
pub mod processes;
pub mod socket;
pub mod state;
pub mod table;
pub mod tcp;
pub mod tool;

use std::collections::HashSet;
use std::io;

use arena::Slot;
use processes::Member;
use socket::{Found, Socket};

/// The sockets of all preloaded processes that this one may look into.
#[derive(Debug, Default)]
pub struct Listing {
    /// By process, then by descriptor.
    pub sockets: Vec<Socket>,
    /// Preloaded processes whose memory the kernel did not let this one read.
    pub refused: usize,
}

/// Reads the listing.
///
/// # Errors
/// `/proc` cannot be read at all.
pub fn read() -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut found = Vec::new();
    // All listings come before the first look at the kernel's tables, so that a table is newer than every listing
    // and has all of their sockets.
    for members in processes::arenas()?.into_values() {
        match slots(&members) {
            Ok(slots) => found.extend(slots.into_iter().filter_map(|slot| socket::find(slot, &members))),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => listing.refused += members.len(),
            Err(_) => {}
        }
    }
    // One row a socket, whoever shares it; what is certain comes first.
    found.sort_by_key(|found: &Found| (found.inherited, found.owner.pid, found.fd));
    let mut known = HashSet::new();
    found.retain(|found| known.insert(found.inode));
    found.sort_by_key(|found| (found.owner.pid, found.fd));
    let mut tables = tcp::Tables::default();
    listing.sockets = found.into_iter().filter_map(|found| Socket::complete(found, &mut tables)).collect();
    Ok(listing)
}

/// The listings of an arena, out of the first process that lets itself be read.
fn slots(members: &[Member]) -> io::Result<Vec<Slot>> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for member in members {
        result = arena::read(member);
        if result.is_ok() {
            break;
        }
    }
    result
}
