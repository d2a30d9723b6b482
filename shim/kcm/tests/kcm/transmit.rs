//! Sending over several TCP sockets, full ones and broken ones: facts of the groups `send`, `queue` and `broken`.

use preloop_kcm::errno::{EAGAIN, EIO, EPIPE};
use preloop_kcm::send::MSG_BATCH;
use preloop_kcm::{Kind, PsockId};

use crate::world::{World, message};

fn text(len: usize) -> String {
    (0..len).map(|n| char::from(b'a' + (n % 23) as u8)).collect()
}

#[test]
fn sends_go_round_in_the_order_of_attaching() {
    let (mut world, csock, first) = World::scene(Kind::Dgram);
    let (second, third) = (world.attach(), world.attach());
    let peers = |world: &mut World| [first, second, third].map(|psock| world.peer(psock));
    for letter in "abcdefg".chars() {
        world.send(csock, letter.to_string().as_bytes(), 0).expect("there is room");
    }
    assert_eq!(peers(&mut world), ["adg", "be", "cf"]);
    for (letter, flags) in [("A", MSG_BATCH), ("B", MSG_BATCH), ("C", MSG_BATCH), ("D", 0), ("1", 0)] {
        world.send(csock, letter.as_bytes(), flags).expect("there is room");
    }
    assert_eq!(peers(&mut world), ["", "ABCD", "1"]);
    let copy = world.open(Kind::Dgram);
    world.send(copy, b"2", 0).expect("there is room");
    assert_eq!(peers(&mut world), ["2", "", ""]);
    world.unattach(second);
    for letter in "34567".chars() {
        world.send(csock, letter.to_string().as_bytes(), 0).expect("there is room");
    }
    assert_eq!([first, third].map(|psock| world.peer(psock)), ["46", "357"]);
    assert_eq!(world.attach(), second);
    for letter in "pqrstu".chars() {
        world.send(csock, letter.to_string().as_bytes(), 0).expect("there is room");
    }
    assert_eq!(peers(&mut world), ["ps", "ru", "qt"]);
}

#[test]
fn a_stalled_message_goes_on_where_it_was() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).room = 1000;
    let (big, copy) = (text(300_000), world.open(Kind::Dgram));
    world.send(csock, big.as_bytes(), 0).expect("it is taken whole");
    assert!(world.mux.stalled(psock));
    assert_eq!(world.send(csock, b"x", 0), Err(EAGAIN));
    assert_eq!(world.send(copy, b"B1", 0), Ok(2));
    assert_eq!(world.send(copy, b"B2", 0), Ok(2));
    world.flushed.clear();
    assert!(world.peer_reads(psock, 7777) == big + "B1B2");
    assert!(world.flushed.contains(&csock));
    assert!(!world.mux.stalled(psock));
    world.send(csock, b"end", 0).expect("there is room");
    assert_eq!(world.peer_reads(psock, 10), "end");
}

#[test]
fn nobody_waits_for_a_stalled_socket_when_another_is_free() {
    let (mut world, csock, stalled) = World::scene(Kind::Dgram);
    world.tcp.of(stalled).room = 10;
    let copy = world.open(Kind::Dgram);
    world.send(csock, text(50).as_bytes(), 0).expect("it is taken whole");
    let free = world.attach();
    for letter in ["x", "y"] {
        world.send(copy, letter.as_bytes(), 0).expect("there is room");
    }
    world.send(csock, b"z", 0).expect("there is room");
    assert_eq!(world.peer(free), "xy");
    assert_eq!(world.peer_reads(stalled, 100), text(50) + "z");
}

#[test]
fn those_that_wait_are_served_first_come_first_served() {
    let mut world = World::new();
    let csocks = [(); 4].map(|()| world.open(Kind::Dgram));
    for (csock, letter) in [(2, "c"), (0, "a"), (3, "d"), (1, "b")] {
        world.send(csocks[csock], letter.as_bytes(), 0).expect("there is room");
    }
    world.close(csocks[3]);
    let psock = world.attach();
    assert_eq!(world.peer(psock), "cab");
}

