//! A mux as this process has it.

use super::entered::Entered;
use super::loan::Loans;
use super::local::Local;
use super::lower::News;
use super::readers::Readers;
use super::source::{EVENTS, Source};
use super::vault::{Member, Vault};
use super::{members, proc, pump, registry};
use crate::fork;
use crate::log;
use crate::process;
use crate::socket::passing::note::Library;
use crate::socket::wait;
use libc::{EPOLLET, EPOLLIN};
use preloop_kcm::id::{CsockId, PsockId};
use preloop_kcm::stats::{MuxStats, PsockStats};
use preloop_shm::mux::{Lent, LentRegions, Locked, MuxMemory};
use preloop_sys::unix::Inner;
use preloop_sys::{Errno, Fd, call, event};
use preloop_uapi::mux::{CsockEntry, MuxHeader, PLACES, PsockEntry};
use preloop_uapi::sync::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// See the module's text.
#[derive(Debug)]
pub struct Mux {
    /// Its number in this process.
    number: u64,
    memory: MuxMemory,
    memfd: Fd,
    /// Wakes the pumps of all processes that have the mux: an eventfd that nobody reads.
    kick: Fd,
    /// Made when another process may come to have it.
    vault: OnceLock<Vault>,
    /// Csocks, by bits, that a signal handler let go of while its thread was inside a mux: whoever enters next does the rest.
    left: [AtomicU64; PLACES / 64],
    /// The calls of this process that receive.
    pub readers: Readers,
    /// What they have borrowed.
    pub loans: Loans,
    local: Mutex<Local>,
}

impl Mux {
    /// Makes a mux.
    ///
    /// # Errors
    /// EMFILE, ENOMEM and their like.
    pub fn make() -> Result<Arc<Self>, Errno> {
        let (memory, memfd) = MuxMemory::create()?;
        for (word, own) in memory.header().library.iter().zip(own_library()) {
            word.store(own, Ordering::Relaxed);
        }
        let kick = Inner::from_raw(event::eventfd()?).move_high();
        Self::with(memory, memfd, kick, OnceLock::new())
    }

    /// A mux that another process made, in whose vault is what this one needs.
    ///
    /// # Errors
    /// ENOENT when it is not; EPERM when the other one has another library; EMFILE and its like.
    pub fn open(memory: MuxMemory, memfd: Inner, vault: Vault) -> Result<Arc<Self>, Errno> {
        if memory.header().library.each_ref().map(|word| word.load(Ordering::Relaxed)) != own_library() {
            log::debug_kcm(format_args!("a KCM socket cannot be used here: its mux is of another library"));
            return Err(Errno::EPERM);
        }
        // Whoever looks into the vault has the lock.
        let locked = lock(&memory);
        let found = vault.find(&[Member::Kick].into_iter().collect()).next();
        drop(locked);
        let Some((_, [Some(kick), ..])) = found else { return Err(Errno::ENOENT) };
        let mux = Self::with(memory, memfd, kick.move_high(), OnceLock::from(vault))?;
        // All that is there is new to this process.
        mux.local().members = mux.header().members.load(Ordering::Acquire).wrapping_sub(1);
        Ok(mux)
    }

    fn with(memory: MuxMemory, memfd: Inner, kick: Inner, vault: OnceLock<Vault>) -> Result<Arc<Self>, Errno> {
        // Handlers of pthread_atfork(3) make none.
        if fork::is_inside() {
            return Err(Errno::EAGAIN);
        }
        let local = Local::new()?;
        local.watch(kick.fd(), (EPOLLIN | EPOLLET) as u32, Source::Kick)?;
        let (memfd, kick) = (process::adopt(memfd), process::adopt(kick));
        let local = Mutex::new(local);
        // One that becomes known now is held still by a fork, or is not in the child.
        let _no_fork = fork::may_not_fork();
        let mux = Arc::new(Self {
            number: registry::number(),
            memory,
            memfd,
            kick,
            vault,
            left: Default::default(),
            readers: Readers::default(),
            loans: Loans::none(),
            local,
        });
        registry::add(&mux);
        Ok(mux)
    }

