//! One socket, with everything that is known of it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use preloop_uapi::listing::mode;
use procfs::net::TcpState;
use rustix::fs::getxattr;

use super::arena::Slot;
use super::cursors::Ends;
use super::processes::Member;
use super::state::State;
use super::tcp::{Tables, namespace};

/// Attribute in which the kernel tells the protocol of a socket.
const PROTOCOL: &str = "system.sockprotoname";

/// A listing whose descriptor is a socket.
#[derive(Debug)]
pub struct Found {
    /// Process that holds it.
    pub owner: Member,
    /// Descriptor in that process.
    pub fd: i32,
    /// Inode of the socket.
    pub inode: u64,
    /// Whether a sibling of the listing's writer holds it: a good guess, but only where no listing is certain.
    pub inherited: bool,
    uid: u32,
    slot: Slot,
}

/// A socket as it is listed.
#[derive(Debug)]
pub struct Socket {
    /// Process that holds it.
    pub owner: Member,
    /// Descriptor in that process.
    pub fd: i32,
    /// Inode of the socket.
    pub inode: u64,
    /// User that made it.
    pub uid: u32,
    /// SMC's state.
    pub state: State,
    /// What TCP says; `None` when the kernel's tables do not have the socket.
    pub tcp: Option<TcpState>,
    /// Local and peer address, once there are any.
    pub addresses: Option<[SocketAddr; 2]>,
    /// Number of its network namespace.
    pub namespace: u64,
    /// Its listing.
    pub slot: Slot,
    /// The ends in shared memory.
    pub ends: Option<Ends>,
}

/// The process and the descriptor behind `slot`: its writer's, or, when that is gone, a sibling's who inherited it.
pub fn find(slot: Slot, members: &[Member]) -> Option<Found> {
    let is_writer = |member: &&Member| member.inner_pid == slot.pid;
    let siblings = members.iter().filter(|member| !is_writer(member));
    let (owner, file) = members.iter().filter(is_writer).chain(siblings).find_map(|member| {
        let file = fs::metadata(descriptor(member.pid, slot.fd)).ok()?;
        file.file_type().is_socket().then(|| (member.clone(), file))
    })?;
    let inherited = owner.inner_pid != slot.pid;
    Some(Found { owner, fd: slot.fd, inode: file.ino(), inherited, uid: file.uid(), slot })
}

fn descriptor(pid: i32, fd: i32) -> String {
    format!("/proc/{pid}/fd/{fd}")
}

/// Whether the descriptor is a TCP socket; asked only where the kernel's tables have no entry to show it.
fn is_tcp(pid: i32, fd: i32) -> bool {
    let mut name = [0; 16];
    let length = getxattr(descriptor(pid, fd), PROTOCOL, &mut name);
    length.is_ok_and(|length| name[..length].starts_with(b"TCP"))
}

impl Socket {
    /// Adds what the kernel's tables and shared memory know. `None` when the descriptor is no TCP socket any more.
    pub fn complete(found: Found, tables: &mut Tables) -> Option<Self> {
        let Found { owner, fd, inode, uid, slot, .. } = found;
        let namespace = namespace(owner.pid);
        let entry = tables.entry(namespace, owner.pid, inode);
        if entry.is_none() && !is_tcp(owner.pid, fd) {
            return None;
        }
        let ends = if slot.mode == mode::SMCD { Ends::read(owner.pid, &slot) } else { None };
        let tcp = entry.map(|entry| entry.state.clone());
        let state = State::new(slot.kind, tcp.as_ref(), ends.as_ref());
        let addresses = entry.map(|entry| [entry.local_address, entry.remote_address]);
        Some(Self { owner, fd, inode, uid, state, tcp, addresses, namespace, slot, ends })
    }

    /// Whether its bytes run, or are about to run, through shared memory.
    pub fn is_smcd(&self) -> bool {
        self.slot.mode == mode::SMCD
    }

    /// Whether receiving and sending have ended.
    pub fn shut(&self) -> [bool; 2] {
        use TcpState::{Close, CloseWait, Closing, FinWait1, FinWait2, LastAck};
        let tcp = |states: &[TcpState]| self.tcp.as_ref().is_none_or(|state| states.contains(state));
        let marked = |mark: fn(&Ends) -> bool| self.ends.as_ref().is_some_and(mark);
        let received = marked(|ends| ends.peer.shut || ends.peer.released);
        let sent = marked(|ends| ends.own.shut);
        [
            received || tcp(&[CloseWait, LastAck, Closing, Close]),
            sent || tcp(&[FinWait1, FinWait2, LastAck, Closing, Close]),
        ]
    }
}
