//! The deadline of a scene: when it passes, everything the scene started is described and killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::procfs;

/// The process groups that a scene has started and whose leaders are not reaped yet: until then no other group can
/// have the same number.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    live: Mutex<Vec<Pid>>,
    expired: AtomicBool,
}

impl Groups {
    /// Takes up a group; kills it at once when the deadline has passed already.
    pub(crate) fn add(&self, group: Pid) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).push(group);
        if self.expired() {
            self.end(group);
        }
    }

    /// Kills what is left of a group and forgets it. Call it before the leader is reaped.
    pub(crate) fn end(&self, group: Pid) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = live.iter().position(|&other| other == group) {
            live.swap_remove(at);
            // It fails when nobody is left, which is as well.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Whether the deadline has passed.
    pub(crate) fn expired(&self) -> bool {
        self.expired.load(Ordering::Acquire)
    }

    fn expire(&self, limit: Duration) {
        eprintln!("not finished after {limit:?}; its processes:");
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for pid in live.iter().flat_map(|&group| procfs::members(group)) {
            eprint!("{}{}", procfs::describe(pid), procfs::backtraces(pid));
        }
        self.expired.store(true, Ordering::Release);
        for group in live {
            self.end(group);
        }
    }
}

/// Ends a scene's processes when its deadline passes.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pub(crate) groups: Arc<Groups>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    pub(crate) fn start(limit: Duration) -> Self {
        /// How long the scene's own thread may take to notice that its processes are gone.
        const GRACE: Duration = Duration::from_secs(30);
        let groups = Arc::<Groups>::default();
        let (stop, stopped) = channel();
        let watched = Arc::clone(&groups);
        let thread = std::thread::spawn(move || {
            if stopped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                watched.expire(limit);
                if stopped.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                    eprintln!("the scene hangs although its processes are gone");
                    std::process::exit(101);
                }
            }
        });
        Self { groups, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the watchdog has been printed already.
            let _ = thread.join();
        }
    }
}
