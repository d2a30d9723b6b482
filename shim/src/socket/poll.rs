//! poll(2) over rings and other descriptors together.

use crate::fdtable;
use crate::socket::back::stall;
use crate::socket::clc;
use crate::socket::entries;
use crate::socket::file::OpenFile;
use crate::socket::kcm::{lower, registry};
use crate::socket::link::Link;
use crate::socket::rx;
use crate::socket::sock::{flag, phase};
use crate::socket::stuck;
use crate::socket::tx;
use crate::socket::wait::{self, Deadline, Sleeper};
use preloop_shm::counted::Counted;
use preloop_sys::sleep::SignalMask;
use preloop_sys::{Errno, Fd, clock, event};
use preloop_uapi::sync::Ordering;
use std::sync::Arc;

/// Readable, in poll's bits (which are epoll's too).
pub const IN: u32 = (libc::POLLIN | libc::POLLRDNORM) as u32;
/// Writable.
pub const OUT: u32 = (libc::POLLOUT | libc::POLLWRNORM) as u32;
/// The peer will send no more.
pub const RDHUP: u32 = libc::POLLRDHUP as u32;
/// Reported whether asked for or not.
pub const ALWAYS: u32 = (libc::POLLERR | libc::POLLHUP) as u32;

/// What poll says of a connection: what the library knows, and which directions the kernel still answers for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Bits that hold now.
    pub bits: u32,
    /// Reading is still the kernel's to judge.
    pub kernel_in: bool,
    /// Writing is still the kernel's to judge.
    pub kernel_out: bool,
    /// The kernel need not be asked for the end of the stream: it is known.
    pub end_known: bool,
    /// Bytes that come to the kernel's socket are none of the stream's; see [`stuck::drop_strays`].
    pub strays: bool,
    /// The ring has no room.
    pub full: bool,
    /// What is next may come without an event, and has to be looked for: see [`stuck`] and [`stall`].
    pub look_again: bool,
}

impl View {
    /// A socket that is the kernel's alone.
    pub const KERNEL: Self = Self {
        bits: 0,
        kernel_in: true,
        kernel_out: true,
        end_known: false,
        strays: false,
        full: false,
        look_again: false,
    };

    /// Which bits to ask the kernel for when the program asked for `wanted`. A direction in the ring is left out: T is
    /// always writable, and after its FIN always readable. FIN is asked for until it came, and then no more.
    pub fn ask(&self, wanted: u32) -> u32 {
        let mut ask = wanted & !(IN | OUT | RDHUP);
        if self.kernel_in {
            ask |= wanted & (IN | RDHUP);
        } else if !self.end_known {
            ask |= RDHUP | if self.strays { libc::POLLIN as u32 } else { 0 };
        }
        if self.kernel_out {
            ask |= wanted & OUT;
        } else if !self.end_known {
            // Without it nothing would tell a sender with a full ring that its peer was killed.
            ask |= RDHUP;
        }
        ask
    }

    /// What to report of `wanted` when the kernel answered `kernel`.
    pub fn report(&self, wanted: u32, kernel: u32) -> u32 {
        let mut bits = self.bits | kernel & !(IN | OUT | RDHUP);
        if self.kernel_in {
            bits |= kernel & (IN | RDHUP);
        }
        if self.kernel_out {
            bits |= kernel & OUT;
        }
        bits & (wanted | ALWAYS)
    }
}

/// Looks at a connection.
pub fn look(file: &OpenFile) -> View {
    let sock = file.sock;
    if sock.phase() == phase::OFFERED {
        clc::notice(file);
    }
    let view = match (sock.phase(), file.link()) {
        (phase::SMC, Some(link)) => look_at_moved(file, link),
        _ => View::KERNEL,
    };
    if file.concerns_kcm() { lower::view(file, view) } else { view }
}

