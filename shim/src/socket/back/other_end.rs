//! The peer is this process itself, which makes no call on that end while it waits at this one.
//!
//! So whoever asks answers as well, unless another thread is in a call on the other end: that one answers. While it waits, the
//! asker holds both locks of its own end, and perhaps somebody asks at the other end, who holds that one's and wants to
//! answer here. So neither waits for a lock: what is taken is tried again in a moment. It is either held for the length of a copy,
//! or by the other asker, who answers by himself ([`super::ask`] looks for the peer's request as long as it waits).

use super::answer::answer_locked;
use crate::fdtable;
use crate::socket::clc;
use crate::socket::file::OpenFile;
use crate::socket::link::Link;
use crate::socket::{rx, tx};
use preloop_shm::counted::Counted;

/// Nanoseconds between two attempts to take the other end's locks.
pub const A_MOMENT: u64 = 1_000_000;

/// The other end of a connection.
pub struct OtherEnd(Counted<OpenFile>);

impl OtherEnd {
    /// The other end of this one, if this process has it. Without locks.
    pub fn find(link: &Link) -> Option<Self> {
        let mut found = None;
        fdtable::for_each(|_, file| {
            if found.is_none() && file.prepared().is_some_and(|other| other.is_other_end_of(link)) {
                found = Some(file);
            }
        });
        // It may not have noticed yet that the connection has moved.
        found.filter(|file| clc::has_moved(file)).map(Self)
    }

    /// Does what is asked there, unless somebody has its locks.
    pub fn answer(&self) {
        let (file, fd) = (&self.0, self.0.fd());
        let Some(link) = file.link().filter(|_| fd >= 0) else { return };
        let Some(_rx) = rx::try_lock(file) else { return };
        let Some(held) = tx::try_lock(file) else { return };
        let is_back = answer_locked(file, link, fd);
        drop(held);
        if is_back {
            link.notify_own();
        }
    }
}
