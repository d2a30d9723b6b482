//! The table of `smcss`, column for column as smc-tools prints it.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use super::cursors::{End, Ends};
use super::link::Link;
use super::socket::Socket;
use super::state::State;

/// Width of an address, unless it is printed whole.
const ADDRESS_WIDTH: usize = 23;

/// `producer_flags` of a CDC message: the sender waits for space.
const WRITE_BLOCKED: u8 = 0x80;
/// `conn_state_flags` of a CDC message: nothing more will be sent.
const DONE_WRITING: u8 = 0x80;
/// `conn_state_flags` of a CDC message: the end was closed.
const CLOSED: u8 = 0x40;

/// Which columns to print.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns {
    /// `-d`: shutdown state, buffers and cursors.
    pub debug: bool,
    /// `-D`: names of devices and buffers.
    pub smcd: bool,
    /// `-R`: SMC-R's columns, which never have a row.
    pub smcr: bool,
    /// `-W`: addresses are not cut.
    pub wide: bool,
}

impl Columns {
    /// Prints the line above the rows.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write_header(self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "State          UID   Inode   Local Address           Peer Address            Intf Mode ")?;
        if self.debug {
            write!(out, "Shutd Token    Sndbuf   Rcvbuf   Peerbuf  rxprod-Cursor rxcons-Cursor rxFlags ")?;
            write!(out, "txprod-Cursor txcons-Cursor txFlags txprep-Cursor txsent-Cursor txfin-Cursor  ")?;
        }
        if self.smcr {
            write!(out, "Role IB-device       Port Linkid {:<41}Peer-GID", "GID")?;
        }
        if self.smcd {
            write!(out, "GID              Token            Peer-GID         Peer-Token       Linkid")?;
        }
        writeln!(out)
    }

    /// Prints the row of `socket`. A row ends with the last column that means anything in the socket's state.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write_row(self, out: &mut impl Write, socket: &Socket, boot: u64) -> io::Result<()> {
        write!(out, "{:<14} {:05} {:07} ", socket.state, socket.uid, socket.inode)?;
        if socket.state != State::Init {
            self.write_connection(out, socket, boot)?;
        }
        writeln!(out)
    }

    fn write_connection(self, out: &mut impl Write, socket: &Socket, boot: u64) -> io::Result<()> {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let [local, peer] = socket.addresses.unwrap_or([unknown; 2]).map(|address| self.address(address));
        write!(out, "{local:<ADDRESS_WIDTH$} ")?;
        if socket.state == State::Listen {
            return Ok(());
        }
        // The kernel's tables do not tell the device that a socket is bound to.
        write!(out, "{peer:<ADDRESS_WIDTH$} {:04x} ", 0)?;
        if socket.state == State::Closed {
            return Ok(());
        }
        if !socket.is_smcd() {
            return write_reasons(out, socket);
        }
        write!(out, "SMCD ")?;
        let link = Link::new(socket, boot);
        if self.debug {
            write_debug(out, socket, &link)?;
        }
        if self.smcd {
            let Link { gid, token, peer_token, id } = link;
            write!(out, "{gid:016x} {token:016x} {gid:016x} {peer_token:016x} {id:08x} ")?;
        }
        Ok(())
    }

    fn address(self, address: SocketAddr) -> String {
        let mut ip = address.ip().to_string();
        let port = format!(":{}", address.port());
        if !self.wide && ip.len() + port.len() > ADDRESS_WIDTH {
            ip.truncate(ADDRESS_WIDTH - port.len() - "..".len());
            ip.push_str("..");
        }
        ip + &port
    }
}

/// Why the connection runs on TCP: this end's reason, and the peer's when it gave one.
fn write_reasons(out: &mut impl Write, socket: &Socket) -> io::Result<()> {
    write!(out, "TCP 0x{:08x}", socket.slot.decline)?;
    match socket.slot.peer_decline {
        0 => Ok(()),
        reason => write!(out, "/0x{reason:08x}"),
    }
}

/// The columns of `-d`. The sender's buffer is the receiver's, so prep, sent and prod are one cursor, as are fin
/// and the peer's cons.
fn write_debug(out: &mut impl Write, socket: &Socket, link: &Link) -> io::Result<()> {
    let [received, sent] = socket.shut();
    write!(out, " {}-{}  ", if received { 'R' } else { '<' }, if sent { 'W' } else { '>' })?;
    let [send_ring, receive_ring] = socket.slot.ring;
    write!(out, "{:08x} {send_ring:08x} {receive_ring:08x} {send_ring:08x} ", link.token as u32)?;
    let Ends { own, peer } = socket.ends.unwrap_or_default();
    let [rx_prod, rx_cons] = [peer.sent, own.received].map(|position| cursor(position, receive_ring));
    let [tx_prod, tx_cons] = [own.sent, peer.received].map(|position| cursor(position, send_ring));
    write!(out, "{rx_prod} {rx_cons} {}   ", flags(&peer))?;
    write!(out, "{tx_prod} {tx_cons} {}   {tx_prod} {tx_prod} {tx_cons} ", flags(&own))
}

/// A stream position as SMC writes it: rounds through the ring, and offset in it.
fn cursor(position: u64, ring: u64) -> String {
    let rounds = position.checked_div(ring).unwrap_or_default() as u16;
    let offset = position.checked_rem(ring).unwrap_or_default() as u32;
    format!("{rounds:04x}:{offset:08x}")
}

/// The two bytes of flags that `end` sends beside its cursors.
fn flags(end: &End) -> String {
    let bit = |set, mask| if set { mask } else { 0 };
    let producer: u8 = bit(end.wants_space, WRITE_BLOCKED);
    let state: u8 = bit(end.shut, DONE_WRITING) | bit(end.released, CLOSED);
    format!("{producer:02x}:{state:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_addresses_are_cut_in_front_of_the_port() {
        let address = SocketAddr::from(([0xfd00, 1, 2, 3, 4, 5, 6, 7], 43210));
        let columns = Columns::default();
        assert_eq!(columns.address(address), "fd00:1:2:3:4:5:..:43210");
        assert_eq!(Columns { wide: true, ..columns }.address(address), "fd00:1:2:3:4:5:6:7:43210");
    }

    #[test]
    fn addresses_that_fit_stay_whole() {
        let address =
            |text: &str, port| Columns::default().address((text.parse::<std::net::IpAddr>().unwrap(), port).into());
        assert_eq!(address("255.255.255.255", 65535), "255.255.255.255:65535");
        assert_eq!(address("::ffff:127.0.0.1", 65535), "::ffff:127.0.0.1:65535");
        assert_eq!(address("::1", 1), "::1:1");
    }

    #[test]
    fn cursors_count_rounds() {
        assert_eq!(cursor(0, 0x4000), "0000:00000000");
        assert_eq!(cursor(0x4000 * 3 + 5, 0x4000), "0003:00000005");
        assert_eq!(cursor(0x4000 << 16, 0x4000), "0000:00000000");
        assert_eq!(cursor(7, 0), "0000:00000000");
    }
}
