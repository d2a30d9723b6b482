//! What there is to do in a mux, and doing it: reading psocks, and what its epoll set says.

use super::entered::Entered;
use super::source::{CHANGES, Source};
use super::stream::Stream;
use super::{lower, pump, share};
use crate::socket::wait;
use libc::{EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT};
use preloop_kcm::direct::{NoSink, Sink};
use preloop_kcm::id::{CsockId, PsockId};
use preloop_kcm::pull::Caller;
use preloop_sys::{clock, event};
use preloop_uapi::sync::Ordering;

/// Events taken from a mux's set at a time.
const AT_A_TIME: usize = 16;

impl Entered<'_> {
    /// Reads a psock, for a call that waits on a csock with its buffers, or for nobody. One whose TCP socket this process has not,
    /// for want of a descriptor, is left to those that have it.
    pub fn pull<S: Sink>(&mut self, psock: PsockId, csock: Option<CsockId>, sink: &mut S) {
        // Pumps of other processes would have to be told of the rest at each call, and wake.
        let (now, may_leave) = (clock::now(), !self.its_mux().is_shared());
        self.last_read = csock.map_or(self.last_read, |_| Some(psock));
        self.leaves_unread |= match self.local.tcp(psock) {
            Some(_) => self.with(|state, outside| state.pull(psock, Caller { csock, sink, now, may_leave }, outside)),
            None => self.state().leave_unread(psock),
        };
    }

    /// Reads on where TCP does not tell again, for a call that waits on a csock: the psocks that had no receiver for a message
    /// and now have one; and those that more was left in, until there is something for the next call.
    pub fn read_on<S: Sink>(&mut self, csock: CsockId, sink: &mut S) {
        loop {
            let resumed = self.state().take_resumed();
            if resumed.is_empty() {
                break;
            }
            for psock in resumed.iter() {
                self.pull(psock, Some(csock), sink);
            }
        }
        // Each in its turn: others would wait for one that always has more.
        for psock in self.state().unread().iter_behind(self.its_mux().readers.last_read()) {
            if sink.is_full() && self.state().messages(csock) > 0 && !self.state().somebody_waits() {
                break;
            }
            self.its_mux().readers.reads(psock);
            self.pull(psock, Some(csock), sink);
        }
    }

    /// Does what the events of the mux's set say, and reads on where TCP does not tell again, for a call that waits on a csock,
    /// or for nobody. Nobody else does while calls receive without pause. True if that may not be all: the set has more.
    pub fn serve<S: Sink>(&mut self, csock: Option<CsockId>, sink: &mut S) -> bool {
        self.recall();
        let unread = self.state().unread();
        self.hear(csock, sink);
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_A_TIME];
        let count = event::epoll_wait(self.local.set, &mut events, 0).unwrap_or(0);
        if csock.is_some() {
            self.its_mux().readers.asked(clock::now());
        }
        for event in &events[..count] {
            let (bits, what) = (event.events, event.u64);
            match Source::from_bits(what) {
                Source::Psock(psock) => self.psock_event(psock, bits, csock, sink),
                Source::FarEnd(csock) if bits & EPOLLHUP as u32 != 0 => {
                    self.take_all_back();
                    super::csock::hung_up(self, csock);
                }
                Source::FarEnd(_) => {}
                // Members were brought up to date by entering.
                Source::Kick => self.note_posts(),
                Source::Desk => {
                    self.take_all_back();
                    share::serve_desk(self);
                }
                Source::Timer => {
                    self.take_all_back();
                    self.local.timer_rang();
                    self.look_at_clock();
                    self.look_around();
                }
                Source::Bell => {
                    self.local.ears.rang();
                    self.hear(csock, sink);
                }
            }
        }
        for psock in unread.iter() {
            if self.state().unread().contains(psock) {
                self.pull(psock, csock, sink);
            }
        }
        count == AT_A_TIME
    }

    /// Does what is to be done now, for nobody. True if that may not be all.
    pub fn serve_all(&mut self) -> bool {
        self.serve(None, &mut NoSink)
    }

    /// A call that received on a csock is about to leave the mux, for sleep or for good. Unless it comes again, for what it has
    /// left, the pump is to hear of the set.
    pub fn reader_leaves(&mut self, csock: CsockId) {
        let comes_again = self.state().messages(csock) > 0;
        if self.its_mux().readers.leave(comes_again) {
            pump::hear(self.its_mux(), &self.local);
            // For what calls left that were on their own.
            self.leaves_unread = true;
        }
    }

    /// Does what peers say through shared memory.
    fn hear<S: Sink>(&mut self, csock: Option<CsockId>, sink: &mut S) {
        for psock in self.local.ears.news().iter() {
            self.news_of(psock, csock, sink);
        }
    }

    /// Whether a psock waits for room whose peer's end may not come.
    pub fn may_miss_ends(&mut self) -> bool {
        let mut psocks = self.local.ears.psocks().iter();
        psocks.any(|psock| self.state().stalled(psock) && self.local.stream(psock).is_some_and(Stream::may_miss_end))
    }

    /// A peer may have something to say, and no way to ring, or have died in silence.
    fn look_around(&mut self) {
        if self.local.ears.deaf || self.may_miss_ends() {
            for (psock, _) in self.local.psocks() {
                self.news_of(psock, None, &mut NoSink);
            }
        }
    }

    /// Bytes, room, or an end has come through shared memory.
    fn news_of<S: Sink>(&mut self, psock: PsockId, csock: Option<CsockId>, sink: &mut S) {
        self.pull(psock, csock, sink);
        if self.local.stream(psock).is_some_and(Stream::may_have_ended) && self.has_changed(psock, 0) {
            self.state().tcp_changed(psock);
        }
        if self.state().stalled(psock) {
            self.with(|state, outside| state.writable(psock, outside));
        }
    }

    fn psock_event<S: Sink>(&mut self, psock: PsockId, bits: u32, csock: Option<CsockId>, sink: &mut S) {
        if let Some((file, _)) = self.local.stream(psock).and_then(Stream::moved) {
            wait::note(file, bits as i16);
        }
        if bits & (EPOLLIN as u32 | CHANGES) != 0 {
            self.pull(psock, csock, sink);
        }
        // Bytes alone are no change of state; room alone may be one.
        if (bits & CHANGES != 0 || bits & EPOLLIN as u32 == 0) && self.has_changed(psock, bits) {
            self.state().tcp_changed(psock);
        }
        if bits & (EPOLLOUT as u32 | CHANGES) != 0 && self.state().stalled(psock) {
            self.with(|state, outside| state.writable(psock, outside));
        }
    }

    /// Lets go of a psock's TCP socket.
    pub fn forget(&mut self, psock: PsockId) {
        self.local.forget_psock(psock, &mut self.news);
    }

    /// Whether the state of a psock's TCP socket is another one than before; then that is remembered.
    pub fn has_changed(&mut self, psock: PsockId, bits: u32) -> bool {
        let (Some(stream), entry) = (self.local.stream(psock), self.its_mux().psock(psock)) else { return false };
        // The kernel's own error is overwritten by KCM's.
        let failed = bits & EPOLLERR as u32 != 0 && lower::take_kernels_error(stream.fd());
        let now = lower::seen(stream, bits);
        failed | (entry.seen.swap(now, Ordering::Relaxed) != now)
    }

    /// A message may have taken too long.
    fn look_at_clock(&mut self) {
        let now = clock::now();
        self.state().expire(now);
        let looks_at = &self.its_mux().header().looks_at;
        if looks_at.load(Ordering::Relaxed) <= now {
            looks_at.store(0, Ordering::Relaxed);
        }
    }
}
