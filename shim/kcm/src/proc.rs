//! The texts of `/proc/net/kcm` and `/proc/net/kcm_stats`, column for column.
//!
//! Reference: net/kcm/kcmproc.c. `kcm` is [`header`] and then [`MuxState::show`] of each mux, the newest first;
//! `kcm_stats` is [`show_statistics`] of the sums over all muxes, those that are gone included. Two numbers stand under
//! each other's heading in the kernel, and so here: those of Unattach and UnattchRsvd.

use core::fmt::{Display, Result, Write};

use crate::id::{CsockId, PsockId};
use crate::mux::MuxState;
use crate::stats::{CsockStats, MuxStats, PsockStats};

/// What the TCP socket of a psock has queued, as the kernel counts it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TcpQueues {
    /// Segments to be received.
    pub recv_q: u32,
    /// Memory of those, in bytes.
    pub rmem: u32,
    /// Segments to be sent.
    pub send_q: u32,
    /// Memory of those, in bytes, and one more.
    pub smem: u32,
}

/// The two lines before the muxes.
pub fn header(out: &mut impl Write, muxes: usize) -> Result {
    writeln!(out, "*** KCM statistics ({muxes} MUX) ****")?;
    writeln!(
        out,
        "{:<14} {:<10} {:<16} {:<10} {:<16} {:<8} {:<8} {:<8} {:<8} Status",
        "Object", "RX-Msgs", "RX-Bytes", "TX-Msgs", "TX-Bytes", "Recv-Q", "Rmem", "Send-Q", "Smem"
    )
}

/// All of `kcm_stats`.
pub fn show_statistics(out: &mut impl Write, mux: &MuxStats, psock: &PsockStats) -> Result {
    const MOVED: [&str; 4] = ["RX-Msgs", "RX-Bytes", "TX-Msgs", "TX-Bytes"];
    moved(out, "MUX", MOVED)?;
    columns(out, ["TX-Retries", "Attach", "Unattach", "UnattchRsvd", "RX-RdyDrops"])?;
    moved(out, "", [mux.rx_msgs, mux.rx_bytes, mux.tx_msgs, mux.tx_bytes])?;
    columns(out, [mux.tx_retries, mux.attach, mux.unattach_rsvd, mux.unattach, mux.rx_ready_drops])?;
    moved(out, "Psock", MOVED)?;
    #[rustfmt::skip]
    let names = [
        "Reserved", "Unreserved", "RX-Aborts", "RX-Intr", "RX-Unrecov", "RX-MemFail", "RX-NeedMor", "RX-BadLen",
        "RX-TooBig", "RX-Timeout", "TX-Aborts",
    ];
    columns(out, names)?;
    moved(out, "", [psock.rx_msgs, psock.rx_bytes, psock.tx_msgs, psock.tx_bytes])?;
    // The kernel has never counted RX-Aborts; RX-MemFail cannot happen here.
    #[rustfmt::skip]
    let values = [
        psock.reserved, psock.unreserved, 0, psock.rx_intr, psock.rx_unrecov_intr, 0, psock.rx_need_more,
        psock.rx_bad_len, psock.rx_too_big, psock.rx_timeouts, psock.tx_aborts,
    ];
    columns(out, values)
}

impl MuxState {
    /// The mux's lines of `kcm`: its own, one for each csock and one for each psock. `tcp` tells what TCP has queued.
    pub fn show(&self, out: &mut impl Write, mut tcp: impl FnMut(PsockId) -> TcpQueues) -> Result {
        let MuxStats { rx_msgs, rx_bytes, tx_msgs, tx_bytes, .. } = self.stats;
        write!(out, "mux            {rx_msgs:<10} {rx_bytes:<16} {tx_msgs:<10} {tx_bytes:<16} ")?;
        write!(out, "{:<8} {:<8} {:<8} {:<8} ", "-", "-", "-", "-")?;
        writeln!(out, "KCMs: {}, Psocks {}", self.open.iter().count(), self.attached.iter().count())?;
        for csock in self.open.iter() {
            self.show_csock(out, csock)?;
        }
        for psock in self.attached.iter() {
            self.show_psock(out, psock, tcp(psock))?;
        }
        Ok(())
    }

    fn show_csock(&self, out: &mut impl Write, id: CsockId) -> Result {
        let csock = &self.csocks[id.index()];
        let CsockStats { rx_msgs, rx_bytes, tx_msgs, tx_bytes } = csock.stats;
        write!(out, "   kcm-{:<7} {rx_msgs:<10} {rx_bytes:<16} {tx_msgs:<10} {tx_bytes:<16} ", id.0)?;
        write!(out, "{:<8} {:<8} {:<8} {:<8} ", csock.rx.messages, csock.rx.charge, csock.tx.messages, "-")?;
        if let Some(psock) = csock.tx_psock.checked_sub(1) {
            write!(out, "Psck-{psock} ")?;
        }
        let status = [
            (self.senders.contains(id), "TxWait "),
            (csock.wait_more, "WMore "),
            (self.receivers.contains(id), "RxWait "),
        ];
        words(out, &status)?;
        out.write_char('\n')
    }

    fn show_psock(&self, out: &mut impl Write, id: PsockId, tcp: TcpQueues) -> Result {
        let psock = &self.psocks[id.index()];
        let PsockStats { rx_msgs, rx_bytes, tx_msgs, tx_bytes, .. } = psock.stats;
        write!(out, "   psock-{:<5} {rx_msgs:<10} {rx_bytes:<16} {tx_msgs:<10} {tx_bytes:<16} ", id.0)?;
        write!(out, "{:<8} {:<8} {:<8} {:<8} ", tcp.recv_q, tcp.rmem, tcp.send_q, tcp.smem)?;
        words(out, &[(psock.tx_stopped, "TxStop "), (psock.strp.stopped(), "RxStop ")])?;
        if let Some(csock) = psock.tx_csock.checked_sub(1) {
            write!(out, "Rsvd-{csock} ")?;
        }
        match psock.strp.need() {
            _ if psock.ready > 0 => out.write_str("RxPause RdyRx ")?,
            _ if tcp.recv_q == 0 => {}
            Some(need) => write!(out, "RxWait={need} ")?,
            None => out.write_str("RxWait ")?,
        }
        out.write_char('\n')
    }
}

fn words(out: &mut impl Write, words: &[(bool, &str)]) -> Result {
    words.iter().filter(|(holds, _)| *holds).try_for_each(|(_, word)| out.write_str(word))
}

/// The first five columns of a line of `kcm_stats`.
fn moved<T: Display>(out: &mut impl Write, what: &str, [rx_msgs, rx_bytes, tx_msgs, tx_bytes]: [T; 4]) -> Result {
    write!(out, "{what:<8} {rx_msgs:<10} {rx_bytes:<16} {tx_msgs:<10} {tx_bytes:<16}")
}

/// The rest of it.
fn columns<T: Display, const N: usize>(out: &mut impl Write, values: [T; N]) -> Result {
    values.iter().try_for_each(|value| write!(out, " {value:<10}"))?;
    out.write_char('\n')
}
