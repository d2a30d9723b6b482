//! Receiving: facts of the group `receive`.

use preloop_kcm::Kind;
use preloop_kcm::errno::{EAGAIN, EFAULT};
use preloop_kcm::receive::{MSG_EOR, MSG_PEEK, MSG_TRUNC};

use crate::world::{World, message};

fn with_message(kind: Kind) -> (World, preloop_kcm::CsockId) {
    let (mut world, csock, psock) = World::scene(kind);
    world.arrive(psock, &message('a', 4));
    (world, csock)
}

#[test]
fn a_whole_message_ends_with_eor() {
    for kind in [Kind::Dgram, Kind::SeqPacket] {
        for want in [8, 64] {
            let (mut world, csock) = with_message(kind);
            assert_eq!(world.receive(csock, want, 0), Ok((message('a', 4), MSG_EOR)));
            assert_eq!(world.receive(csock, want, 0), Err(EAGAIN));
        }
    }
}

#[test]
fn a_short_read_of_a_datagram_drops_the_rest() {
    for want in [7, 5, 1, 0] {
        let (mut world, csock) = with_message(Kind::Dgram);
        let start = message('a', 4)[..want].to_vec();
        assert_eq!(world.receive(csock, want, 0), Ok((start, MSG_EOR | MSG_TRUNC)));
        assert_eq!(world.receive(csock, 8, 0), Err(EAGAIN));
    }
}

#[test]
fn a_short_read_of_seqpacket_leaves_the_rest() {
    let (mut world, csock) = with_message(Kind::SeqPacket);
    let whole = message('a', 4);
    assert_eq!(world.receive(csock, 0, 0), Ok((vec![], 0)));
    assert_eq!(world.receive(csock, 1, 0), Ok((whole[..1].to_vec(), 0)));
    assert_eq!(world.receive(csock, 4, MSG_PEEK), Ok((whole[1..5].to_vec(), 0)));
    assert_eq!(world.receive(csock, 4, 0), Ok((whole[1..5].to_vec(), 0)));
    assert_eq!(world.receive(csock, 3, 0), Ok((whole[5..].to_vec(), MSG_EOR)));
    assert_eq!(world.receive(csock, 3, 0), Err(EAGAIN));
}

#[test]
fn peeking_sets_no_flags_and_takes_nothing() {
    for kind in [Kind::Dgram, Kind::SeqPacket] {
        let (mut world, csock) = with_message(kind);
        for want in [8, 3, 0] {
            let flags = MSG_PEEK | MSG_TRUNC;
            assert_eq!(world.receive(csock, want, flags), Ok((message('a', 4)[..want].to_vec(), 0)));
        }
        assert_eq!(world.receive(csock, 8, MSG_TRUNC), Ok((message('a', 4), MSG_EOR)));
    }
}

#[test]
fn a_bad_address_loses_the_message() {
    for kind in [Kind::Dgram, Kind::SeqPacket] {
        let (mut world, csock) = with_message(kind);
        let peeked = world.mux.receive(csock, 8, MSG_PEEK, &mut world.memory, |_, _| Err(EFAULT));
        assert_eq!(peeked, Err(EFAULT));
        assert_eq!(world.mux.messages(csock), 1);
        assert_eq!(world.mux.receive(csock, 8, 0, &mut world.memory, |_, _| Err(EFAULT)), Err(EFAULT));
        world.settle();
        assert_eq!(world.receive(csock, 8, 0), Err(EAGAIN));
    }
}

#[test]
fn a_partly_read_message_keeps_its_charge() {
    let (mut world, csock, psock) = World::scene(Kind::SeqPacket);
    world.mux.set_receive_buffer(csock, 1);
    world.arrive(psock, &message('a', 4));
    world.arrive(psock, &message('b', 4));
    assert_eq!(world.mux.messages(csock), 1);
    world.receive(csock, 7, 0).expect("it is there");
    assert_eq!(world.mux.messages(csock), 1);
    world.receive(csock, 1, 0).expect("it is there");
    assert_eq!(world.drain(csock), "b(8)", "an emptied one takes what waits");
}

#[test]
fn hundreds_come_in_order() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    for n in 0..500u32 {
        world.arrive(psock, &[message('q', 4), vec![0, 0, 0, 4], n.to_be_bytes().to_vec()].concat());
    }
    for n in 0..500u32 {
        world.receive(csock, 8, 0).expect("a thousand came");
        assert_eq!(world.receive(csock, 8, 0).expect("a thousand came").0[4..], n.to_be_bytes());
    }
}
