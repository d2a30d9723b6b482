//! Steering: facts of the group `steer`, but for the choice among several receivers, which is Preloop's own.

use preloop_kcm::errno::EAGAIN;
use preloop_kcm::receive::MSG_PEEK;
use preloop_kcm::{CsockId, Kind, PsockId};

use crate::world::{World, message};

fn arrive(world: &mut World, psock: PsockId, letters: &str) {
    for letter in letters.chars() {
        world.arrive(psock, &message(letter, 1));
    }
}

fn letters(world: &mut World, csock: CsockId) -> String {
    world.drain(csock).split(',').filter_map(|m| m.chars().next()).collect()
}

#[test]
fn sockets_take_turns_by_batches_when_nobody_reads() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let second = world.open(Kind::Dgram);
    arrive(&mut world, psock, "ABCDEF");
    assert_eq!((letters(&mut world, first), letters(&mut world, second)), ("ACE".into(), "BDF".into()));
    for three in ["abc", "def", "ghi"] {
        let batch: Vec<u8> = three.chars().flat_map(|letter| message(letter, 1)).collect();
        world.arrive(psock, &batch);
    }
    assert_eq!((letters(&mut world, first), letters(&mut world, second)), ("abcghi".into(), "def".into()));
}

#[test]
fn a_sleeping_reader_comes_first() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let second = world.open(Kind::Dgram);
    world.mux.reader_sleeps(second);
    arrive(&mut world, psock, "A");
    assert_eq!(world.mux.messages(second), 1);
    arrive(&mut world, psock, "B");
    assert_eq!(world.mux.messages(first), 1, "a sleeper that has its message is none any more");
    world.mux.reader_woke(second);
    assert_eq!((letters(&mut world, first), letters(&mut world, second)), ("B".into(), "A".into()));
}

#[test]
fn an_empty_socket_comes_before_one_that_holds_a_batch() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let second = world.open(Kind::Dgram);
    arrive(&mut world, psock, "AB");
    assert_eq!(letters(&mut world, second), "B");
    arrive(&mut world, psock, "C");
    assert_eq!(letters(&mut world, second), "C", "although it is the first one's turn");
    assert_eq!(letters(&mut world, first), "A");
}

#[test]
fn a_late_clone_does_not_take_what_others_have() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    arrive(&mut world, psock, "AB");
    let second = world.open(Kind::Dgram);
    assert_eq!((letters(&mut world, first), letters(&mut world, second)), ("AB".into(), String::new()));
}

#[test]
fn a_disabled_socket_gets_nothing() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let second = world.open(Kind::Dgram);
    world.disable(first);
    arrive(&mut world, psock, "ABC");
    assert_eq!((letters(&mut world, first), letters(&mut world, second)), (String::new(), "ABC".into()));
    world.disable(second);
    arrive(&mut world, psock, "DEF");
    assert_eq!(world.tcp.of(psock).incoming.len(), 10, "the psock takes no more than what it waits with");
    world.enable(second);
    assert_eq!((letters(&mut world, first), letters(&mut world, second)), (String::new(), "DEF".into()));
    world.disable(second);
    arrive(&mut world, psock, "G");
    let third = world.open(Kind::Dgram);
    assert_eq!(letters(&mut world, third), "G");
    assert_eq!(world.send(first, b"out", 0), Ok(3));
    assert_eq!(world.peer(psock), "out");
}

#[test]
fn disabling_hands_messages_on_in_order() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    arrive(&mut world, psock, "ABC");
    let second = world.open(Kind::Dgram);
    world.disable(first);
    assert_eq!(world.tokens, [second]);
    assert_eq!((letters(&mut world, first), letters(&mut world, second)), (String::new(), "ABC".into()));
    assert!(world.mux.disabled(first));
}

#[test]
fn closing_hands_messages_on_in_order() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    arrive(&mut world, psock, "ABC");
    let second = world.open(Kind::Dgram);
    assert!(!world.close(first));
    assert_eq!(letters(&mut world, second), "ABC");
    assert!(world.close(second));
}

#[test]
fn messages_for_nobody_are_held_for_the_next() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let second = world.open(Kind::Dgram);
    world.disable(second);
    arrive(&mut world, psock, "ABC");
    world.disable(first);
    assert_eq!(world.receive(first, 8, 0), Err(EAGAIN));
    arrive(&mut world, psock, "D");
    world.enable(second);
    assert_eq!((letters(&mut world, first), letters(&mut world, second)), (String::new(), "ABCD".into()));
    world.disable(second);
    arrive(&mut world, psock, "EF");
    world.enable(first);
    assert_eq!((letters(&mut world, first), letters(&mut world, second)), ("EF".into(), String::new()));
}