    /// Its number in this process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What is known without the lock.
    pub fn header(&self) -> &MuxHeader {
        self.memory.header()
    }

    /// What is known of a csock beside its state.
    pub fn csock(&self, csock: CsockId) -> &CsockEntry {
        &self.header().csocks[usize::from(csock.0)]
    }

    /// What is known of a psock beside its state.
    pub fn psock(&self, psock: PsockId) -> &PsockEntry {
        &self.header().psocks[usize::from(psock.0)]
    }

    /// Its name on this host.
    pub fn id(&self) -> u64 {
        self.header().id.load(Ordering::Relaxed)
    }

    /// Its memory.
    pub fn memfd(&self) -> Fd {
        self.memfd
    }

    /// Its eventfd.
    pub fn kick_fd(&self) -> Fd {
        self.kick
    }

    /// Its vault, if other processes may have it too.
    pub fn vault(&self) -> Option<&Vault> {
        self.vault.get()
    }

    /// Its vault, made if need be. For who holds its lock, or is about to fork.
    ///
    /// # Errors
    /// EMFILE and its like.
    pub fn make_vault(&self) -> Result<&Vault, Errno> {
        if let Some(vault) = self.vault.get() {
            return Ok(vault);
        }
        let vault = Vault::make(self.id())?;
        Ok(self.vault.get_or_init(|| vault))
    }

    /// Whether other processes may have it too.
    pub fn is_shared(&self) -> bool {
        self.header().shared.load(Ordering::Acquire) != 0
    }

    /// Its counts, when nobody has it any more but who lets it go.
    pub fn last_statistics(&self) -> (MuxStats, PsockStats) {
        self.lock().parts().0.statistics()
    }

    /// This process holds a csock no more, but its thread may not enter now.
    pub fn leave_later(&self, csock: CsockId) {
        self.left[usize::from(csock.0 / 64)].fetch_or(1 << (csock.0 % 64), Ordering::AcqRel);
        self.kick();
    }

    /// A flush was to be told of, by a process that has the csock.
    pub fn leave_untold(&self, csock: CsockId) {
        self.header().untold[usize::from(csock.0 / 64)].fetch_or(1 << (csock.0 % 64), Ordering::Relaxed);
        self.kick();
    }

    /// Takes what [`Mux::leave_later`] left.
    fn take_left(&self) -> Vec<CsockId> {
        let left = self.left.each_ref().map(|word| match word.load(Ordering::Relaxed) {
            0 => 0,
            _ => word.swap(0, Ordering::AcqRel),
        });
        let is_left = |n: &u8| left[usize::from(n / 64)] >> (n % 64) & 1 != 0;
        if left == [0; PLACES / 64] { Vec::new() } else { (0..=u8::MAX).filter(is_left).map(CsockId).collect() }
    }

    /// Regions that are lent.
    pub fn lent<'a>(&'a self, regions: &'a mut Lent) -> LentRegions<'a> {
        self.memory.of(regions)
    }