/// Looks at a connection for who wants to hear of `wanted`. Who waits for room that the peer does not make sees to it.
pub fn look_for(file: &OpenFile, wanted: u32) -> View {
    let mut view = look(file);
    let waited_for = file.link().filter(|_| view.full && wanted & OUT != 0);
    if let Some(link) = waited_for {
        if stall::look(file, link, file.fd()) {
            return look(file);
        }
        view.look_again |= stall::is_to_be_watched(file);
    }
    view
}

/// Looks at a connection that has moved, whatever KCM says.
pub fn look_at_moved(file: &OpenFile, link: &Link) -> View {
    let sock = file.sock;
    if sock.has(flag::BROKEN) {
        return View { bits: IN | OUT | RDHUP | ALWAYS, ..View::default() };
    }
    let mut view = View { end_known: sock.has(flag::FIN), ..View::default() };
    let mut ended = false;
    match rx::readable(file, link) {
        None => {
            view.kernel_in = true;
            // The kernel's socket was not shut down: its own RDHUP must stay the peer's.
            view.bits |= if sock.has(flag::RX_SHUT) { IN | RDHUP } else { 0 } | rx::reset_of(file, link);
        }
        Some(readable) => {
            ended = readable.ended;
            view.strays = stuck::are_strays(file, link);
            // It may have been learned just now; what it means is among the bits.
            view.end_known |= ended && sock.has(flag::FIN);
            view.bits |= if readable.now { IN } else { 0 } | if ended { RDHUP } else { 0 } | readable.reset;
        }
    }
    if !sock.tx_in_ring() {
        view.kernel_out = true;
    } else if tx::is_writable(file, link) {
        view.bits |= OUT;
    } else {
        view.full = true;
        if view.kernel_in && !view.end_known {
            wait::look_at_kernel(file, file.fd());
            view.look_again = true;
        }
    }
    if ended && sock.has(flag::TX_SHUT) {
        view.bits |= libc::POLLHUP as u32;
    }
    if sock.has(flag::ERROR) {
        // The error is told once, the hang-up for ever: only the kernel knows which is left.
        view.bits |= event::poll_now(file.fd(), 0) as u16 as u32 & ALWAYS;
    }
    view
}

/// Connections that a poll spins for at most: a glance at more would take too long.
const SPIN_FOR: usize = 8;

/// The connections among polled descriptors.
struct Polled<'a> {
    fds: &'a mut [libc::pollfd],
    /// By index, in its order.
    ours: Vec<(usize, Counted<OpenFile>)>,
    /// Others may be attached to a KCM mux while this call sleeps.
    has_strangers: bool,
    /// This call has slept: bytes of attached sockets, which are KCM's, are no reason to return.
    has_slept: bool,
    /// Of some connection what is next may come without an event.
    look_again: bool,
    /// The program's call is select(2).
    is_select: bool,
    /// What the kernel is asked, the bell last.
    kernel: Vec<libc::pollfd>,
}

/// Whether poll needs the library for this descriptor. Where there are muxes any TCP socket may be attached meanwhile.
fn ours(fd: Fd) -> Option<Counted<OpenFile>> {
    let concerns_us = |file: &Counted<OpenFile>| {
        !matches!(file.sock.phase(), phase::TCP | phase::INIT) || file.concerns_kcm() || registry::any()
    };
    fdtable::get(fd).filter(concerns_us)
}

/// The descriptor of a socket whose number `fd` was closed while this call sleeps: it goes on with what it began with.
fn kept(file: &OpenFile, fd: Fd) -> Option<Fd> {
    let now = file.fd();
    (now != fd && now >= 0 && !file.is_at(fd)).then_some(now)
}

/// poll(2), ppoll(2). `None`: nothing here is ours, the kernel answers alone.
pub fn poll(
    fds: &mut [libc::pollfd],
    deadline: impl FnOnce() -> Deadline,
    mask: SignalMask,
) -> Option<Result<usize, Errno>> {
    poll_for(false, fds, deadline, mask)
}

