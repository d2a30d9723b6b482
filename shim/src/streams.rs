//! Standard streams (stdio). Before it moves, a connection at descriptor 0, 1 or 2 works with them, and must not move there
//! unless they go through the hooks (`hooks::stdio`).

use crate::socket::file::OpenFile;
use preloop_sys::Fd;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A bit for each of the three that goes through the hooks.
static SERVED: AtomicU32 = AtomicU32::new(0);

/// The stream of this number goes through the hooks.
pub fn are_served(number: Fd) {
    SERVED.fetch_or(1 << number, Relaxed);
}

/// It does not any more.
pub fn are_not_served(number: Fd) {
    SERVED.fetch_and(!(1 << number), Relaxed);
}

/// Whether a stream may use the connection unseen.
pub fn may_use(file: &OpenFile) -> bool {
    let served = SERVED.load(Relaxed);
    (0..=2).any(|number| served & 1 << number == 0 && file.is_at(number))
}
