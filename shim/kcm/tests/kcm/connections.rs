//! Messages that say which connection they came from, or are to go to.

use preloop_kcm::direct::Sink;
use preloop_kcm::errno::{EAGAIN, EINVAL, EIO, ENOTCONN, EPIPE};
use preloop_kcm::receive::{MSG_EOR, MSG_PEEK, Received};
use preloop_kcm::send::{MSG_BATCH, MSG_MORE};
use preloop_kcm::{CsockId, Kind, PsockId};

use crate::world::{World, message};

/// One csock, and psocks with names from 1 on.
fn scene(kind: Kind, psocks: u64) -> (World, CsockId, Vec<PsockId>) {
    let mut world = World::new();
    let csock = world.open(kind);
    world.mux.set_addresses(csock, true);
    let psocks = (1..=psocks).map(|name| world.attach_as(name)).collect();
    (world, csock, psocks)
}

fn receive(world: &mut World, csock: CsockId, want: usize, flags: i32) -> Option<(usize, u64)> {
    let received = world.mux.receive(csock, want, flags, &mut world.memory, |_, _| Ok(())).ok();
    world.settle();
    received.map(|Received { len, connection, .. }| (len, connection))
}

#[test]
fn a_message_says_where_it_came_from() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 2);
    world.arrive(psocks[1], &message('a', 3));
    world.arrive(psocks[0], &message('b', 4));
    assert_eq!(receive(&mut world, csock, 100, MSG_PEEK), Some((7, 2)));
    assert_eq!(receive(&mut world, csock, 100, 0), Some((7, 2)));
    assert_eq!(receive(&mut world, csock, 2, 0), Some((2, 1)));
}

#[test]
fn so_does_what_a_short_read_left() {
    let (mut world, csock, psocks) = scene(Kind::SeqPacket, 2);
    world.arrive(psocks[1], &message('a', 30));
    assert_eq!(receive(&mut world, csock, 10, 0), Some((10, 2)));
    assert_eq!(receive(&mut world, csock, 100, 0), Some((24, 2)));
}

#[test]
fn so_does_one_that_waited_or_was_handed_on() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 2);
    world.mux.set_receive_buffer(csock, 1);
    for letter in ['a', 'b', 'c'] {
        world.arrive(psocks[1], &message(letter, 1));
    }
    world.disable(csock);
    // The first one is held; the psock waits with the next. Its name outlives it.
    world.unattach(psocks[1]);
    let again = world.attach_as(3);
    assert_eq!(again, psocks[1]);
    let other = world.open(Kind::Dgram);
    world.mux.set_addresses(other, true);
    world.arrive(again, &message('d', 1));
    assert_eq!(receive(&mut world, other, 100, 0), Some((5, 2)));
    assert_eq!(receive(&mut world, other, 100, 0), Some((5, 3)));
}

/// Two buffers and a short one, and the connections of what came into them.
#[derive(Default)]
struct Three(Vec<u64>);

impl Sink for Three {
    fn room(&self) -> Option<usize> {
        [100, 100, 10].get(self.0.len()).copied()
    }

    fn put(&mut self, _: &[u8], received: Received) -> Result<(), i32> {
        self.0.push(received.connection);
        Ok(())
    }
}

/// A message for each of the three.
fn three() -> Vec<u8> {
    [message('a', 1), message('b', 1), message('c', 30)].concat()
}

#[test]
fn so_does_one_that_goes_straight_to_the_caller() {
    let (mut world, csock, psocks) = scene(Kind::SeqPacket, 2);
    world.tcp.of(psocks[1]).incoming.extend(three());
    let mut sink = Three::default();
    world.pull_into(psocks[1], Some(csock), &mut sink);
    assert_eq!(sink.0, [2, 2, 2]);
    assert_eq!(receive(&mut world, csock, 100, 0), Some((24, 2)));
}

#[test]
fn only_those_are_told_who_want_to_know() {
    let mut world = World::new();
    let (csock, other) = (world.open(Kind::SeqPacket), world.open(Kind::SeqPacket));
    let psock = world.attach_as(1);
    world.arrive(psock, &message('a', 1));
    world.mux.set_addresses(csock, true);
    assert_eq!(receive(&mut world, csock, 100, 0), Some((5, 0)), "it was queued before");
    world.arrive(psock, &message('b', 1));
    assert_eq!(receive(&mut world, other, 100, 0), Some((5, 0)));
    world.arrive(psock, &message('c', 1));
    assert_eq!(receive(&mut world, csock, 100, 0), Some((5, 1)));
    world.tcp.of(psock).incoming.extend(three());
    let mut sink = Three::default();
    world.pull_into(psock, Some(other), &mut sink);
    assert_eq!(sink.0, [0, 0, 0]);
    // Another csock, to which the rest of that goes, wants to know.
    world.disable(other);
    assert_eq!(receive(&mut world, csock, 100, 0), Some((24, 1)));
}

