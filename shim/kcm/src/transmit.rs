//! Sending what is queued.
//!
//! Reference: `kcm_write_msgs`, `reserve_psock`, `unreserve_psock`, `psock_now_avail`, `kcm_abort_tx_psock` in
//! net/kcm/kcmsock.c.
//!
//! | a psock is | when | and then |
//! |---|---|---|
//! | available | nobody sends on it | in a list, in the order of attaching and of giving back |
//! | reserved | a csock sends its whole queue on it | given back when the queue is empty: to the csock that waits longest for one, or to the end of the list |
//! | stalled | reserved, and its TCP socket is full | goes on where it was, on the same psock |
//! | stopped | sending on it failed, or its message's csock is gone | never sent on again; EPIPE is posted on it |
//!
//! A message is kept until TCP has taken all of it: when its psock is stopped before that, it goes whole to another one.
//! An error that is posted on a psock and was not read makes the next write to it fail, as a socket's own error does.
//!
//! # Messages for one connection
//!
//! They stand in their csock's queue like others, which leaves in its order. When such a message comes to the head the
//! csock gives back the psock that it has, and takes or waits for that one: it never keeps one while it waits for another,
//! so that no two wait for each other. While one waits for a psock, others give that back after each message. With its
//! connection stopped or gone, the message is dropped, the rest of one that was begun too: it is for nobody else.
//!
//! The kernel continues in a work queue where one csock's doing lets another send; here the same call does.

use crate::errno::{EAGAIN, EPIPE, Errno};
use crate::id::{CsockId, PsockId};
use crate::mux::{Csock, MuxState, Psock};
use crate::outside::{Outside, Region, Regions, Tcp};
use crate::repair::in_order;

/// Messages that one write gathers.
const GATHERED: usize = 64;

/// A message's connection is not sent on any more.
#[derive(Debug)]
pub(crate) struct Gone;

/// What became of a csock's queue.
enum Written {
    /// It is empty.
    All,
    /// The TCP socket is full.
    Stalled,
    /// The TCP socket failed.
    Failed,
    /// What comes next is for another connection, or it is another csock's turn.
    Elsewhere,
}

impl MuxState {
    /// A stalled psock's TCP socket has room again, or has failed.
    pub fn writable<M: Regions, T: Tcp>(&mut self, psock: PsockId, outside: &mut Outside<'_, M, T>) {
        let state = &mut self.psocks[psock.index()];
        state.stalled = false;
        if let Some(csock) = csock(state.tx_csock) {
            self.to_write.insert(csock);
        }
        self.write_all(outside);
    }

    /// [`MuxState::writable`] for all that are stalled, whether TCP has room or not: after a repair nobody tells.
    pub fn write_stalled<M: Regions, T: Tcp>(&mut self, outside: &mut Outside<'_, M, T>) {
        for psock in self.attached.iter() {
            if self.stalled(psock) {
                self.writable(psock, outside);
            }
        }
        self.write_all(outside);
    }

    /// Whether somebody waits until this psock's TCP socket can be written to.
    pub fn stalled(&self, psock: PsockId) -> bool {
        self.psocks[psock.index()].stalled
    }

    /// Sends what a csock has, and whatever others can send after that.
    pub(crate) fn flush<M: Regions, T: Tcp>(&mut self, csock: CsockId, outside: &mut Outside<'_, M, T>) {
        self.to_write.insert(csock);
        self.write_all(outside);
    }

    pub(crate) fn write_all<M: Regions, T: Tcp>(&mut self, outside: &mut Outside<'_, M, T>) {
        while let Some(csock) = self.to_write.pop() {
            self.write_queue(csock, outside);
        }
    }

    /// The psock is free: for the csock that waits longest, or for whoever comes.
    pub(crate) fn make_available(&mut self, psock: PsockId) {
        let wants = |csock: &CsockId| [0, link(psock)].contains(&self.csocks[csock.index()].wants);
        let first = self.senders.iter().find(wants);
        match first {
            Some(csock) => {
                self.senders.remove(csock);
                self.bind(csock, psock);
                self.to_write.insert(csock);
            }
            None => self.available.push_back(psock),
        }
    }

    /// A csock closes: what it was to send is dropped, and a psock that may have a part of it is stopped.
    pub(crate) fn abandon_sending(&mut self, csock: CsockId) {
        self.senders.remove(csock);
        self.to_write.remove(csock);
        if let Some(psock) = psock(self.csocks[csock.index()].tx_psock) {
            self.abort(psock);
            self.unreserve(csock, psock);
        }
    }

