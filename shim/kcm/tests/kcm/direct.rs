//! Straight into the caller's buffers, with the mux's lock or without it: the same as through the queue, but for the copy.

use preloop_kcm::direct::{NoSink, Sink};
use preloop_kcm::errno::{EFAULT, Errno};
use preloop_kcm::incoming::PEEK_LEAST;
use preloop_kcm::proc::{TcpQueues, show_statistics};
use preloop_kcm::receive::{MSG_EOR, MSG_TRUNC, Received};
use preloop_kcm::{CsockId, Kind, PsockId};
use proptest::prelude::*;

use crate::world::{Buffers, World, message};

type Got = Vec<(Vec<u8>, i32)>;

/// How messages come to their buffers.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Queued,
    Straight,
    Lent,
}

/// Receives into up to `count` buffers.
fn receive(world: &mut World, psock: PsockId, csock: CsockId, (size, count): (usize, usize), way: Way) -> Got {
    let mut sink = Buffers { size, left: count, got: Vec::new() };
    if way == Way::Queued {
        world.pull_into(psock, Some(csock), &mut NoSink);
    } else if way == Way::Straight || world.mux.messages(csock) > 0 || !world.read_lent(psock, csock, &mut sink) {
        // With messages it would go on with the psock although others that have some are before it in the list.
        world.pull_into(psock, Some(csock), &mut sink);
    }
    let mut got = sink.got;
    while got.len() < count {
        let mut bytes = Vec::new();
        let received = world.mux.receive(csock, size, 0, &mut world.memory, |from, _| {
            bytes.extend(from);
            Ok(())
        });
        match received {
            Ok(Received { flags, .. }) => got.push((bytes, flags)),
            Err(_) => break,
        }
    }
    world.settle();
    got
}

fn text(world: &World) -> String {
    let mut text = String::new();
    world.mux.show(&mut text, |_| TcpQueues::default()).expect("strings take all");
    let (mux, psocks) = world.mux.statistics();
    show_statistics(&mut text, &mux, &psocks).expect("strings take all");
    text
}

#[derive(Debug, Clone)]
enum Op {
    /// Messages come while a call waits on a csock with so many buffers of a size.
    Arrive {
        psock: u8,
        lengths: Vec<u32>,
        cut: usize,
        csock: u8,
        size: usize,
        count: usize,
    },
    Drain(u8),
    Disable(u8),
    Enable(u8),
    Sleep(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let lengths = prop::collection::vec(prop_oneof![9 => 0..40u32, 1 => 0..3000u32], 0..12);
    let sizes = prop_oneof![2 => Just(1 << 20), 1 => 0..30usize];
    let arrive = (0..2u8, lengths, 0..8usize, 0..3u8, sizes, 1..20usize);
    prop_oneof![
        8 => arrive.prop_map(|(psock, lengths, cut, csock, size, count)| {
            Op::Arrive { psock, lengths, cut, csock, size, count }
        }),
        1 => (0..3u8).prop_map(Op::Drain),
        1 => (0..3u8).prop_map(Op::Disable),
        2 => (0..3u8).prop_map(Op::Enable),
        1 => (0..3u8).prop_map(Op::Sleep),
    ]
}

proptest! {
    #[test]
    fn is_the_same_as_through_the_queue(ops in prop::collection::vec(op(), 1..60)) {
        let mut worlds = [Way::Queued, Way::Straight, Way::Lent].map(|way| (World::new(), way));
        let mut letters = (b'a'..=b'z').cycle().map(char::from);
        for (world, _) in &mut worlds {
            for kind in [Kind::Dgram, Kind::SeqPacket, Kind::Dgram] {
                // Through the queue they are charged.
                let csock = world.open(kind);
                world.mux.set_receive_buffer(csock, u32::MAX);
            }
            world.attach();
            world.attach();
        }
        for op in ops {
            let bytes: Vec<u8> = match &op {
                Op::Arrive { lengths, .. } => {
                    lengths.iter().flat_map(|len| message(letters.next().expect("a cycle"), *len)).collect()
                }
                _ => Vec::new(),
            };
            let outcomes = worlds.each_mut().map(|(world, way)| {
                let got = match op {
                    Op::Arrive { psock, cut, csock, size, count, .. } => {
                        let psock = PsockId(psock);
                        world.tcp.of(psock).piece = if cut == 0 { 13 } else { usize::MAX };
                        world.tcp.of(psock).incoming.extend(&bytes);
                        // A call that has enough leaves to another one what was not looked at yet.
                        let at_once = cut > 0 && world.tcp.of(psock).incoming.len() <= PEEK_LEAST;
                        // Nor is there enough before all is received: buffers of no bytes would be full before.
                        let (size, count) = if at_once { (size, count) } else { (size.max(30), 10_000) };
                        receive(world, psock, CsockId(csock), (size, count), *way)
                    }
                    Op::Drain(csock) => {
                        let mut all = Got::new();
                        while let Ok(got) = world.receive(CsockId(csock), usize::MAX, 0) {
                            all.push(got);
                        }
                        all
                    }
                    Op::Disable(csock) => { world.disable(CsockId(csock)); Got::new() }
                    Op::Enable(csock) => { world.enable(CsockId(csock)); Got::new() }
                    Op::Sleep(csock) => { world.mux.reader_sleeps(CsockId(csock)); Got::new() }
                };
                (got, text(world))
            });
            prop_assert_eq!(&outcomes[0], &outcomes[1]);
            prop_assert_eq!(&outcomes[0], &outcomes[2]);
        }
    }
}

#[test]
fn nothing_is_queued_when_the_buffers_take_all() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).incoming.extend([message('a', 1), message('b', 1), message('c', 30)].concat());
    let mut sink = Buffers { size: 8, left: 3, got: Vec::new() };
    world.pull_into(psock, Some(csock), &mut sink);
    assert_eq!((sink.got[0].clone(), sink.got[2].1), ((message('a', 1), MSG_EOR), MSG_EOR | MSG_TRUNC));
    let work = world.mux.take_work();
    assert!(work.gained.is_empty() && work.emptied.is_empty(), "no tokens for what was never queued");
    world.arrive(psock, &message('d', 1));
    assert_eq!(world.drain(csock), "d(5)");
}

