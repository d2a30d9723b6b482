//! `kcmss` on muxes that this test makes as the library does, and on memory that only looks like one. The texts themselves
//! are compared with the kernel's in the tests of `preloop-kcm`.

// The helpers of the other test files come along, and not all of them are needed here.
#[allow(dead_code)]
mod common;
#[path = "common/mux.rs"]
mod mux;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Command, Stdio};

use common::{Outcome, outcome};
use mux::Mux;
use preloop_kcm::Kind;
use preloop_kcm::send::MSG_BATCH;
use preloop_uapi::mux::{MUX_MAGIC, REGIONS_OFFSET, STATE_OFFSET};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::io::{FdFlags, fcntl_setfd};

const HEADER: &str = "\
Object         RX-Msgs    RX-Bytes         TX-Msgs    TX-Bytes         Recv-Q   Rmem     Send-Q   Smem     Status
";

fn run(words: &[&str]) -> Outcome {
    outcome(Command::new(env!("CARGO_BIN_EXE_kcmss")).args(words))
}

/// The listing. There may be muxes of other processes in it.
fn listing() -> String {
    let run = run(&[]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let (first, rest) = run.stdout.split_once('\n').unwrap();
    assert!(rest.starts_with(HEADER), "{run:?}");
    let muxes = rest.lines().filter(|line| line.starts_with("mux ")).count();
    assert_eq!(first, format!("*** KCM statistics ({muxes} MUX) ****"));
    rest.to_owned()
}

/// A mux with one csock that sent a message of so many bytes, with no TCP socket: told from others by that number.
fn marked(made_at: u64, bytes: usize) -> (Mux, String) {
    let mut mux = Mux::new(made_at);
    let csock = mux.open(Kind::Dgram);
    mux.send(csock, &vec![0; bytes], 0);
    let line =
        format!("   kcm-0       0          0                1          {bytes:<16} 0        0        1        -  ");
    (mux, line)
}

#[test]
fn texts() {
    let help = run(&["-h"]);
    assert!(help.code == 0 && help.stdout.starts_with("Usage: kcmss [ OPTIONS ]\n"), "{help:?}");
    let version = format!("kcmss utility, preloop-{}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"]), Outcome::new(0, &version, ""));
    let unknown = run(&["-x"]);
    assert!(unknown.code == 1 && unknown.stdout.is_empty() && unknown.stderr.ends_with(&help.stdout), "{unknown:?}");
    assert!(unknown.stderr.starts_with("kcmss: unexpected argument '-x'"), "{unknown:?}");
}

#[test]
fn a_mux_and_its_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    client.write_all(b"\0\x04four\0\x02").unwrap();
    // So many are in its queue then.
    while server.peek(&mut [0; 16]).unwrap() < 8 {}

    let mut mux = Mux::new(1);
    let [first, second] = [mux.open(Kind::Dgram), mux.open(Kind::SeqPacket)];
    mux.send(second, &[0; 5], 0);
    let inode = fs::metadata(format!("/proc/self/fd/{}", server.as_raw_fd())).unwrap().ino();
    let psock = mux.attach(inode);
    mux.arrive(psock, b"\0\x09nine");
    mux.send(first, &[0; 12345], MSG_BATCH);
    let text = "\
mux            0          0                0          0                -        -        -        -        KCMs: 2, Psocks 1
   kcm-0       0          0                1          12345            0        0        1        -        WMore RxWait \n   \
   kcm-1       0          0                0          5                0        0        0        -        RxWait \n   \
   psock-0     0          12               0          0                1        8        0        1        RxWait=5 \n";
    let listing = listing();
    assert!(listing.contains(text), "{listing}\nis without\n{text}");
}

