//! Every interleaving, and every stale value that the memory model allows, of small rings and bells:
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p preloop-smc --release --test loom`.
//!
//! loom 0.7 models what these protocols rest on: loads may return any store not yet known to be overwritten, and SeqCst
//! *fences* are totally ordered (SeqCst accesses are no more than AcqRel there, so the code uses fences). Bytes of the
//! rings are Relaxed atomics: one read too early shows as a wrong number, and so does one reused too early, as the
//! receiver scribbles over what it has taken.
//!
//! Threads make a bounded number of attempts; the rest is done after both have ended. Each model also asserts that it
//! reached the states it is about. Each fails when a fence or an ordering that it is about is taken out.
#![cfg(loom)]

mod back;
mod bell;
mod ready;
mod ring;
mod space;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Checks every interleaving with so many preemptions at most.
pub fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// Counts executions that reached a state; the standard library's own, which loom does not turn back.
#[derive(Clone, Default)]
pub struct Reached(std::sync::Arc<AtomicUsize>);

impl Reached {
    /// An execution reached it.
    pub fn note(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    /// How many did.
    pub fn times(&self) -> usize {
        self.0.load(SeqCst)
    }
}