    /// The lock between processes.
    pub fn lock(&self) -> Locked<'_> {
        lock(&self.memory)
    }

    /// A member came or went: other processes are to take note.
    pub fn members_changed(&self) {
        self.header().members.fetch_add(1, Ordering::AcqRel);
        if self.is_shared() {
            self.kick();
        }
    }

    /// This process's descriptors of it, with no regard to the state (for fork).
    pub fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Wakes the pumps of all processes that have it.
    pub fn kick(&self) {
        let _ = call::write(self.kick, &1u64.to_ne_bytes());
    }

    /// Takes the lock, and has all back that calls have borrowed.
    ///
    /// # Errors
    /// EAGAIN in a signal handler that came in while this very thread has the lock.
    pub fn enter(self: &Arc<Self>) -> Result<Entered<'_>, Errno> {
        let mut entered = self.enter_beside()?;
        entered.take_all_back();
        Ok(entered)
    }

    /// Takes the lock, beside calls that have borrowed something: to receive, to send, or to serve.
    ///
    /// # Errors
    /// EAGAIN in a signal handler that came in while this very thread has the lock.
    pub fn enter_beside(self: &Arc<Self>) -> Result<Entered<'_>, Errno> {
        let mut entered = Entered::begin(self)?;
        let needs_repair = self.header().needs_repair.swap(0, Ordering::AcqRel) != 0;
        let members = self.header().members.load(Ordering::Acquire);
        // For a repair all TCP sockets have to be there, to be asked how far the dead one had come with them.
        if core::mem::replace(&mut entered.local.members, members) != members || needs_repair {
            entered.take_all_back();
            members::sync(&mut entered);
        }
        if needs_repair {
            entered.with(|state, outside| {
                state.repair(outside);
                state.write_stalled(outside);
            });
            for csock in entered.state().csocks().iter() {
                entered.local.recount(csock, self.csock(csock));
            }
            log::debug_kcm(format_args!("mux {}: a process was killed inside", self.number));
            // It had no time to say what it had changed.
            self.members_changed();
        }
        for csock in self.take_left() {
            entered.take_all_back();
            super::csock::let_go(&mut entered, csock);
        }
        Ok(entered)
    }

    /// Does what is to be done now. True if that may not be all.
    pub fn serve(self: &Arc<Self>) -> bool {
        self.enter_beside().is_ok_and(|mut entered| entered.serve_all())
    }

    /// In a forked child: what belongs to the parent alone is made anew.
    pub fn after_fork(self: &Arc<Self>) {
        self.readers.forget();
        let mut local = self.local();
        if local.renew().is_err() {
            return;
        }
        let edges = (EPOLLIN | EPOLLET) as u32;
        let _ = local.watch(self.kick, edges, Source::Kick);
        if let Some(desk) = local.desk() {
            let _ = local.watch(desk, edges, Source::Desk);
        }
        for (csock, _) in local.csocks() {
            if let Some(far) = local.far_end(csock) {
                let _ = local.watch(far, EPOLLET as u32, Source::FarEnd(csock));
            }
        }
        for (psock, _) in local.psocks() {
            if let Some(tcp) = local.tcp(psock) {
                let _ = local.watch(tcp, EVENTS, Source::Psock(psock));
            }
            if local.hear(psock).is_err() {
                local.ears.deaf = true;
            }
        }
        // What came since the fork may have been told to the parent alone, which may have ended.
        local.ears.prick();
        let looks_at = Some(self.header().looks_at.load(Ordering::Relaxed)).filter(|at| *at != 0);
        let looks_at = if local.ears.deaf { wait::sooner(looks_at) } else { looks_at };
        local.set_deadline(looks_at.unwrap_or(0));
        let _ = pump::start(self, &mut local);
    }

    /// Has the pump serve it, which a call does that attaches: for a process that may share it, whose pump takes note of what
    /// others do.
    pub fn have_pump(self: &Arc<Self>) {
        if let Ok(mut entered) = self.enter() {
            let _ = pump::start(self, &mut entered.local);
        }
    }
}

/// As `MuxHeader::library` has it; zeroes without /proc.
fn own_library() -> [u64; 2] {
    Library::own().map(Library::words).unwrap_or_default()
}

/// The lock. That its owner died is left for who enters next: for a repair TCP has to be asked.
fn lock(memory: &MuxMemory) -> Locked<'_> {
    let locked = memory.lock();
    if locked.owner_died() {
        memory.header().needs_repair.store(1, Ordering::Release);
    }
    locked
}

impl Drop for Mux {
    fn drop(&mut self) {
        let mut news = News::default();
        let mut local = self.local();
        pump::stop(self, &mut local);
        local.alarm.give_up();
        proc::remember(self);
        local.give_up(&mut news);
        drop(local);
        process::disown(self.kick);
        process::disown(self.memfd);
    }
}