/// The same for select(2), if it is that.
pub fn poll_for(
    is_select: bool,
    fds: &mut [libc::pollfd],
    deadline: impl FnOnce() -> Deadline,
    mask: SignalMask,
) -> Option<Result<usize, Errno>> {
    for entry in fds.iter() {
        if let Some(set) = fdtable::epoll(entry.fd) {
            set.is_polled();
        }
    }
    let ours: Vec<_> = fds.iter().enumerate().filter_map(|(index, entry)| Some((index, ours(entry.fd)?))).collect();
    if ours.is_empty() && !registry::any() {
        return None;
    }
    let deadline = deadline();
    let has_strangers = deadline != Some(0) && lower::may_be_attached(fds.iter().map(|entry| entry.fd));
    if ours.is_empty() && !has_strangers {
        return None;
    }
    let mut kernel = fds.to_vec();
    kernel.push(libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 });
    let mut polled = Polled { fds, ours, has_strangers, has_slept: false, look_again: false, is_select, kernel };
    Some(polled.run(deadline, mask))
}

impl Polled<'_> {
    fn run(&mut self, deadline: Deadline, mask: SignalMask) -> Result<usize, Errno> {
        self.catch_up();
        loop {
            if self.look() {
                return self.report();
            }
            let expired = deadline.is_some_and(|deadline| clock::now() >= deadline);
            if !expired && self.spin(deadline) {
                continue;
            }
            if expired {
                self.ask(Some(0), mask, &mut || {})?;
                return Ok(self.count());
            }
            if let Err(errno) = self.sleep(deadline, mask) {
                // What is there is reported first; the signal was handled.
                return if errno == Errno::EINTR && self.look() { self.report() } else { Err(errno) };
            }
            self.has_slept = true;
            if self.has_strangers {
                self.find_ours();
            }
            self.catch_up();
            let count = self.count();
            if self.has_reason() {
                return Ok(count);
            }
        }
    }

    /// Whether what was counted is a reason to return.
    fn has_reason(&self) -> bool {
        let is_attached = |index| self.ours.iter().any(|(at, file)| *at == index && file.is_attached());
        let is_reason = |(index, bits): (usize, u32)| bits & ALWAYS != 0 || bits != 0 && !is_attached(index);
        self.fds.iter().map(|entry| entry.revents as u16 as u32).enumerate().any(is_reason)
    }

    /// What has come for sockets that KCM muxes have is taken, and errors are posted, before anybody looks.
    fn catch_up(&self) {
        self.ours.iter().filter(|(_, file)| file.is_attached()).for_each(|(_, file)| lower::catch_up(file));
    }

    /// Some connection has something to report: so may other descriptors. A signal that waits does not keep that back.
    fn report(&mut self) -> Result<usize, Errno> {
        self.ask(Some(0), SignalMask::NONE, &mut || {})?;
        Ok(self.count())
    }

    /// Looks at every connection; `true` when one has something to report already.
    fn look(&mut self) -> bool {
        let mut any = false;
        self.look_again = false;
        for (index, file) in &self.ours {
            let entry = &mut self.fds[*index];
            let wanted = entry.events as u16 as u32;
            let view = look_for(file, wanted);
            let asked = &mut self.kernel[*index];
            asked.events = view.ask(wanted) as u16 as i16;
            if let Some(kept) = kept(file, entry.fd) {
                asked.fd = kept;
            }
            self.look_again |= view.look_again;
            let report = view.report(wanted, 0);
            let is_quiet = self.has_slept && file.is_attached() && report & ALWAYS == 0;
            any |= report != 0 && !is_quiet;
        }
        any
    }

    /// Spins for a few connections whose peers run elsewhere.
    fn spin(&self, deadline: Deadline) -> bool {
        let (Some((_, first)), true) = (self.ours.first(), self.ours.len() <= SPIN_FOR) else { return false };
        let cursors = |link: &Link| {
            let peer = link.peer();
            peer.tx.prod.load(Ordering::Acquire).wrapping_add(peer.rx.cons.load(Ordering::Acquire))
        };
        let links: Vec<&Arc<Link>> = self.ours.iter().filter_map(|(_, file)| file.link()).collect();
        let seen: Vec<u64> = links.iter().map(|link| cursors(link)).collect();
        let elsewhere = |link: &&Arc<Link>| {
            let peer = link.peer();
            let lines = [&peer.tx.cpu, &peer.rx.cpu];
            lines.iter().any(|cpu| wait::peer_elsewhere(cpu.load(Ordering::Relaxed)))
        };
        let moved = || links.iter().zip(&seen).any(|(link, seen)| cursors(link) != *seen);
        links.iter().any(elsewhere) && wait::spin(&first.spin, deadline, moved)
    }

    /// Descriptors that have become known since.
    fn find_ours(&mut self) {
        for (index, entry) in self.fds.iter().enumerate() {
            if let Err(place) = self.ours.binary_search_by_key(&index, |(index, _)| *index)
                && let Some(file) = ours(entry.fd)
            {
                self.ours.insert(place, (index, file));
            }
        }
    }

    fn sleep(&mut self, deadline: Deadline, mask: SignalMask) -> Result<(), Errno> {
        let sleeper =
            Sleeper::new().map(|sleeper| if self.has_strangers { sleeper.hears_of_attaching() } else { sleeper });
        if self.has_strangers {
            self.find_ours();
        }
        let Ok(mut sleeper) = sleeper else { return self.ask(wait::sooner(deadline), mask, &mut || {}) };
        for (_, file) in &self.ours {
            sleeper.join(file, !file.is_attached());
        }
        if let Some(bell) = self.kernel.last_mut() {
            bell.fd = sleeper.bell();
        }
        let until = if self.look() { Some(0) } else { sleeper.until(deadline) };
        let until = if self.look_again { stuck::by_next_look(until) } else { until };
        let start = clock::now();
        let mut sleeper = Some(sleeper);
        let ours: Vec<_> = self.ours.iter().map(|(_, file)| file.clone()).collect();
        let asked = self.ask(until, mask, &mut || {
            if let Some(sleeper) = sleeper.take() {
                sleeper.leave(true);
            }
            ours.iter().for_each(|file| file.is_abandoned());
        });
        if let Some((_, first)) = self.ours.first() {
            wait::learn(&first.spin, start);
        }
        let rang = self.kernel.last().is_some_and(|bell| bell.revents != 0);
        if let Some(bell) = self.kernel.last_mut() {
            (bell.fd, bell.revents) = (-1, 0);
        }
        if let Some(sleeper) = sleeper {
            sleeper.leave(rang);
        }
        asked
    }

    fn ask(&mut self, deadline: Deadline, mask: SignalMask, cancelled: &mut dyn FnMut()) -> Result<(), Errno> {
        let asked = (!self.is_select).then_some(self.fds.len());
        entries::poll(&mut self.kernel, asked, deadline, mask, cancelled)
    }

    /// Joins the kernel's answers with what the library knows; how many entries have something to report.
    fn count(&mut self) -> usize {
        for (entry, answer) in self.fds.iter_mut().zip(&self.kernel) {
            entry.revents = answer.revents;
        }
        for (index, file) in &self.ours {
            let entry = &mut self.fds[*index];
            let kernel = self.kernel[*index].revents;
            if kernel & libc::POLLNVAL != 0 {
                // Rung because of the close, the kernel looks at the number once more.
                if kept(file, entry.fd).is_some_and(|kept| kept != self.kernel[*index].fd) {
                    entry.revents = 0;
                }
                continue;
            }
            if file.sock.phase() == phase::SMC {
                wait::note(file, kernel);
            }
            let bits = look(file).report(entry.events as u16 as u32, kernel as u16 as u32);
            entry.revents = bits as u16 as i16;
        }
        self.fds.iter().filter(|entry| entry.revents != 0).count()
    }
}
