//! epoll_wait(2) and its like.

use super::{Set, State, tagged, untag};
use crate::socket::poll::{ALWAYS, IN, RDHUP, View, look, look_for};
use crate::socket::sock::phase;
use crate::socket::stuck;
use crate::socket::wait::{self as waiting, Deadline};
use libc::epoll_event;
use preloop_sys::sleep::{self, SignalMask};
use preloop_sys::{Errno, Fd, clock, event};
use std::sync::MutexGuard;

/// Answers from the rings after which the kernel is asked too, and nanoseconds after which it is: so that no other
/// descriptor starves under a busy ring.
const UNASKED: u32 = 32;
const UNASKED_NANOSECONDS: u64 = 100_000;

/// The program's array, and how much of it is filled.
struct Out<'a> {
    events: &'a mut [epoll_event],
    count: usize,
    call: u64,
    /// The caller slept: it tells peers of its waking itself.
    slept: bool,
}

impl Set {
    /// epoll_wait(2) of a set that is active; the kernel answers for every other, see [`Set::enter_plain`].
    ///
    /// # Errors
    /// EINTR.
    pub fn wait(&self, events: &mut [epoll_event], deadline: Deadline, mask: SignalMask) -> Result<usize, Errno> {
        let answer = self.answered(events, deadline, mask);
        self.ends_if_closed();
        answer
    }