#[test]
fn what_is_received_straight_takes_no_room_in_the_queue() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.mux.set_receive_buffer(csock, 2304);
    let sent = message('m', 60).repeat(1500);
    world.tcp.of(psock).incoming.extend(&sent);
    let mut sink = Buffers { size: 64, left: 1000, got: Vec::new() };
    world.pull_into(psock, Some(csock), &mut sink);
    assert_eq!((sink.got.len(), world.mux.messages(csock)), (1000, 2));
    assert_eq!(world.tcp.of(psock).incoming.len(), 64 * (1500 - 1002), "another call will come");
    world.pull_into(psock, None, &mut NoSink);
    assert_eq!(world.drain(csock).split(',').count(), 500);
}

#[test]
fn a_call_with_buffers_for_a_whole_batch_gets_it_all() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    let sent = message('m', 60).repeat(10_000);
    world.tcp.of(psock).incoming.extend(&sent);
    let mut sink = Buffers { size: 64, left: usize::MAX, got: Vec::new() };
    assert!(world.pull_into(psock, Some(csock), &mut sink), "there is more");
    assert!(sink.got.len() * 64 >= preloop_kcm::pull::BATCH_BYTES);
    let wire = world.tcp.of(psock);
    assert!(wire.copied < sink.got.len() * 64 + 64 && wire.peeks <= 10, "{} in {} peeks", wire.copied, wire.peeks);
}

#[test]
fn what_does_not_fit_is_queued() {
    let (mut world, csock, psock) = World::scene(Kind::SeqPacket);
    world.tcp.of(psock).incoming.extend([message('a', 4), message('b', 4)].concat());
    let mut sink = Buffers { size: 3, left: 2, got: Vec::new() };
    world.pull_into(psock, Some(csock), &mut sink);
    world.settle();
    assert_eq!(sink.got, [(message('a', 4)[..3].to_vec(), 0), (message('a', 4)[3..6].to_vec(), 0)]);
    assert_eq!(world.receive(csock, 64, 0), Ok((b"aa".to_vec(), MSG_EOR)));
    assert_eq!(world.drain(csock), "b(8)");
}

#[test]
fn a_sleeping_reader_of_another_socket_goes_first_if_it_came_first() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let second = world.open(Kind::Dgram);
    world.mux.reader_sleeps(first);
    world.tcp.of(psock).incoming.extend(message('a', 1));
    let mut sink = Buffers { size: 8, left: 3, got: Vec::new() };
    world.pull_into(psock, Some(second), &mut sink);
    world.settle();
    assert_eq!((sink.got.len(), world.drain(first)), (0, "a(5)".into()));
}

struct Bad {
    left: usize,
}

impl Sink for Bad {
    fn room(&self) -> Option<usize> {
        (self.left > 0).then_some(8)
    }

    fn put(&mut self, _bytes: &[u8], _received: Received) -> Result<(), Errno> {
        self.left -= 1;
        Err(EFAULT)
    }
}

#[test]
fn a_bad_address_loses_the_message() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).incoming.extend([message('a', 1), message('b', 1)].concat());
    world.pull_into(psock, Some(csock), &mut Bad { left: 1 });
    world.settle();
    assert_eq!(world.drain(csock), "b(5)");
}

#[test]
fn one_full_batch_after_the_other_is_hardly_peeked_at_in_vain() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    let sent = message('m', 60).repeat(20_000);
    world.arrive(psock, &sent);
    assert_eq!(world.drain(csock).split(',').count(), 20_000);
    let copied = world.tcp.of(psock).copied;
    assert!(copied < sent.len() * 3 / 2, "{copied} bytes copied of {}", sent.len());
}
