//! Every mux of this process.

use super::mux::Mux;
use preloop_uapi::sync::Ordering;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// In the order in which they came. Muxes live as long as somebody else holds them.
static MUXES: Mutex<Vec<Weak<Mux>>> = Mutex::new(Vec::new());
/// Muxes that no descriptor of this process leads to any more, but perhaps one that is under way to somebody: they are
/// served until their last socket's far end hangs up.
static LINGERING: Mutex<Vec<Arc<Mux>>> = Mutex::new(Vec::new());
/// Muxes that have been here.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

fn muxes() -> MutexGuard<'static, Vec<Weak<Mux>>> {
    MUXES.lock().unwrap_or_else(|e| e.into_inner())
}

fn lingering() -> MutexGuard<'static, Vec<Arc<Mux>>> {
    LINGERING.lock().unwrap_or_else(|e| e.into_inner())
}

/// A number for a mux of this process.
pub fn number() -> u64 {
    NUMBERS.fetch_add(1, Relaxed) + 1
}

/// Adds a mux.
pub fn add(mux: &Arc<Mux>) {
    let mut muxes = muxes();
    muxes.retain(|mux| mux.strong_count() > 0);
    muxes.push(Arc::downgrade(mux));
}

/// Every mux.
pub fn all() -> Vec<Arc<Mux>> {
    muxes().iter().filter_map(Weak::upgrade).collect()
}

/// The mux of that number.
pub fn find(number: u64) -> Option<Arc<Mux>> {
    // Others are let go of when the list is free again: that may be their end.
    all().into_iter().find(|mux| mux.number() == number)
}

/// The mux of that name, see `MuxHeader::id`.
pub fn named(id: u64) -> Option<Arc<Mux>> {
    all().into_iter().find(|mux| mux.header().id.load(Ordering::Relaxed) == id)
}

/// Whether this process has had a mux.
pub fn any() -> bool {
    NUMBERS.load(Relaxed) > 0
}

/// Keeps a mux.
pub fn linger(mux: &Arc<Mux>) {
    let mut lingering = lingering();
    if !lingering.iter().any(|other| Arc::ptr_eq(other, mux)) {
        lingering.push(Arc::clone(mux));
    }
}

/// Keeps a mux no more. Answers it, for the caller to let go of where it may.
pub fn leave(mux: &Mux) -> Option<Arc<Mux>> {
    let mut lingering = lingering();
    let at = lingering.iter().position(|other| core::ptr::eq(&raw const **other, mux))?;
    Some(lingering.swap_remove(at))
}

/// Runs `during` while none comes or goes (for fork).
pub fn hold<R>(during: impl FnOnce() -> R) -> R {
    let _held = (muxes(), lingering());
    during()
}