    fn answered(&self, events: &mut [epoll_event], deadline: Deadline, mask: SignalMask) -> Result<usize, Errno> {
        let mut out = Out { events, count: 0, call: 0, slept: false };
        loop {
            let mut state = self.state();
            if state.bell(self.fd()).is_err() {
                state.deaf = true;
            }
            state.call += 1;
            out.call = state.call;
            state.harvest();
            if state.must_ask_kernel(self.fd()) {
                drop(state);
                // First, so that a full array of answers from the rings does not keep its answers out. An error says
                // nothing that asking again, when the rings are empty, would not.
                let _ = self.ask_kernel(&mut out, Some(0), SignalMask::NONE);
                state = self.state();
            }
            state.answer(self.fd(), &mut out);
            if out.count > 0 {
                self.rest(&mut state);
                return Ok(out.count);
            }
            let peer_cpu = state.peer_cpu();
            drop(state);
            if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                self.state().look_at_watched(self.fd());
                self.ask_kernel(&mut out, Some(0), mask)?;
                let mut state = self.state();
                state.answer(self.fd(), &mut out);
                self.rest(&mut state);
                return Ok(out.count);
            }
            if self.spin(peer_cpu, deadline) {
                continue;
            }
            self.sleep(&mut out, deadline, mask)?;
            if out.count > 0 {
                return Ok(out.count);
            }
        }
    }

    /// The end of an entry may not come while threads sleep in the set, who have not looked at it lately.
    pub(super) fn look_later(&self, id: u64) {
        let mut state = self.state();
        let State { entries, look_again, .. } = &mut *state;
        if let Some(entry) = entries.get_mut(&id).filter(|entry| !entry.is_watched) {
            entry.is_watched = true;
            look_again.push(id);
            state.wake_others();
        }
    }

    fn spin(&self, peer_cpu: u32, deadline: Deadline) -> bool {
        // The lock is taken anew for each glance: another thread's epoll_ctl must not wait for this spin.
        let news = || self.state.try_lock().is_ok_and(|state| state.any_news());
        waiting::peer_elsewhere(peer_cpu) && waiting::spin(&self.spin, deadline, news)
    }

    fn sleep(&self, out: &mut Out<'_>, deadline: Deadline, mask: SignalMask) -> Result<(), Errno> {
        let mut state = self.state();
        state.sleepers += 1;
        state.sleep();
        state.harvest();
        let until = if !state.ready.is_empty() {
            Some(0)
        } else if state.deaf {
            waiting::sooner(deadline)
        } else if !state.look_again.is_empty() {
            Some(deadline.map_or(state.look_at, |deadline| deadline.min(state.look_at)))
        } else {
            deadline
        };
        drop(state);
        let start = clock::now();
        out.slept = true;
        let asked = self.ask_kernel(out, until, mask);
        out.slept = false;
        waiting::learn(&self.spin, start);
        let mut state = self.sleeper_leaves();
        state.harvest();
        if state.deaf {
            let ids: Vec<u64> = state.entries.keys().copied().collect();
            ids.into_iter().for_each(|id| state.list(id));
        }
        state.look_at_watched(self.fd());
        state.answer(self.fd(), out);
        self.rest(&mut state);
        drop(state);
        match asked {
            // What is there is reported first; the signal was handled.
            Err(_) if out.count > 0 => Ok(()),
            other => other,
        }
    }

    /// A thread that slept in the set is awake, or was cancelled.
    fn sleeper_leaves(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.sleepers = state.sleepers.saturating_sub(1);
        state.wake(state.sleepers > 0);
        state
    }

    /// Asks the kernel's set, into the rest of the program's array.
    fn ask_kernel(&self, out: &mut Out<'_>, deadline: Deadline, mask: SignalMask) -> Result<(), Errno> {
        let start = out.count;
        if start == out.events.len() {
            return Ok(());
        }
        let got =
            sleep::epoll(self.fd(), &mut out.events[start..], deadline, mask, &mut || drop(self.sleeper_leaves()))?;
        self.sort(out, got);
        Ok(())
    }

    /// Goes through `got` events that the kernel put behind the filled part, and keeps what is the program's.
    fn sort(&self, out: &mut Out<'_>, got: usize) {
        let mut state = self.state();
        state.asked_at = clock::now();
        state.unasked = 0;
        if out.count == 0 {
            // While this thread slept others may have answered with what it is told only now: they are the earlier ones.
            state.call += 1;
            out.call = state.call;
        }
        let end = out.count + got;
        for index in out.count..end {
            let event = out.events[index];
            let (bits, data) = (event.events, event.u64);
            match untag(data) {
                None => out.push(bits, data),
                Some(id) if id == state.bell_entry => {
                    if let Some(bell) = &state.bell {
                        bell.hush();
                    }
                    // The ring may have been for threads in the kernel's own call, and the kernel woke this one.
                    self.wake_plain(&state);
                    if !out.slept && state.sleepers > 0 {
                        // The ring was for who sleeps, and they may not have heard it: they begin a new sleep.
                        state.wake(true);
                        state.harvest();
                    }
                }
                Some(id) => self.kernel_event(&mut state, id, bits, out),
            }
        }
    }

    /// The kernel has news of a connection.
    fn kernel_event(&self, state: &mut State, id: u64, bits: u32, out: &mut Out<'_>) {
        let Some(entry) = state.entries.get_mut(&id) else { return };
        if entry.parked {
            // Its end came while the program does not want to know: now it leaves the kernel's set too.
            let _ = event::epoll_ctl(self.fd(), libc::EPOLL_CTL_DEL, entry.registered, 0, 0);
            if let Some(entry) = state.remove(id) {
                entry.file.unwatch_set(self, id);
            }
            return;
        }
        // What changes a socket's state below KCM is told when KCM has posted its error.
        if entry.disarmed || entry.file.is_attached() {
            return;
        }
        let mut bits = bits;
        if entry.is_exclusive() && entry.file.sock.rx_in_ring() && bits & IN != 0 {
            // It was asked in place of RDHUP, perhaps before the last byte over TCP was read.
            let end = event::poll_now(entry.registered, libc::POLLRDHUP) as u16 as u32;
            bits = if end & RDHUP == 0 { bits } else { bits & !IN | RDHUP };
        }
        if entry.file.sock.phase() == phase::SMC {
            waiting::note(&entry.file, bits as u16 as i16);
        }
        let view = look(&entry.file);
        let wish = entry.wish(view);
        self.ask(entry, id, wish);
        // Asking the kernel anew repeats its edge, and the ring may have told of the end before.
        let ends = bits & (RDHUP | ALWAYS);
        if entry.is_edge() && !view.kernel_in && !view.kernel_out && ends & !entry.told == 0 {
            return;
        }
        let report = view.report(entry.events, bits);
        if report != 0 {
            entry.told |= ends;
            if entry.is_edge() {
                // The ring's news are in it: what is listed for them is no news any more.
                entry.listed = false;
                entry.has_more_behind();
            }
            let again = entry.is_level() && entry.file.link().is_some();
            if !entry.report(report, view, out) || again {
                // Level-triggered, and the kernel may not repeat it: what is read next may come from the ring.
                state.list(id);
            }
        }
    }

    /// Events that the kernel's own call returned, before anybody knew that the set has connections of ours. Answers
    /// how many are left for the program.
    pub fn translate(&self, events: &mut [epoll_event], got: usize) -> usize {
        let call = {
            let mut state = self.state();
            state.call += 1;
            state.call
        };
        let mut out = Out { events, count: 0, call, slept: false };
        self.sort(&mut out, got);
        self.rest(&mut self.state());
        out.count
    }
}

impl Out<'_> {
    fn push(&mut self, events: u32, data: u64) {
        self.events[self.count] = epoll_event { events, u64: data };
        self.count += 1;
    }
}

