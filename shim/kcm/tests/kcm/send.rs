//! Making messages: facts of the groups `send` and `queue`.

use preloop_kcm::Kind;
use preloop_kcm::errno::{EAGAIN, EFAULT, EMSGSIZE};
use preloop_kcm::receive::MSG_EOR;
use preloop_kcm::send::{MSG_BATCH, MSG_MORE};

use crate::world::World;

const BOTH: [Kind; 2] = [Kind::Dgram, Kind::SeqPacket];

/// Sends each with its flags, and tells what the other end has after each.
fn steps(kind: Kind, sends: &[(&str, i32)]) -> Vec<String> {
    let (mut world, csock, psock) = World::scene(kind);
    sends
        .iter()
        .map(|(bytes, flags)| {
            assert_eq!(world.send(csock, bytes.as_bytes(), *flags), Ok(bytes.len()));
            world.peer(psock)
        })
        .collect()
}

fn send_bad(world: &mut World, csock: preloop_kcm::CsockId, flags: i32) {
    let (mux, mut outside) = world.outside();
    assert_eq!(mux.send(csock, (3, flags), &mut outside, |_| Err(EFAULT)), Err(EFAULT));
    world.settle();
}

#[test]
fn dgram_is_ended_by_a_call_without_more() {
    let sends =
        [("abc", 0), ("de", MSG_EOR), ("f", MSG_MORE), ("g", MSG_EOR | MSG_MORE), ("hi", 0), ("j", MSG_MORE), ("", 0)];
    assert_eq!(steps(Kind::Dgram, &sends), ["abc", "de", "", "", "fghi", "", "j"]);
}

#[test]
fn seqpacket_is_ended_by_eor() {
    let sends =
        [("abc", 0), ("de", MSG_EOR), ("f", MSG_MORE), ("gh", MSG_EOR | MSG_MORE), ("i", 0), ("", 0), ("", MSG_EOR)];
    assert_eq!(steps(Kind::SeqPacket, &sends), ["", "abcde", "", "fgh", "", "", "i"]);
}

#[test]
fn nothing_makes_no_message_but_ends_one_or_flushes() {
    let sends = [("", MSG_EOR), ("a", MSG_BATCH | MSG_EOR), ("", MSG_EOR), ("", MSG_EOR)];
    for kind in BOTH {
        assert_eq!(steps(kind, &sends), ["", "", "a", ""]);
    }
}

#[test]
fn a_batch_waits_for_a_send_without_the_flag() {
    let batch = MSG_BATCH | MSG_EOR;
    let sends = [("ab", batch), ("c", batch), ("d", MSG_MORE), ("e", batch), ("f", MSG_EOR)];
    for kind in BOTH {
        assert_eq!(steps(kind, &sends), ["", "", "", "", "abcdef"]);
    }
    assert_eq!(steps(Kind::SeqPacket, &[("h", MSG_BATCH), ("i", MSG_MORE | MSG_BATCH), ("j", MSG_EOR)])[2], "hij");
}

#[test]
fn a_batch_is_gathered_into_one_write() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    for _ in 0..40 {
        world.send(csock, b"m", MSG_BATCH).expect("there is room");
    }
    world.flushed.clear();
    world.send(csock, b"n", 0).expect("there is room");
    assert_eq!(world.peer(psock).len(), 41);
    assert_eq!(world.tcp.of(psock).writes, 1);
    assert_eq!(world.flushed, [csock]);
}

#[test]
fn only_what_flushes_gives_an_edge() {
    let (mut world, csock, _) = World::scene(Kind::Dgram);
    world.send(csock, b"a", MSG_BATCH).expect("there is room");
    world.send(csock, b"b", MSG_MORE).expect("there is room");
    assert_eq!(world.flushed, []);
    world.send(csock, b"c", 0).expect("there is room");
    assert_eq!(world.flushed, [csock]);
}

#[test]
fn an_open_message_does_not_hold_up_a_clone_and_goes_with_its_socket() {
    for kind in BOTH {
        let (mut world, csock, psock) = World::scene(kind);
        let copy = world.open(kind);
        world.send(csock, b"ab", MSG_MORE).expect("there is room");
        world.send(csock, b"c", MSG_BATCH | MSG_EOR).expect("there is room");
        world.send(csock, b"d", MSG_MORE).expect("there is room");
        world.send(copy, b"X", MSG_EOR).expect("there is room");
        assert_eq!(world.peer(psock), "X");
        world.close(csock);
        world.send(copy, b"Y", MSG_EOR).expect("there is room");
        assert_eq!(world.peer(psock), "Y");
        assert_eq!(world.mux.error(psock), 0);
    }
}