    /// A psock is taken away: if a csock is sending on it, it begins its message anew on another one.
    pub(crate) fn withdraw(&mut self, psock: PsockId) {
        if let Some(csock) = csock(self.psocks[psock.index()].tx_csock) {
            self.stats.unattach_rsvd += 1;
            self.abort(psock);
            self.retry(csock, psock);
            self.to_write.insert(csock);
        }
    }

    fn write_queue<M: Regions, T: Tcp>(&mut self, csock: CsockId, outside: &mut Outside<'_, M, T>) {
        let state = &mut self.csocks[csock.index()];
        state.wait_more = false;
        if state.tx.messages == 0 {
            return;
        }
        while let Some(psock) = self.reserve_for_head(csock, outside.memory) {
            match self.write_messages(csock, psock, outside) {
                Written::All => {
                    self.unreserve(csock, psock);
                    break;
                }
                Written::Stalled => {
                    self.psocks[psock.index()].stalled = true;
                    self.work.stalled.insert(psock);
                    break;
                }
                Written::Failed => {
                    self.abort(psock);
                    self.retry(csock, psock);
                }
                Written::Elsewhere => self.unreserve(csock, psock),
            }
        }
        self.work.flushed.insert(csock);
    }

    fn write_messages<M: Regions, T: Tcp>(
        &mut self,
        csock: CsockId,
        psock: PsockId,
        outside: &mut Outside<'_, M, T>,
    ) -> Written {
        let region = outside.memory.region(Region::ToSend(csock));
        let wanted = self.is_wanted(psock);
        let (from, to) = (&mut self.csocks[csock.index()], &mut self.psocks[psock.index()]);
        while from.tx.messages > 0 {
            if core::mem::take(&mut to.posted) != 0 {
                return Written::Failed;
            }
            let count = if wanted { 1 } else { from.tx.messages.min(GATHERED as u32) };
            to.writing.begin(to.given.wrapping_sub(u64::from(from.sent)), from.tx.start());
            let target = (psock, to.name);
            let written = match count {
                1 => gather::<1, T>(from, region, target, outside.tcp),
                2..=8 => gather::<8, T>(from, region, target, outside.tcp),
                _ => gather::<GATHERED, T>(from, region, target, outside.tcp),
            };
            if let Some(Ok(sent)) = written {
                account(from, to, sent, region);
            }
            in_order();
            from.writing = 0;
            to.writing.end();
            match written {
                None => {
                    from.sent = 0;
                    return Written::Elsewhere;
                }
                Some(Err(EAGAIN)) => return Written::Stalled,
                Some(Ok(0) | Err(_)) => return Written::Failed,
                Some(Ok(_)) if wanted && from.sent == 0 => return Written::Elsewhere,
                Some(Ok(_)) => {}
            }
        }
        from.sent = 0;
        Written::All
    }

    /// Whether a csock waits for this psock and no other.
    fn is_wanted(&self, psock: PsockId) -> bool {
        self.senders.iter().any(|csock| self.csocks[csock.index()].wants == link(psock))
    }

    /// The psock that a csock sends on, if there is one for it, or that one if it wants one; if not, it waits for it.
    pub(crate) fn reserve(&mut self, csock: CsockId, wanted: Option<PsockId>) -> Option<PsockId> {
        let state = &mut self.csocks[csock.index()];
        if let Some(psock) = psock(state.tx_psock) {
            return Some(psock);
        }
        state.wants = wanted.map_or(0, link);
        let Some(psock) = self.free_for(csock) else {
            self.senders.push_back(csock);
            return None;
        };
        self.available.remove(psock);
        self.senders.remove(csock);
        self.bind(csock, psock);
        Some(psock)
    }

    /// The free psock that a csock gets, or would get if it waits.
    pub(crate) fn free_for(&self, csock: CsockId) -> Option<PsockId> {
        match psock(self.csocks[csock.index()].wants) {
            None => self.available.first(),
            wanted => wanted.filter(|&psock| self.available.contains(psock)),
        }
    }

    /// [`MuxState::reserve`] as the first message wants it. Those for connections that are not sent on any more are dropped;
    /// none as well when no message is left.
    fn reserve_for_head<M: Regions>(&mut self, csock: CsockId, memory: &mut M) -> Option<PsockId> {
        if let Some(psock) = psock(self.csocks[csock.index()].tx_psock) {
            return Some(psock);
        }
        let region = memory.region(Region::ToSend(csock));
        loop {
            match self.head_goes_to(csock, region) {
                Some(Ok(wanted)) => return self.reserve(csock, wanted),
                Some(Err(Gone)) => _ = self.csocks[csock.index()].tx.pop(region),
                None => {
                    self.senders.remove(csock);
                    return None;
                }
            }
        }
    }

