//! `smcss` by its contract, on listings that this test shows of its own loopback sockets.

// The helpers of the other test file come along, and not all of them are needed here.
#[path = "common/arena.rs"]
mod arena;
#[allow(dead_code)]
mod common;

use std::io::{BufRead, BufReader};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arena::{Arena, Cursors, Entry, group};
use common::{Outcome, outcome};
use preloop_uapi::listing::{kind, mode};
use rustix::process::{PTracer, getuid, set_ptracer};

const HEADER: &str = "State          UID   Inode   Local Address           Peer Address            Intf Mode ";
const DEBUG: &str = "Shutd Token    Sndbuf   Rcvbuf   Peerbuf  rxprod-Cursor rxcons-Cursor rxFlags txprod-Cursor \
                     txcons-Cursor txFlags txprep-Cursor txsent-Cursor txfin-Cursor  ";
const SMCD: &str = "GID              Token            Peer-GID         Peer-Token       Linkid";

fn run(words: &[&str]) -> Outcome {
    outcome(Command::new(env!("CARGO_BIN_EXE_smcss")).args(words))
}

/// One test at a time: descriptors that another one closes and this one gets would still be in the other's listings.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The header, and the rows of these sockets: there may be preloaded processes besides this one.
fn listed(words: &[&str], sockets: &[u64]) -> (String, Vec<String>) {
    let run = run(words);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let mut lines = run.stdout.lines().map(str::to_owned);
    let header = lines.next().unwrap();
    let rows = lines.filter(|row| sockets.iter().any(|inode| row.split(' ').any(|word| word == format!("{inode:07}"))));
    (header, rows.collect())
}

fn inode(socket: &impl AsRawFd) -> u64 {
    std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino()
}

/// A listener, and a connection to it.
struct Loopback {
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

impl Loopback {
    fn new(address: &str) -> Self {
        // Where a security module restricts who may read whom, the tool may read this process.
        let _ = set_ptracer(PTracer::Any);
        let listener = TcpListener::bind(address).unwrap();
        let to =
            SocketAddr::new(if address.contains("::") { Ipv6Addr::LOCALHOST.into() } else { [127, 0, 0, 1].into() }, 0);
        let client = TcpStream::connect((to.ip(), listener.local_addr().unwrap().port())).unwrap();
        let server = listener.accept().unwrap().0;
        Self { listener, client, server }
    }

    fn inodes(&self) -> [u64; 3] {
        [inode(&self.listener), inode(&self.client), inode(&self.server)]
    }
}

/// A listing of `socket` by this process.
fn entry(socket: &impl AsRawFd, kind: u32, mode: u32) -> Entry {
    Entry { kind, mode, pid: std::process::id(), fd: socket.as_raw_fd(), ..Entry::default() }
}

/// The columns that every connection has.
fn connection(state: &str, inode: u64, socket: &TcpStream) -> String {
    let [local, peer] = [socket.local_addr(), socket.peer_addr()].map(|address| address.unwrap().to_string());
    format!("{state:<14} {:05} {inode:07} {local:<23} {peer:<23} 0000 ", getuid().as_raw())
}

#[test]
fn usage_and_conflicts() {
    let help = run(&["-h"]);
    assert!(help.code == 0 && help.stdout.starts_with("Usage: smcss [ OPTIONS ]\n"), "{help:?}");
    assert_eq!(run(&["--version"]), Outcome::new(0, "smcss utility, smc-tools-1.8.5\n", ""));
    for (words, message) in [
        (["-D", "-R"], "--smcd together with --smcr is not supported"),
        (["-l", "-d"], "--listening together with --debug is not supported"),
        (["-l", "-a"], "--listening together with --all is not supported"),
        (["-lR", "-W"], "--listening together with --smcr is not supported"),
        (["--list", "--smcd"], "--listening together with --smcd is not supported"),
    ] {
        assert_eq!(run(&words), Outcome::new(1, "", &format!("{message}\n{}", help.stdout)));
    }
    let unknown = run(&["-x"]);
    assert!(unknown.code == 1 && unknown.stdout.is_empty() && unknown.stderr.ends_with(&help.stdout), "{unknown:?}");
}

#[test]
fn rows_of_every_kind() {
    let _alone = alone();
    let loopback = Loopback::new("127.0.0.1:0");
    let mut arena = Arena::new();
    let (token, ring) = (0x1122_3344_5566_7788, [0x10000, 0x8000]);
    let ends = [
        Cursors { prod: 0x8005, cons: 0x30003, ..Cursors::default() },
        Cursors { prod: 0x30003, cons: 0x8004, want_space: 1, shut: 0 },
    ];
    let memory = group(3, ends);
    let shared = Entry {
        group: memory.as_ptr() as u64,
        conn: 3,
        side: 1,
        ring,
        token,
        ..entry(&loopback.client, kind::CONNECTION, mode::SMCD)
    };
    let on_tcp = Entry { decline: [0x0301_0000, 0x0500_0000], ..entry(&loopback.server, kind::CONNECTION, mode::TCP) };
    let unbound = unconnected();
    arena.list(0, entry(&loopback.listener, kind::LISTEN, mode::UNDECIDED));
    arena.list(70, shared);
    arena.list(200, on_tcp);
    arena.list(201, entry(&unbound, kind::INIT, mode::UNDECIDED));
    let [listener, client, server] = loopback.inodes();
    let all = [listener, client, server, inode(&unbound)];
    let uid = format!("{:05}", getuid().as_raw());
    let listening = format!("{:<14} {uid} {listener:07} {:<23} ", "LISTEN", loopback.listener.local_addr().unwrap());
    let init = format!("{:<14} {uid} {:07} ", "INIT", all[3]);
    let smcd = connection("ACTIVE", client, &loopback.client) + "SMCD ";
    let tcp = connection("ACTIVE", server, &loopback.server) + "TCP 0x03010000/0x05000000";

    // By descriptor, which follow the order of their creation.
    assert_eq!(listed(&[], &all), (HEADER.into(), sorted(&loopback, [&smcd, &tcp])));
    assert_eq!(listed(&["-l"], &all), (HEADER.into(), vec![listening.clone()]));
    let (_, mut rows) = listed(&["-a", "ignored"], &all);
    rows.sort();
    let mut expected = vec![listening, init, smcd.clone(), tcp];
    expected.sort();
    assert_eq!(rows, expected);
    assert_eq!(listed(&["-R"], &all).1, Vec::<String>::new());

    let debug = " <->  55667407 00010000 00008000 00010000 0001:00000005 0001:00000004 00:00   \
                 0003:00000003 0003:00000003 80:00   0003:00000003 0003:00000003 0003:00000003 ";
    let (header, rows) = listed(&["-dD"], &all);
    assert_eq!(header, [HEADER, DEBUG, SMCD].concat());
    assert_eq!(rows.len(), 1);
    let gid = rows[0].split(' ').nth_back(5).unwrap();
    let names = format!("{gid} 1122334455667407 {gid} 1122334455667406 11223344 ");
    assert_eq!(rows[0], [&smcd, debug, &names].concat());
}

/// The two rows in the order of the descriptors behind them.
fn sorted(loopback: &Loopback, [client, server]: [&String; 2]) -> Vec<String> {
    let mut rows = vec![client.clone(), server.clone()];
    if loopback.server.as_raw_fd() < loopback.client.as_raw_fd() {
        rows.reverse();
    }
    rows
}

/// A TCP socket that was never bound nor connected.
fn unconnected() -> rustix::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketType, socket};
    socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
}