#[test]
fn closing_in_the_middle_of_a_message_stops_the_psock() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).room = 10;
    let copy = world.open(Kind::Dgram);
    world.send(csock, text(50).as_bytes(), 0).expect("it is taken whole");
    world.send(copy, b"waits", 0).expect("there is room");
    world.close(csock);
    assert_eq!(world.mux.take_error(psock), EPIPE);
    assert_eq!(world.peer_reads(psock, 100), text(10));
    world.send(copy, b"x", 0).expect("there is room");
    assert_eq!(world.peer(psock), "");
    let other = world.attach();
    assert_eq!(world.peer(other), "waitsx");
    world.arrive(psock, &message('r', 3));
    assert_eq!(world.drain(copy), "r(7)", "it receives still");
    world.unattach(psock);
    assert_eq!(world.attach(), psock);
    world.unattach(other);
    world.send(copy, b"again", 0).expect("there is room");
    assert_eq!(world.peer(psock), "again");
}

#[test]
fn unattach_in_the_middle_sends_the_message_whole_on_another() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).room = 10;
    world.send(csock, text(50).as_bytes(), 0).expect("it is taken whole");
    assert_eq!(world.unattach(psock), (vec![], EPIPE));
    let other = world.attach();
    assert_eq!(world.peer(other), text(50));
    let stats = world.mux.statistics().0;
    assert_eq!((stats.unattach, stats.unattach_rsvd, stats.tx_retries), (1, 1, 1));
}

#[test]
fn a_message_whose_psock_fails_goes_whole_to_another() {
    let (mut world, csock, failing) = World::scene(Kind::Dgram);
    let live = world.attach();
    world.tcp.of(failing).room = 10;
    world.send(csock, text(50).as_bytes(), 0).expect("it is taken whole");
    assert_eq!(world.peer(live), "");
    world.tcp.of(failing).write_error = Some(EIO);
    let (mux, mut outside) = world.outside();
    mux.writable(failing, &mut outside);
    world.settle();
    assert_eq!(world.peer(live), text(50));
    assert_eq!(world.mux.error(failing), EPIPE);
    for letter in ["a", "b"] {
        world.send(csock, letter.as_bytes(), 0).expect("there is room");
    }
    assert_eq!(world.peer(live), "ab", "the failed one is not tried again");
}

#[test]
fn messages_before_the_one_that_failed_are_not_sent_again() {
    let (mut world, csock, failing) = World::scene(Kind::Dgram);
    world.tcp.of(failing).room = 5;
    for (bytes, flags) in [("abc", MSG_BATCH), ("def", MSG_BATCH), ("ghi", 0)] {
        world.send(csock, bytes.as_bytes(), flags).expect("there is room");
    }
    assert_eq!(world.peer(failing), "abcde");
    world.unattach(failing);
    let other = world.attach();
    assert_eq!(world.peer(other), "defghi");
}

#[test]
fn an_unread_error_makes_the_next_send_fail() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.mux.tcp_changed(psock);
    assert_eq!(world.send(csock, b"x", 0), Ok(1));
    assert_eq!(world.peer(psock), "");
    assert_eq!((world.mux.take_error(psock), world.mux.take_error(psock)), (EPIPE, 0));
    assert_eq!(world.send(csock, b"y", 0), Ok(1));
    assert_eq!(world.peer(psock), "", "it was taken out");
    let other = world.attach();
    assert_eq!(world.peer(other), "xy");
}

#[test]
fn an_error_that_was_read_does_not() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.mux.tcp_changed(psock);
    assert_eq!(world.mux.take_error(psock), EPIPE);
    assert_eq!(world.send(csock, b"a", 0), Ok(1));
    assert_eq!(world.peer(psock), "a");
}

#[test]
fn sending_goes_on_after_a_parser_error_that_was_read() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.arrive(psock, b"\xff\xff\xff\xf0");
    world.mux.take_error(psock);
    world.send(csock, b"out", 0).expect("there is room");
    assert_eq!(world.peer(psock), "out");
}

#[test]
fn with_every_psock_broken_messages_wait() {
    let (mut world, csock, _) = World::scene(Kind::Dgram);
    world.attach();
    for psock in [0, 1] {
        world.tcp.of(PsockId(psock)).write_error = Some(EPIPE);
    }
    world.send(csock, b"a", 0).expect("there is room");
    world.send(csock, b"b", 0).expect("there is room");
    for psock in [0, 1] {
        assert_eq!(world.mux.error(PsockId(psock)), EPIPE);
        world.unattach(PsockId(psock));
    }
    let psock = world.attach();
    assert_eq!(world.peer(psock), "ab");
}