#[test]
fn names_take_room_where_somebody_wants_to_know() {
    for (addresses, fit) in [(false, 4), (true, 3)] {
        let mut world = World::new();
        world.memory.bytes = 200;
        let csock = world.open(Kind::Dgram);
        world.mux.set_addresses(csock, addresses);
        let psock = world.attach_as(1);
        (0..6).for_each(|_| world.arrive(psock, &message('a', 36)));
        assert_eq!(world.mux.messages(csock), fit);
        // Those that are waiting come, and so does the longest that a region takes.
        assert_eq!(world.drain(csock), ["a(40)"; 6].join(","));
        world.arrive(psock, &message('b', 180));
        assert_eq!(world.drain(csock), "b(184)");
    }
}

#[test]
fn a_message_goes_where_it_is_to_go() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 3);
    for (to, bytes) in [(3, "a"), (3, "b"), (1, "c"), (2, "d"), (3, "e")] {
        assert_eq!(world.send_to(csock, to, bytes.as_bytes(), 0), Ok(1));
    }
    assert_eq!(psocks.iter().map(|psock| world.peer(*psock)).collect::<Vec<_>>(), ["c", "d", "abe"]);
    // Those for any take turns as ever.
    (0..3).for_each(|_| _ = world.send(csock, b"x", 0));
    assert!(psocks.iter().all(|psock| world.peer(*psock) == "x"));
}

#[test]
fn parts_are_for_the_connection_of_the_first() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 2);
    assert_eq!(world.send_to(csock, 2, b"a", MSG_MORE), Ok(1));
    assert_eq!(world.send_to(csock, 1, b"b", MSG_MORE), Err(EINVAL));
    assert_eq!(world.send(csock, b"c", MSG_MORE), Ok(1));
    assert_eq!(world.send_to(csock, 2, b"d", 0), Ok(1));
    assert_eq!(world.peer(psocks[1]), "acd");
    assert_eq!(world.send(csock, b"e", MSG_MORE), Ok(1));
    assert_eq!(world.send_to(csock, 2, b"f", 0), Err(EINVAL));
    assert_eq!(world.send(csock, b"", 0), Ok(0));
    assert_eq!(world.peer(psocks[0]), "e");
    // A part of nothing begins no message.
    assert_eq!(world.send_to(csock, 1, b"", MSG_MORE), Ok(0));
    assert_eq!(world.send_to(csock, 2, b"g", 0), Ok(1));
    assert_eq!(world.peer(psocks[1]), "g");
}

#[test]
fn connections_that_are_not_there_are_errors() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 2);
    assert_eq!(world.send_to(csock, 7, b"a", 0), Err(ENOTCONN));
    world.mux.tcp_changed(psocks[0]);
    assert_eq!(world.send_to(csock, 1, b"a", 0), Err(EPIPE));
    world.tcp.of(psocks[1]).write_error = Some(EIO);
    assert_eq!(world.send_to(csock, 2, b"a", 0), Ok(1));
    assert_eq!(world.send_to(csock, 2, b"a", 0), Err(EPIPE));
    world.unattach(psocks[1]);
    assert_eq!(world.send_to(csock, 2, b"a", 0), Err(ENOTCONN));
    assert_eq!(world.mux.queued(csock), 0);
}

#[test]
fn straight_to_a_connection_that_fails_is_an_error() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 2);
    world.straight = true;
    world.tcp.of(psocks[0]).write_error = Some(EIO);
    assert_eq!(world.send_to(csock, 1, b"a", 0), Err(EPIPE));
    world.tcp.of(psocks[1]).room = 1;
    assert_eq!(world.send_to(csock, 2, b"bc", 0), Ok(2));
    assert_eq!(world.peer(psocks[1]), "b");
    world.unattach(psocks[1]);
    let third = world.attach_as(3);
    assert_eq!(world.send(csock, b"d", 0), Ok(1));
    assert_eq!(world.peer(third), "d");
}

#[test]
fn a_message_in_the_making_is_forgotten_with_its_connection() {
    for kind in [Kind::Dgram, Kind::SeqPacket] {
        let (mut world, csock, psocks) = scene(kind, 2);
        assert_eq!(world.send_to(csock, 2, b"a", if kind == Kind::Dgram { MSG_MORE } else { 0 }), Ok(1));
        world.unattach(psocks[1]);
        assert_eq!(world.send(csock, b"b", MSG_EOR), Err(ENOTCONN));
        assert_eq!(world.send_to(csock, 1, b"c", MSG_EOR), Ok(1));
        assert_eq!(world.peer(psocks[0]), "c");
        assert_eq!(world.mux.queued(csock), 0);
    }
}