#[test]
fn the_newest_comes_first_and_each_once() {
    let (old, old_line) = marked(5, 20001);
    let (new, new_line) = marked(7, 20002);
    let (middle, middle_line) = marked(6, 20003);
    // A duplicate, another open file of the same memory, and a child that has it too.
    let _duplicate = new.memory.try_clone().unwrap();
    let _again = fs::File::open(format!("/proc/self/fd/{}", middle.memory.as_raw_fd())).unwrap();
    fcntl_setfd(&old.memory, FdFlags::empty()).unwrap();
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let text = listing();
    drop(child.stdin.take());
    child.wait().unwrap();
    let places = [new_line, middle_line, old_line].map(|line| {
        let places: Vec<_> = text.match_indices(&line).map(|(place, _)| place).collect();
        assert_eq!(places.len(), 1, "{line} in\n{text}");
        places[0]
    });
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn a_mux_goes_with_its_last_socket() {
    let (mut mux, line) = marked(8, 20004);
    let other = mux.open(Kind::Dgram);
    mux.close(other);
    assert!(listing().contains(&line));
    mux.close(preloop_kcm::CsockId(0));
    assert!(!listing().contains(&line));
}

#[test]
fn sums() {
    let sums = || {
        let run = run(&["-s"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        let lines: Vec<_> = run.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!((lines.len(), lines[0][0], lines[2][0]), (4, "MUX", "Psock"), "{run:?}");
        let number = |line: usize, column: usize| lines[line][column].parse::<u64>().unwrap();
        // Attach of all muxes; RX-Bytes and RX-NeedMor of all psocks.
        [number(1, 5), number(3, 1), number(3, 10)]
    };
    let mut muxes = [Mux::new(1), Mux::new(2)];
    for mux in &mut muxes {
        mux.open(Kind::Dgram);
        let psocks = [mux.attach(0), mux.attach(0)];
        mux.arrive(psocks[0], &[0, 4, 1, 2, 3, 4, 0]);
    }
    // Other tests, and other processes, have muxes that come and go.
    let [attached, bytes, calls] = sums();
    assert!(attached >= 4 && bytes >= 12 && calls >= 2, "{attached} {bytes} {calls}");
}

#[test]
fn what_only_looks_like_a_mux_is_passed_by() {
    let (good, line) = marked(9, 20005);
    let state = vec![0xff; 1 << 17];
    let magic = MUX_MAGIC.to_ne_bytes();
    let wrong = [&magic[..7], &[0xee]].concat();
    let memories =
        [(&[][..], &[][..]), (&magic, &[]), (&magic, &state[..100]), (&magic, &state), (&wrong, &[0; 1 << 17])];
    let memories = memories.map(|(header, state)| {
        let memory = mux::memory();
        memory.write_all_at(header, 0).unwrap();
        if !state.is_empty() {
            memory.write_all_at(state, STATE_OFFSET as u64).unwrap();
        }
        memory
    });
    let other = memfd::MemfdOptions::default().create("preloop-kcm-else").unwrap().into_file();
    let mut bytes = vec![0; REGIONS_OFFSET];
    good.memory.read_exact_at(&mut bytes, 0).unwrap();
    other.write_all_at(&bytes, 0).unwrap();
    let text = listing();
    assert_eq!(text.matches(&line).count(), 1, "{text}");
    drop((memories, other));
}

/// Ends in time whatever stands in a mux that shows sockets; see also the core's own test of its texts.
#[test]
fn nonsense_in_a_mux_does_no_harm() {
    let (_good, line) = marked(10, 20006);
    let number = prop_oneof![any::<u64>(), Just(u64::MAX), Just(0x0101_0101_0101_0101)];
    let patches = prop::collection::vec((0..REGIONS_OFFSET as u64 / 8, number), 1..40);
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(15) });
    let result = runner.run(&patches, |patches| {
        let mut mux = Mux::new(11);
        mux.open(Kind::Dgram);
        mux.attach(u64::MAX);
        for (place, value) in patches.into_iter().filter(|(place, _)| *place > 0) {
            mux.put(place as usize * 8, value);
        }
        let text = listing();
        prop_assert_eq!(text.matches(&line).count(), 1, "{}", text);
        Ok(())
    });
    result.unwrap();
}
