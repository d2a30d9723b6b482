//! The two texts: the facts of the group `proc`, lines as they stand there. `M` is memory, which is the kernel's own.

use preloop_kcm::errno::EPIPE;
use preloop_kcm::proc::{TcpQueues, header, show_statistics};
use preloop_kcm::receive::MSG_EOR;
use preloop_kcm::send::{MSG_BATCH, MSG_MORE};
use preloop_kcm::stats::{MuxStats, PsockStats};
use preloop_kcm::{Kind, PsockId};

use crate::world::{World, message};

const TRANSCRIPT: &str = include_str!("../../../../tests/conformance/kernel-6.1.txt");

/// The text, with memory as the facts have it.
fn table(worlds: &[&World]) -> Vec<String> {
    let mut text = String::new();
    header(&mut text, worlds.len()).expect("strings take all");
    for world in worlds {
        let queues = |psock: PsockId| {
            let received = world.tcp.0[&psock.0].incoming.len() as u32;
            TcpQueues { recv_q: received.min(1), rmem: received, send_q: 0, smem: 1 }
        };
        world.mux.show(&mut text, queues).expect("strings take all");
    }
    text.lines().map(hide_memory).collect()
}

fn hide_memory(line: &str) -> String {
    let socket = line.starts_with("   ");
    match line.get(80..88).map(str::trim_end) {
        Some(memory) if socket && memory != "0" && memory != "-" => format!("{}M       {}", &line[..80], &line[88..]),
        _ => line.to_string(),
    }
}

/// The kernel's lines.
fn facts(name: &str) -> Vec<String> {
    let lines = (0..).map_while(|n| {
        let start = format!("proc.{name}, line {n}: ");
        TRANSCRIPT.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix('|'))
    });
    lines.map(str::to_string).collect()
}

#[test]
fn the_table_is_the_kernels() {
    assert_eq!(table(&[]), facts("formats.none"));
    let mut world = World::new();
    let (first, second) = (world.open(Kind::Dgram), world.open(Kind::Dgram));
    assert_eq!(table(&[&world]), facts("formats.two sockets"));
    let (a, b) = (world.attach(), world.attach());
    assert_eq!(table(&[&world]), facts("formats.two attached"));
    world.disable(second);
    assert_eq!(table(&[&world]), facts("formats.second disabled"));
    world.arrive(a, &message('x', 1));
    world.arrive(b, &message('y', 3));
    assert_eq!(table(&[&world]), facts("formats.messages queued"));
    world.drain(first);
    world.arrive(a, b"\0\0\0\x64abc");
    world.arrive(a, b"def");
    for (csock, bytes, flags) in [(first, &b"hello"[..], 0), (first, b"world!", 0), (second, b"12345", MSG_BATCH)] {
        world.send(csock, bytes, flags).expect("there is room");
    }
    assert_eq!(table(&[&world]), facts("formats.parts and a batch"));
    world.disable(first);
    world.arrive(b, &message('z', 2));
    assert_eq!(table(&[&world]), facts("formats.both disabled"));
    world.mux.tcp_changed(b);
    for _ in 0..2 {
        world.send(first, b"gone", 0).expect("there is room");
    }
    assert_eq!(world.mux.error(b), EPIPE);
    assert_eq!(table(&[&world]), facts("formats.a dead peer"));
    world.unattach(a);
    world.close(second);
    assert_eq!(table(&[&world]), facts("formats.unattached and closed"));
    let mut other = World::new();
    let k = other.open(Kind::SeqPacket);
    other.send(k, b"waits", MSG_EOR).expect("there is room");
    assert_eq!(table(&[&other, &world]), facts("formats.a second mux"));
}

#[test]
fn stopped_and_reserved_psocks_are_shown_as_such() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).answers(&[-5]);
    world.arrive(psock, b"\xff\xff\xff\xfbxx");
    assert_eq!(table(&[&world]), facts("states.parser's error"));
    world.send(csock, b"open", MSG_MORE).expect("there is room");
    assert_eq!(table(&[&world]), facts("states.an open message"));
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).room = 1;
    world.send(csock, b"stalls", 0).expect("there is room");
    let text = table(&[&world]).concat();
    assert!(text.contains("Psck-0 ") && text.contains("Rsvd-0 "), "{text}");
}

fn sums(mux: &MuxStats, psock: &PsockStats) -> Vec<String> {
    let mut text = String::new();
    show_statistics(&mut text, mux, psock).expect("strings take all");
    text.lines().map(str::to_string).collect()
}

#[test]
fn the_sums_are_the_kernels() {
    let fact = |name: &str| {
        let start = format!("proc.statistics.{name}: ");
        TRANSCRIPT.lines().find_map(|line| line.strip_prefix(&start)).expect("the fact is there")
    };
    let (mut world, k, tcp) = World::scene(Kind::Dgram);
    let other = world.attach();
    world.arrive(tcp, &message('a', 6));
    world.arrive(tcp, &message('b', 2));
    world.drain(k);
    for bytes in [b"hello", b"again"] {
        world.send(k, bytes, 0).expect("there is room");
    }
    world.tcp.of(other).answers(&[-5]);
    world.arrive(other, b"\xff\xff\xff\xfbxx");
    world.unattach(tcp);
    let (mux, psock) = world.mux.statistics();
    let lines = sums(&mux, &psock);
    for (n, heading) in [(0, "header 0"), (2, "header 1")] {
        assert_eq!(format!("{}|", lines[n]), fact(heading));
        let values: Vec<&str> = lines[n + 1].split_whitespace().collect();
        assert_eq!(values.join(" "), fact(&format!("added to line {}", n + 1)));
        let form = format!("{} columns start 9", lines[n + 1].len());
        assert_eq!(form, fact(&format!("form of line {}", n + 1)));
    }
}