#[test]
fn states_follow_tcp() {
    let _alone = alone();
    let loopback = Loopback::new("127.0.0.1:0");
    let mut arena = Arena::new();
    let [_, client, server] = loopback.inodes();
    arena.list(0, entry(&loopback.client, kind::CONNECTION, mode::UNDECIDED));
    arena.list(1, entry(&loopback.server, kind::CONNECTION, mode::UNDECIDED));
    // TCP may acknowledge a FIN a little later.
    let reach = |expected: [&str; 2]| {
        let deadline = Instant::now() + Duration::from_secs(10);
        let states = || [client, server].map(|inode| listed(&[], &[inode]).1[0].split(' ').next().unwrap().to_owned());
        while states() != expected {
            assert!(Instant::now() < deadline, "{:?} instead of {expected:?}", states());
        }
    };
    reach(["ACTIVE", "ACTIVE"]);
    loopback.client.shutdown(Shutdown::Write).unwrap();
    reach(["PEERCLOSEWAIT2", "APPCLOSEWAIT1"]);
    loopback.server.shutdown(Shutdown::Write).unwrap();
    reach(["CLOSED", "CLOSED"]);
    let closed =
        format!("{:<14} {:05} {client:07} {:<23} {:<23} 0000 ", "CLOSED", getuid().as_raw(), "0.0.0.0:0", "0.0.0.0:0");
    assert_eq!(listed(&["-d"], &[client]).1, [closed]);
}

