//! What keeps another process's arena mapped.

use crate::process;
use preloop_shm::arena::{Inherited, Slot};
use preloop_shm::mapped::Tenancy;
use preloop_sys::{Fd, call};

/// An arena of another process, mapped as long as this lives: whatever uses a slot of it has one.
#[derive(Debug)]
pub struct Tenant(Option<Tenancy>);

impl Tenant {
    /// Maps the arena behind `memfd`, unless it is mapped already. The descriptor stays the caller's.
    pub fn of(memfd: Fd) -> Option<Self> {
        let tenancy = Tenancy::find(call::inode(memfd).0).or_else(|| {
            let own = call::duplicate_high(memfd).ok()?;
            let tenancy = Tenancy::map(own);
            if tenancy.is_some() {
                process::protect(own)
            } else {
                call::close(own)
            }
            tenancy
        });
        tenancy.map(|tenancy| Self(Some(tenancy)))
    }

    /// The slot of that index, if it is in use for something of this kind. It is not to outlive this.
    pub fn slot<T: Slot>(&self, index: u32, is_kind: impl Fn(u32) -> bool) -> Option<&'static T> {
        self.0.as_ref().map(Tenancy::arena).and_then(|arena: Inherited| arena.slot(index, is_kind))
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        if let Some(memfd) = self.0.take().and_then(Tenancy::end) {
            process::disown(memfd);
        }
    }
}