#[test]
fn an_error_flushes_what_was_batched() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 1);
    assert_eq!(world.send_to(csock, 1, b"a", MSG_BATCH), Ok(1));
    assert_eq!(world.send_to(csock, 7, b"b", 0), Err(ENOTCONN));
    assert_eq!(world.peer(psocks[0]), "a");
}

#[test]
fn who_sleeps_behind_a_connection_that_went_away_is_told() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 2);
    let other = world.open(Kind::Dgram);
    world.mux.set_send_buffer(csock, 2);
    world.tcp.of(psocks[0]).room = 1;
    assert_eq!(world.send(other, b"xy", 0), Ok(2));
    assert_eq!(world.send_to(csock, 1, b"aa", 0), Ok(2));
    assert_eq!(world.send_to(csock, 2, b"bb", 0), Err(EAGAIN));
    world.flushed.clear();
    world.unattach(psocks[0]);
    assert!(world.flushed.contains(&csock));
    assert_eq!(world.send_to(csock, 2, b"bb", 0), Ok(2));
    assert!(world.peer(psocks[1]).contains("bb"));
}

#[test]
fn two_that_want_the_same_connection_take_turns() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 1);
    let other = world.open(Kind::Dgram);
    world.tcp.of(psocks[0]).room = 0;
    for _ in 0..3 {
        assert_eq!(world.send_to(csock, 1, b"aa", 0), Ok(2));
        assert_eq!(world.send_to(other, 1, b"bb", 0), Ok(2));
    }
    assert_eq!(world.peer_reads(psocks[0], 3), "aabbaabbaabb");
}

#[test]
fn one_waits_for_its_connection_and_others_behind_it() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 2);
    let other = world.open(Kind::Dgram);
    world.tcp.of(psocks[0]).room = 2;
    assert_eq!(world.send_to(other, 1, b"xyz", 0), Ok(3));
    assert_eq!(world.send_to(csock, 1, b"a", 0), Ok(1));
    assert_eq!(world.send_to(csock, 2, b"b", 0), Ok(1));
    assert_eq!(world.peer(psocks[1]), "");
    // It does not keep who may send on any from the free one.
    let third = world.open(Kind::Dgram);
    assert_eq!(world.send(third, b"t", 0), Ok(1));
    assert_eq!(world.peer(psocks[1]), "t");
    assert_eq!(world.mux.statistics().1.reserved, 2, "who waits is given none that he does not want");
    assert_eq!(world.peer_reads(psocks[0], 100), "xyza");
    assert_eq!(world.peer(psocks[1]), "b");
}

#[test]
fn two_that_want_each_others_connection_do_not_wait_for_ever() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 2);
    let other = world.open(Kind::Dgram);
    psocks.iter().for_each(|psock| world.tcp.of(*psock).room = 1);
    assert_eq!(world.send_to(csock, 1, b"aa", 0), Ok(2));
    assert_eq!(world.send_to(other, 2, b"bb", 0), Ok(2));
    assert_eq!(world.send_to(csock, 2, b"cc", 0), Ok(2));
    assert_eq!(world.send_to(other, 1, b"dd", 0), Ok(2));
    assert_eq!(world.peer_reads(psocks[0], 100), "aa");
    assert_eq!(world.peer_reads(psocks[1], 100), "bbcc");
    assert_eq!(world.peer(psocks[0]), "dd");
}

#[test]
fn what_was_for_a_connection_that_went_away_is_dropped() {
    let (mut world, csock, psocks) = scene(Kind::Dgram, 2);
    let other = world.open(Kind::Dgram);
    world.tcp.of(psocks[0]).room = 1;
    assert_eq!(world.send_to(csock, 1, b"aa", 0), Ok(2));
    assert_eq!(world.send_to(csock, 1, b"bb", 0), Ok(2));
    assert_eq!(world.send(csock, b"cc", 0), Ok(2));
    assert_eq!(world.send_to(other, 1, b"dd", 0), Ok(2));
    assert_eq!(world.send(other, b"ee", 0), Ok(2));
    world.unattach(psocks[0]);
    let mut got = world.peer(psocks[1]).into_bytes();
    got.sort_unstable();
    assert_eq!(got, b"ccee");
    assert_eq!((world.mux.queued(csock), world.mux.queued(other)), (0, 0));
}
