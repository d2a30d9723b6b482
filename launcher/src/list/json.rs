//! The listing for programs: an array with an object for each socket.

use std::io::{self, Write};

use preloop_uapi::decline::Decline;
use preloop_uapi::listing::mode;
use serde::Serialize;

use super::cursors::{End, Ends};
use super::link::Link;
use super::socket::Socket;

#[derive(Serialize)]
struct Row<'a> {
    pid: i32,
    command: &'a str,
    fd: i32,
    state: String,
    uid: u32,
    inode: u64,
    cookie: Option<u64>,
    local: Option<String>,
    peer: Option<String>,
    mode: &'static str,
    decline: Option<Reason>,
    peer_decline: Option<Reason>,
    smcd: Option<Smcd>,
}

/// A decline code, as the table shows it, and in words.
#[derive(Serialize)]
struct Reason {
    code: String,
    text: &'static str,
}

/// What only connections in shared memory have.
#[derive(Serialize)]
struct Smcd {
    gid: String,
    token: String,
    peer_gid: String,
    peer_token: String,
    link: String,
    conn: u32,
    side: u32,
    send_ring: u64,
    receive_ring: u64,
    shut_receive: bool,
    shut_send: bool,
    cursors: Option<Cursors>,
}

/// Stream positions, and what goes with them.
#[derive(Serialize)]
struct Cursors {
    rx_prod: u64,
    rx_cons: u64,
    rx_in_ring: bool,
    rx_blocked: bool,
    tx_prod: u64,
    tx_cons: u64,
    tx_in_ring: bool,
    tx_blocked: bool,
}

/// Prints the array, a socket in each line.
///
/// # Errors
/// Writing failed.
pub fn write<'a>(out: &mut impl Write, sockets: impl Iterator<Item = &'a Socket>, boot: u64) -> io::Result<()> {
    write!(out, "[")?;
    for (index, socket) in sockets.enumerate() {
        write!(out, "{}", if index == 0 { "\n" } else { ",\n" })?;
        serde_json::to_writer(&mut *out, &row(socket, boot))?;
    }
    writeln!(out, "\n]")
}

fn row(socket: &Socket, boot: u64) -> Row<'_> {
    let [local, peer] = [0, 1].map(|end| socket.addresses.map(|addresses| addresses[end].to_string()));
    Row {
        pid: socket.owner.pid,
        command: &socket.owner.command,
        fd: socket.fd,
        state: socket.state.to_string(),
        uid: socket.uid,
        inode: socket.inode,
        cookie: Some(socket.slot.cookie).filter(|cookie| *cookie != 0),
        local,
        peer,
        mode: match socket.slot.mode {
            mode::SMCD => "SMCD",
            mode::TCP => "TCP",
            _ => "UNDECIDED",
        },
        decline: reason(socket.slot.decline),
        peer_decline: reason(socket.slot.peer_decline),
        smcd: socket.is_smcd().then(|| smcd(socket, boot)),
    }
}

fn smcd(socket: &Socket, boot: u64) -> Smcd {
    let link = Link::new(socket, boot);
    let [gid, token, peer_token] = [link.gid, link.token, link.peer_token].map(|name| format!("{name:016x}"));
    let [send_ring, receive_ring] = socket.slot.ring;
    let [shut_receive, shut_send] = socket.shut();
    Smcd {
        peer_gid: gid.clone(),
        gid,
        token,
        peer_token,
        link: format!("{:08x}", link.id),
        conn: socket.slot.conn,
        side: socket.slot.side,
        send_ring,
        receive_ring,
        shut_receive,
        shut_send,
        cursors: socket.ends.map(cursors),
    }
}

fn cursors(Ends { own, peer }: Ends) -> Cursors {
    let End { sent: rx_prod, switched: rx_in_ring, wants_space: rx_blocked, .. } = peer;
    let End { sent: tx_prod, switched: tx_in_ring, wants_space: tx_blocked, .. } = own;
    let (rx_cons, tx_cons) = (own.received, peer.received);
    Cursors { rx_prod, rx_cons, rx_in_ring, rx_blocked, tx_prod, tx_cons, tx_in_ring, tx_blocked }
}

fn reason(code: u32) -> Option<Reason> {
    let decline = Decline(code);
    (decline != Decline::NONE).then(|| Reason { code: format!("0x{code:08x}"), text: decline.meaning() })
}
