//! Counts, as the kernel keeps them (`kcm_stats`, `kcm_psock_stats`, `kcm_mux_stats`, `strp_stats`), and when it does:
//! bytes are counted after the messages that they make up, and a mux adds up what its psocks received when a psock takes
//! a csock for its next batch, and what they sent when a csock gives one back.

use zerocopy::TryFromBytes;

use crate::id::{CsockId, PsockId, Set};
use crate::mux::MuxState;

/// What a csock moved.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, TryFromBytes)]
pub struct CsockStats {
    /// Messages received.
    pub rx_msgs: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Messages made.
    pub tx_msgs: u64,
    /// Bytes of those, and of an open one.
    pub tx_bytes: u64,
}

impl CsockStats {
    pub(crate) fn repair(&mut self) {
        repair(self.all());
    }

    /// What a mux's counts have of a psock's is no more than the psock's.
    pub(crate) fn keep_below(&mut self, psock: &PsockStats) {
        let PsockStats { rx_msgs, rx_bytes, tx_msgs, tx_bytes, .. } = *psock;
        let below = [rx_msgs, rx_bytes, tx_msgs, tx_bytes];
        self.all().into_iter().zip(below).for_each(|(count, most)| *count = most.min(*count));
    }

    fn all(&mut self) -> [&mut u64; 4] {
        let Self { rx_msgs, rx_bytes, tx_msgs, tx_bytes } = self;
        [rx_msgs, rx_bytes, tx_msgs, tx_bytes]
    }
}

/// What a psock moved, and what went wrong on it.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, TryFromBytes)]
pub struct PsockStats {
    /// Messages cut.
    pub rx_msgs: u64,
    /// Bytes parsed. What had come of a message when its length became known, and was not all of it, counts twice.
    pub rx_bytes: u64,
    /// Messages sent.
    pub tx_msgs: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Times that a csock reserved it.
    pub reserved: u64,
    /// Times that one gave it back.
    pub unreserved: u64,
    /// Errors of the parser at the start of a message.
    pub rx_intr: u64,
    /// ESTRPIPE of the parser in the middle of one.
    pub rx_unrecov_intr: u64,
    /// Calls that left a message's length unknown.
    pub rx_need_more: u64,
    /// Lengths not beyond what had been shown.
    pub rx_bad_len: u64,
    /// Lengths above SO_RCVBUF.
    pub rx_too_big: u64,
    /// Messages that took too long.
    pub rx_timeouts: u64,
    /// Times that it was taken out of sending.
    pub tx_aborts: u64,
}

impl PsockStats {
    /// Adds another's counts, modulo 2^64.
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        add(self.all(), other.all());
    }

    pub(crate) fn repair(&mut self) {
        repair(self.all());
    }

    #[rustfmt::skip]
    fn all(&mut self) -> [&mut u64; 13] {
        let Self {
            rx_msgs, rx_bytes, tx_msgs, tx_bytes, reserved, unreserved, rx_intr, rx_unrecov_intr, rx_need_more, rx_bad_len,
            rx_too_big, rx_timeouts, tx_aborts,
        } = self;
        [
            rx_msgs, rx_bytes, tx_msgs, tx_bytes, reserved, unreserved, rx_intr, rx_unrecov_intr, rx_need_more, rx_bad_len,
            rx_too_big, rx_timeouts, tx_aborts,
        ]
    }
}

/// What a mux moved.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, TryFromBytes)]
pub struct MuxStats {
    /// Messages received.
    pub rx_msgs: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Messages sent.
    pub tx_msgs: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Times that sending began anew after a psock had failed.
    pub tx_retries: u64,
    /// Psocks attached.
    pub attach: u64,
    /// Psocks taken away.
    pub unattach: u64,
    /// Those that a csock was sending on.
    pub unattach_rsvd: u64,
    /// Messages lost because nobody had room for them when their psock was taken away.
    pub rx_ready_drops: u64,
}

impl MuxStats {
    /// Adds another's counts, modulo 2^64.
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        add(self.all(), other.all());
    }

    pub(crate) fn repair(&mut self) {
        repair(self.all());
    }

    #[rustfmt::skip]
    fn all(&mut self) -> [&mut u64; 9] {
        let Self {
            rx_msgs, rx_bytes, tx_msgs, tx_bytes, tx_retries, attach, unattach, unattach_rsvd, rx_ready_drops,
        } = self;
        [rx_msgs, rx_bytes, tx_msgs, tx_bytes, tx_retries, attach, unattach, unattach_rsvd, rx_ready_drops]
    }
}

fn add<const N: usize>(counts: [&mut u64; N], others: [&mut u64; N]) {
    counts.into_iter().zip(others).for_each(|(count, other)| *count = count.wrapping_add(*other));
}

/// Nobody has counted so far as to these: such a count is none.
fn repair<const N: usize>(counts: [&mut u64; N]) {
    counts.into_iter().filter(|count| **count > u64::MAX >> 8).for_each(|count| *count = 0);
}

impl MuxState {
    /// The mux's counts, and the sum of its psocks', including those that are gone.
    pub fn statistics(&self) -> (MuxStats, PsockStats) {
        let mut psocks = self.gone;
        for psock in self.attached.iter() {
            psocks.add(&self.psocks[psock.index()].stats);
        }
        (self.stats, psocks)
    }

    /// Csocks of the mux, in the order of their indexes.
    pub fn csocks(&self) -> Set<CsockId> {
        self.open
    }

    /// Psocks that are attached, in the order of their indexes.
    pub fn psocks(&self) -> Set<PsockId> {
        self.attached
    }

    pub(crate) fn add_received(&mut self, psock: PsockId) {
        let psock = &mut self.psocks[psock.index()];
        self.stats.rx_msgs += psock.stats.rx_msgs - psock.saved.rx_msgs;
        self.stats.rx_bytes += psock.stats.rx_bytes - psock.saved.rx_bytes;
        (psock.saved.rx_msgs, psock.saved.rx_bytes) = (psock.stats.rx_msgs, psock.stats.rx_bytes);
    }

    pub(crate) fn add_sent(&mut self, psock: PsockId) {
        let psock = &mut self.psocks[psock.index()];
        self.stats.tx_msgs += psock.stats.tx_msgs - psock.saved.tx_msgs;
        self.stats.tx_bytes += psock.stats.tx_bytes - psock.saved.tx_bytes;
        (psock.saved.tx_msgs, psock.saved.tx_bytes) = (psock.stats.tx_msgs, psock.stats.tx_bytes);
    }
}