#[test]
fn a_bad_address_forgets_an_open_datagram() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    send_bad(&mut world, csock, 0);
    world.send(csock, b"open", MSG_MORE).expect("there is room");
    send_bad(&mut world, csock, 0);
    world.send(csock, b"end", 0).expect("there is room");
    assert_eq!(world.peer(psock), "end");
}

#[test]
fn a_bad_address_leaves_an_open_seqpacket_message() {
    let (mut world, csock, psock) = World::scene(Kind::SeqPacket);
    send_bad(&mut world, csock, MSG_EOR);
    world.send(csock, b"open", 0).expect("there is room");
    send_bad(&mut world, csock, MSG_EOR);
    world.send(csock, b"end", MSG_EOR).expect("there is room");
    assert_eq!(world.peer(psock), "openend");
}

#[test]
fn messages_queue_until_a_tcp_socket_comes_and_leave_socket_by_socket() {
    for kind in BOTH {
        let mut world = World::new();
        let (first, second) = (world.open(kind), world.open(kind));
        for (csock, bytes) in [(first, b"a"), (second, b"b"), (first, b"c")] {
            assert_eq!(world.send(csock, bytes, MSG_EOR), Ok(1));
        }
        let psock = world.attach();
        assert_eq!(world.peer(psock), "acb");
    }
}

#[test]
fn what_a_closed_socket_had_queued_is_dropped() {
    let mut world = World::new();
    let (first, _) = (world.open(Kind::Dgram), world.open(Kind::Dgram));
    world.send(first, b"lost", 0).expect("there is room");
    world.close(first);
    let psock = world.attach();
    assert_eq!(world.peer(psock), "");
}

#[test]
fn sndbuf_is_looked_at_where_a_message_begins() {
    let mut world = World::new();
    let csock = world.open(Kind::Dgram);
    let (big, copy) = (vec![b'm'; 500_000], world.open(Kind::Dgram));
    assert_eq!(world.send(csock, &big, 0), Ok(big.len()), "a message may be larger");
    assert_eq!(world.send(csock, b"x", 0), Err(EAGAIN));
    assert_eq!(world.send(csock, b"", 0), Err(EAGAIN));
    assert_eq!(world.send(copy, b"clone", 0), Ok(5));
    world.mux.set_send_buffer(copy, 5);
    assert_eq!(world.send(copy, b"x", 0), Err(EAGAIN), "as many as that are enough");
    world.mux.set_send_buffer(copy, 8192);
    let taken = (0..100).take_while(|_| world.send(copy, &[b'm'; 1000], 0).is_ok()).count();
    assert_eq!(taken, 9);
    let open = world.open(Kind::Dgram);
    world.mux.set_send_buffer(open, 8192);
    for _ in 0..50 {
        assert_eq!(world.send(open, &[b'm'; 1000], MSG_MORE), Ok(1000), "an open message may grow");
    }
    assert_eq!(world.send(open, &[b'm'; 1000], 0), Ok(1000));
    assert_eq!(world.send(open, &[b'm'; 1000], 0), Err(EAGAIN));
}

#[test]
fn eagain_flushes_what_was_batched() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.mux.set_send_buffer(csock, 4);
    world.send(csock, b"batch", MSG_BATCH).expect("there is room");
    assert_eq!(world.send(csock, b"x", 0), Err(EAGAIN));
    assert_eq!(world.peer(psock), "batch");
    assert_eq!(world.flushed, [csock]);
    assert_eq!(world.send(csock, b"x", 0), Ok(1));
}

#[test]
fn a_region_limits_messages() {
    let mut world = World::new();
    world.memory.bytes = 100;
    let csock = world.open(Kind::SeqPacket);
    assert_eq!(world.send(csock, &[b'a'; 85], MSG_EOR), Err(EMSGSIZE));
    assert_eq!(world.send(csock, &[b'a'; 50], MSG_EOR), Ok(50));
    assert_eq!(world.send(csock, &[b'b'; 30], 0), Ok(30));
    assert_eq!(world.send(csock, &[b'b'; 30], 0), Err(EAGAIN));
    assert_eq!(world.send(csock, &[b'b'; 55], 0), Err(EMSGSIZE));
    let psock = world.attach();
    assert_eq!(world.peer(psock).len(), 50);
    assert_eq!(world.send(csock, &[b'b'; 30], MSG_EOR), Ok(30));
    assert_eq!(world.peer(psock).len(), 60);
}