#[test]
fn sockets_are_listed_once_and_stale_listings_not_at_all() {
    let _alone = alone();
    let loopback = Loopback::new("127.0.0.1:0");
    let [listener, client, server] = loopback.inodes();
    let (mut one, mut other) = (Arena::new(), Arena::new());
    let mut gone = Command::new("true").spawn().unwrap();
    let dead = gone.id();
    gone.wait().unwrap();
    // The writer of this listing is dead, but this process, its sibling, holds the socket.
    one.list(0, Entry { pid: dead, ..entry(&loopback.client, kind::CONNECTION, mode::UNDECIDED) });
    other.list(0, entry(&loopback.client, kind::CONNECTION, mode::TCP));
    other.list(1, Entry { pid: dead, ..entry(&loopback.server, kind::CONNECTION, mode::UNDECIDED) });
    // Descriptors that are no TCP sockets (any more), and a slot that is used but free.
    let file = std::fs::File::open("/dev/null").unwrap();
    let unix = std::os::unix::net::UnixStream::pair().unwrap();
    one.list(1, entry(&file, kind::CONNECTION, mode::UNDECIDED));
    one.list(2, entry(&unix.0, kind::CONNECTION, mode::UNDECIDED));
    one.list(3, Entry { fd: -1, ..entry(&file, kind::CONNECTION, mode::UNDECIDED) });
    one.list(4, entry(&loopback.listener, kind::FREE, mode::UNDECIDED));
    let (_, rows) = listed(&["-a"], &[listener, client, server, inode(&file), inode(&unix.0)]);
    let expected = [
        connection("ACTIVE", client, &loopback.client) + "TCP 0x00000000",
        connection("ACTIVE", server, &loopback.server) + "TCP 0x00000000",
    ];
    assert_eq!(rows, sorted(&loopback, [&expected[0], &expected[1]]));
}

#[test]
fn nonsense_in_shared_memory_does_no_harm() {
    let _alone = alone();
    let loopback = Loopback::new("127.0.0.1:0");
    let client = inode(&loopback.client);
    let mut arena = Arena::new();
    let listing = entry(&loopback.client, kind::CONNECTION, mode::SMCD);
    let zeroes = vec![0u8; 1 << 20];
    for nonsense in [
        Entry { group: u64::MAX - 5, ..listing },
        Entry { group: 4096, conn: u32::MAX, side: u32::MAX, ring: [u64::MAX; 2], token: u64::MAX, ..listing },
        Entry { group: zeroes.as_ptr() as u64, ring: [0, 3], ..listing },
    ] {
        arena.list(5, nonsense);
        let (_, rows) = listed(&["-dD"], &[client]);
        assert!(rows[0].starts_with(&(connection("ACTIVE", client, &loopback.client) + "SMCD  <->  ")), "{rows:?}");
    }
}

#[test]
fn long_addresses_are_cut_unless_wide() {
    let _alone = alone();
    let loopback = Loopback::new("[::]:0");
    let mapped = TcpStream::connect(("127.0.0.1", loopback.listener.local_addr().unwrap().port())).unwrap();
    let server = loopback.listener.accept().unwrap().0;
    let mut arena = Arena::new();
    arena.list(0, entry(&server, kind::CONNECTION, mode::TCP));
    arena.list(1, entry(&loopback.client, kind::CONNECTION, mode::TCP));
    let port = mapped.local_addr().unwrap().port();
    let (_, rows) = listed(&[], &[inode(&server)]);
    assert!(rows[0].contains(&format!(" ::ffff:127.0.0.1:{port} ")), "{rows:?}");
    let (_, rows) = listed(&["-W"], &[inode(&loopback.client)]);
    assert!(rows[0].contains(&format!(" ::1:{} ", loopback.client.local_addr().unwrap().port())), "{rows:?}");
}

#[test]
fn json_tells_everything() {
    let _alone = alone();
    let loopback = Loopback::new("127.0.0.1:0");
    let mut arena = Arena::new();
    let memory = group(
        0,
        [Cursors { prod: 9, cons: 2, ..Cursors::default() }, Cursors { prod: 4, cons: 7, ..Cursors::default() }],
    );
    let shared = entry(&loopback.client, kind::CONNECTION, mode::SMCD);
    arena.list(0, Entry { group: memory.as_ptr() as u64, ring: [16384, 32768], ..shared });
    arena.list(1, Entry { decline: [0x0306_0000, 0], ..entry(&loopback.server, kind::CONNECTION, mode::TCP) });
    let [_, client, server] = loopback.inodes();
    let run = run(&["--json"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let sockets: Vec<serde_json::Value> = serde_json::from_str(&run.stdout).unwrap();
    let socket = |inode: u64| sockets.iter().find(|socket| socket["inode"] == inode).unwrap();
    let [client, server] = [client, server].map(socket);
    assert_eq!(client["pid"], std::process::id());
    assert_eq!(client["local"], loopback.client.local_addr().unwrap().to_string());
    assert_eq!((&client["mode"], &client["state"]), (&"SMCD".into(), &"ACTIVE".into()));
    assert_eq!(client["smcd"]["receive_ring"], 32768);
    let cursors = ["rx_prod", "rx_cons", "tx_prod", "tx_cons"].map(|name| client["smcd"]["cursors"][name].as_u64());
    assert_eq!(cursors, [Some(4), Some(2), Some(9), Some(7)]);
    assert_eq!(server["decline"]["code"], "0x03060000");
    assert!(server["peer_decline"].is_null() && server["smcd"].is_null());
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let _alone = alone();
    let mut arena = Arena::new();
    let sockets: Vec<_> = (0..800).map(|_| unconnected()).collect();
    for (slot, socket) in sockets.iter().enumerate() {
        arena.list(slot, entry(socket, kind::CONNECTION, mode::UNDECIDED));
    }
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_smcss")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim_end_matches('\n'), HEADER);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