#[test]
fn the_last_close_gives_the_tcp_sockets_back() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let second = world.open(Kind::Dgram);
    assert!(!world.close(first));
    arrive(&mut world, psock, "a");
    world.disable(second);
    world.arrive(psock, &[message('b', 1), message('c', 1)].concat());
    assert!(world.close(second));
    assert_eq!(world.unattach(psock), (message('c', 1), 0), "b had been cut, and is lost with a");
    let again = world.open(Kind::Dgram);
    assert_eq!(letters(&mut world, again), "");
}

#[test]
fn held_messages_survive_the_socket_that_had_them() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let second = world.open(Kind::Dgram);
    world.disable(second);
    arrive(&mut world, psock, "AB");
    world.close(first);
    let third = world.open(Kind::Dgram);
    assert_eq!(third, first, "the lowest free index");
    assert_eq!(letters(&mut world, third), "AB");
}

#[test]
fn handed_on_messages_fill_one_socket_before_the_next() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    arrive(&mut world, psock, "ABCDEF");
    let second = world.open(Kind::Dgram);
    let third = world.open(Kind::Dgram);
    world.mux.set_receive_buffer(second, 2304);
    world.disable(first);
    assert_eq!((letters(&mut world, second), letters(&mut world, third)), ("AB".into(), "CDEF".into()));
}

#[test]
fn the_rest_of_a_partly_read_message_moves() {
    let (mut world, first, psock) = World::scene(Kind::SeqPacket);
    world.arrive(psock, &message('P', 4));
    let second = world.open(Kind::SeqPacket);
    world.receive(first, 2, MSG_PEEK).expect("it is there");
    world.receive(first, 3, 0).expect("it is there");
    world.disable(first);
    assert_eq!(world.receive(second, 8, 0).expect("it moved").0, message('P', 4)[3..]);
}

#[test]
fn unattach_loses_the_message_that_nobody_had_room_for() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    world.disable(first);
    world.arrive(psock, &[message('A', 1), message('B', 1)].concat());
    assert_eq!(world.tcp.of(psock).incoming.len(), 5);
    assert_eq!(world.unattach(psock), (message('B', 1), 0));
    world.enable(first);
    assert_eq!(letters(&mut world, first), "");
    assert_eq!(world.mux.statistics().0.rx_ready_drops, 1);
}

#[test]
fn a_full_socket_takes_more_when_less_than_rcvlowat_is_left() {
    for (low_water, has, raw) in [(1, "B", "DEFGH"), (4000, "BC", "EFGH")] {
        let (mut world, csock, psock) = World::scene(Kind::Dgram);
        world.mux.set_receive_buffer(csock, 2304);
        world.mux.set_low_water(csock, low_water);
        arrive(&mut world, psock, "ABCDEFGH");
        world.receive(csock, 64, 0).expect("A is there");
        let rest: Vec<u8> = raw.chars().flat_map(|letter| message(letter, 1)).collect();
        assert_eq!(world.unattach(psock).0, rest);
        assert_eq!(letters(&mut world, csock), has);
    }
}

#[test]
fn what_does_not_fit_one_goes_to_the_other_and_nothing_is_lost() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let second = world.open(Kind::Dgram);
    world.mux.set_receive_buffer(first, 2304);
    for n in 0..40u8 {
        arrive(&mut world, psock, &char::from(b'a' + n % 26).to_string());
    }
    assert_eq!(world.mux.messages(first), 2);
    assert_eq!(world.mux.messages(second), 38);
}

#[test]
fn a_full_socket_holds_the_stream_back() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    for _ in 0..400 {
        arrive(&mut world, psock, "m");
    }
    assert_eq!(world.mux.messages(csock), 166, "the last one begins below SO_RCVBUF");
    assert_eq!(world.drain(csock).split(',').count(), 400);
}

#[test]
fn one_message_of_any_size_is_accepted() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.mux.set_receive_buffer(csock, 2304);
    world.arrive(psock, &message('u', 20000));
    assert_eq!(world.drain(csock), "u(20004)");
}

#[test]
fn a_message_is_steered_when_it_is_whole() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let second = world.open(Kind::Dgram);
    let other = world.attach();
    world.arrive(psock, &message('x', 6)[..6]);
    arrive(&mut world, other, "y");
    world.arrive(psock, b"xxxx");
    assert_eq!((world.drain(first), world.drain(second)), ("y(5)".into(), "x(10)".into()));
}

#[test]
fn places_run_out() {
    let mut world = World::new();
    for n in 0..=255 {
        assert_eq!(world.open(Kind::Dgram), CsockId(n));
    }
    let options = preloop_kcm::members::Options { kind: Kind::Dgram, receive_buffer: 1, send_buffer: 1 };
    assert_eq!(world.mux.open(options, &mut world.memory), Err(preloop_kcm::errno::ENFILE));
    world.close(CsockId(7));
    assert_eq!(world.open(Kind::SeqPacket), CsockId(7));
}