    /// The psock that a csock's first message is for, or that it is for any; none when there is no message.
    pub(crate) fn head_goes_to(&self, csock: CsockId, region: &[u8]) -> Option<Result<Option<PsockId>, Gone>> {
        let connection = self.csocks[csock.index()].tx.head(region)?.tag.connection;
        if connection == 0 {
            return Some(Ok(None));
        }
        let psock = self.named(connection).filter(|psock| !self.psocks[psock.index()].tx_stopped);
        Some(psock.map(Some).ok_or(Gone))
    }

    pub(crate) fn bind(&mut self, csock: CsockId, psock: PsockId) {
        self.csocks[csock.index()].tx_psock = link(psock);
        let state = &mut self.psocks[psock.index()];
        state.tx_csock = u16::from(csock.0) + 1;
        state.stats.reserved += 1;
    }

    /// A csock gives its psock back.
    pub(crate) fn unreserve(&mut self, csock: CsockId, psock: PsockId) {
        self.add_sent(psock);
        self.csocks[csock.index()].tx_psock = 0;
        let state = &mut self.psocks[psock.index()];
        (state.tx_csock, state.stalled) = (0, false);
        state.stats.unreserved += 1;
        if !state.tx_stopped {
            self.make_available(psock);
        }
    }

    /// The csock's first message begins anew, on another psock.
    pub(crate) fn retry(&mut self, csock: CsockId, psock: PsockId) {
        self.unreserve(csock, psock);
        self.csocks[csock.index()].sent = 0;
        self.stats.tx_retries += 1;
    }

    /// The psock is not to be sent on again.
    pub(crate) fn abort(&mut self, psock: PsockId) {
        let state = &mut self.psocks[psock.index()];
        state.tx_stopped = true;
        state.stats.tx_aborts += 1;
        self.post(psock, EPIPE);
        let waiting = self.senders.iter().filter(|csock| self.csocks[csock.index()].wants == link(psock));
        waiting.for_each(|csock| _ = self.to_write.insert(csock));
    }
}

/// Writes up to `N` messages from the head on; none when the first one is for another connection. An array for all that may
/// be would cost more than one message does.
fn gather<const N: usize, T: Tcp>(
    from: &mut Csock,
    region: &[u8],
    (psock, name): (PsockId, u64),
    tcp: &mut T,
) -> Option<Result<usize, Errno>> {
    let (mut parts, mut count, mut sent) = ([&region[..0]; N], 0, from.sent as usize);
    let mut elsewhere = false;
    for (part, message) in parts.iter_mut().zip(from.tx.iter(region)) {
        elsewhere = ![0, name].contains(&message.tag.connection);
        if elsewhere {
            break;
        }
        *part = region[message.bytes].get(core::mem::take(&mut sent)..).unwrap_or_default();
        count += 1;
    }
    if count == 0 {
        return if elsewhere { None } else { Some(Ok(0)) };
    }
    from.writing = count as u16;
    in_order();
    Some(tcp.write(psock, &parts[..count]))
}

/// `sent` bytes more have left.
fn account(from: &mut Csock, to: &mut Psock, sent: usize, region: &[u8]) {
    to.stats.tx_bytes += sent as u64;
    to.given = to.given.saturating_add(sent as u64);
    from.sent += sent as u32;
    while let Some(head) = from.tx.head(region)
        && from.sent as usize >= head.bytes.len()
    {
        from.sent -= head.bytes.len() as u32;
        from.tx.pop(region);
        in_order();
        from.writing = from.writing.saturating_sub(1);
        to.stats.tx_msgs += 1;
    }
}

/// The link to a psock.
pub(crate) fn link(psock: PsockId) -> u16 {
    u16::from(psock.0) + 1
}

/// The csock that a psock is linked to.
pub(crate) fn csock(link: u16) -> Option<CsockId> {
    u8::try_from(link.checked_sub(1)?).ok().map(CsockId)
}

/// The psock that a csock is linked to.
pub(crate) fn psock(link: u16) -> Option<PsockId> {
    u8::try_from(link.checked_sub(1)?).ok().map(PsockId)
}