impl super::Entry {
    /// Has the kernel's set watch for `wish`, and repeat its edge.
    pub(super) fn ask(&mut self, set: Fd, id: u64, wish: u32) {
        let exclusive = self.is_exclusive();
        let op = if exclusive { libc::EPOLL_CTL_ADD } else { libc::EPOLL_CTL_MOD };
        if exclusive {
            let _ = event::epoll_ctl(set, libc::EPOLL_CTL_DEL, self.registered, 0, 0);
        }
        if event::epoll_ctl(set, op, self.registered, wish, tagged(id)).is_ok() {
            self.asked = wish;
        }
    }

    /// A direction that changed back to TCP is the kernel's to tell of again: edges, too, of what has come there before.
    pub(super) fn catch_up(&mut self, set: Fd, id: u64, view: View) {
        let wish = self.wish(view);
        let is_new = wish & !self.asked != 0 && self.file.sock.has_changed_back();
        if is_new && !self.disarmed && !self.parked {
            self.ask(set, id, wish);
        }
    }

    /// Whether more came through the ring since this was last asked, while TCP's last bytes are still unread.
    fn has_more_behind(&mut self) -> bool {
        let Some(link) = self.file.link().filter(|_| self.file.sock.rx_is_draining()) else { return false };
        let filled = link.peer().tx.prod.load(std::sync::atomic::Ordering::Acquire);
        core::mem::replace(&mut self.behind, filled) != filled
    }

    /// Reports an entry, once in an answer. `false` when a later call of another thread has reported it already: whether
    /// this one did, too, nobody remembers, so it is left for the next.
    fn report(&mut self, bits: u32, view: View, out: &mut Out<'_>) -> bool {
        match self.reported.0.cmp(&out.call) {
            std::cmp::Ordering::Greater => return false,
            std::cmp::Ordering::Equal => out.events[self.reported.1].events |= bits,
            std::cmp::Ordering::Less => {
                self.reported = (out.call, out.count);
                out.push(bits, self.data);
            }
        }
        self.disarmed |= self.events & libc::EPOLLONESHOT as u32 != 0;
        self.told |= bits & (RDHUP | ALWAYS) | if view.end_known { RDHUP } else { 0 };
        true
    }
}

impl State {
    /// Reports listed entries that are ready, as far as they fit; `set` is the kernel's set.
    fn answer(&mut self, set: Fd, out: &mut Out<'_>) {
        for _ in 0..self.ready.len() {
            if out.count == out.events.len() {
                return;
            }
            let Some(id) = self.ready.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let is_listed = core::mem::take(&mut entry.listed);
            if !is_listed || entry.disarmed || entry.parked {
                continue;
            }
            let view = look_for(&entry.file, entry.events);
            entry.catch_up(set, id, view);
            if entry.is_edge() && entry.has_more_behind() {
                // To be read after bytes that the kernel told of once: it tells of those again.
                entry.ask(set, id, entry.wish(view));
            }
            self.look_again.extend(entry.is_newly_watched(view).then_some(id));
            let bits = view.report(entry.events, 0);
            let left = bits != 0 && !entry.report(bits, view, out);
            // What is level-triggered and was reported, by this call's kernel too, is looked at again.
            let again = entry.reported.0 == out.call && entry.is_level();
            if left || again {
                entry.listed = true;
                self.ready.push_back(id);
            }
        }
    }

    /// Looks at the entries of which no event may tell what is next, when it is time to; `set` is the kernel's set. Listed are
    /// only those whose end was found: the others' edges are not to be repeated.
    fn look_at_watched(&mut self, set: Fd) {
        if clock::now() < self.look_at {
            return;
        }
        self.look_at = stuck::next_look();
        for id in core::mem::take(&mut self.look_again) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.is_watched = false;
            let is_quiet = entry.disarmed || entry.parked;
            let view = look_for(&entry.file, if is_quiet { 0 } else { entry.events });
            entry.catch_up(set, id, view);
            if entry.is_newly_watched(view) {
                self.look_again.push(id);
            } else if view.bits & (RDHUP | ALWAYS) & !entry.told != 0 {
                self.list(id);
            }
        }
    }

    /// Whether the rings have had the word for long enough, and have something to say.
    fn must_ask_kernel(&mut self, set: Fd) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        self.unasked += 1;
        if self.unasked < UNASKED && clock::now().wrapping_sub(self.asked_at) < UNASKED_NANOSECONDS {
            return false;
        }
        self.drop_unready(set);
        !self.ready.is_empty()
    }
}
