//! Straight from the caller's bytes: the same as through the queue, but for the copy.

use preloop_kcm::errno::{EAGAIN, EFAULT, EIO, EPIPE, Errno};
use preloop_kcm::proc::{TcpQueues, show_statistics};
use preloop_kcm::receive::MSG_EOR;
use preloop_kcm::send::{MSG_BATCH, MSG_MORE};
use preloop_kcm::straight::Source;
use preloop_kcm::{CsockId, Kind, PsockId};
use proptest::prelude::*;

use crate::world::{Wires, World};

#[derive(Debug, Clone)]
enum Op {
    /// By which csock, for which connection or any.
    Send(u8, u64, Vec<u8>, i32),
    PeerReads(u8, usize),
    Fail(u8, Errno),
    Change(u8),
    ReadError(u8),
    Attach,
    Unattach(u8),
    Reopen(u8),
    SendBuffer(u8, u32),
}

/// With messages for one connection nothing fails: their senders are told sooner than through the queue.
fn op(aimed: bool) -> impl Strategy<Value = Op> {
    let flags = prop_oneof![4 => Just(MSG_EOR), 1 => Just(0), 1 => Just(MSG_MORE), 1 => Just(MSG_BATCH | MSG_EOR)];
    let bytes =
        prop_oneof![6 => prop::collection::vec(any::<u8>(), 0..20), 1 => prop::collection::vec(any::<u8>(), 100)];
    let to = if aimed { prop_oneof![2 => Just(0), 1 => 1..4u64].boxed() } else { Just(0).boxed() };
    prop_oneof![
        12 => (0..3u8, to, bytes, flags).prop_map(|(a, b, c, d)| Op::Send(a, b, c, d)),
        4 => (0..3u8, 0..200usize).prop_map(|(a, b)| Op::PeerReads(a, b)),
        u32::from(!aimed) => (0..3u8, prop_oneof![Just(EIO), Just(EPIPE)]).prop_map(|(a, b)| Op::Fail(a, b)),
        1 => (0..3u8).prop_map(Op::Change),
        1 => (0..3u8).prop_map(Op::ReadError),
        2 => Just(Op::Attach),
        1 => (0..3u8).prop_map(Op::Unattach),
        1 => (0..3u8).prop_map(Op::Reopen),
        1 => (0..3u8, 0..100u32).prop_map(|(a, b)| Op::SendBuffer(a, b)),
    ]
}

fn run(world: &mut World, op: &Op) -> Result<usize, Errno> {
    let attached = |psock: &u8| world.mux.psocks().contains(PsockId(*psock));
    match op {
        Op::Send(csock, to, bytes, flags) => return world.send_to(CsockId(*csock), *to, bytes, *flags),
        Op::PeerReads(psock, room) if attached(psock) => {
            world.tcp.of(PsockId(*psock)).room = *room;
            if world.mux.stalled(PsockId(*psock)) {
                let (mux, mut outside) = world.outside();
                mux.writable(PsockId(*psock), &mut outside);
            }
        }
        Op::Fail(psock, error) if attached(psock) => world.tcp.of(PsockId(*psock)).write_error = Some(*error),
        Op::Change(psock) if attached(psock) => world.mux.tcp_changed(PsockId(*psock)),
        Op::ReadError(psock) if attached(psock) => return Err(world.mux.take_error(PsockId(*psock))),
        Op::Attach if !(0..3).all(|psock| attached(&psock)) => {
            let next = world.mux.next_psock().expect("there is a place");
            let psock = world.attach_as(1 + u64::from(next.0));
            world.tcp.of(psock).room = 50;
        }
        Op::Unattach(psock) if attached(psock) => return Err(world.unattach(PsockId(*psock)).1),
        Op::Reopen(csock) => {
            world.close(CsockId(*csock));
            world.open(Kind::SeqPacket);
        }
        Op::SendBuffer(csock, bytes) => world.mux.set_send_buffer(CsockId(*csock), *bytes),
        _ => {}
    }
    world.settle();
    Ok(0)
}

/// All that can be seen of it.
fn text(world: &mut World) -> String {
    let mut text = String::new();
    world.mux.show(&mut text, |_| TcpQueues::default()).expect("strings take all");
    let (mux, psocks) = world.mux.statistics();
    show_statistics(&mut text, &mux, &psocks).expect("strings take all");
    let wires: Vec<&[u8]> = world.tcp.0.values().map(|wire| &wire.written[..]).collect();
    text += &format!("{wires:?}{:?}{:?}", world.flushed, world.posted);
    world.flushed.clear();
    text
}

proptest! {
    #[test]
    fn is_the_same_as_through_the_queue(
        ops in any::<bool>().prop_flat_map(|aimed| prop::collection::vec(op(aimed), 1..100)),
    ) {
        let mut worlds = [World::new(), World::new()];
        worlds[0].straight = true;
        for world in &mut worlds {
            for kind in [Kind::Dgram, Kind::SeqPacket, Kind::Dgram] {
                world.open(kind);
            }
            run(world, &Op::Attach).expect("there is a place");
        }
        for op in ops {
            let [straight, queued] = worlds.each_mut().map(|world| (run(world, &op), text(world)));
            prop_assert_eq!(straight, queued, "{:?}", op);
        }
    }
}

/// A call whose bytes have a bad address behind the first so many.
struct Bad {
    good: usize,
    copies: usize,
}

impl Source<Wires> for Bad {
    fn write(&mut self, psock: PsockId, tcp: &mut Wires) -> Result<usize, Errno> {
        let wire = tcp.of(psock);
        if wire.room == 0 {
            return Err(EAGAIN);
        }
        wire.written.extend(&[b'g'; 64][..self.good]);
        if self.good > 0 { Ok(self.good) } else { Err(EFAULT) }
    }

    fn copy(&mut self, _into: &mut [u8]) -> Result<(), Errno> {
        self.copies += 1;
        Err(EFAULT)
    }
}

#[test]
fn a_bad_address_makes_no_message() {
    for (good, room, copies, written, error) in [(0, 9, 0, "", 0), (0, 0, 1, "", 0), (3, 9, 1, "ggg", EPIPE)] {
        let (mut world, csock, psock) = World::scene(Kind::Dgram);
        world.tcp.of(psock).room = room;
        let mut source = Bad { good, copies: 0 };
        let (mux, mut outside) = world.outside();
        assert_eq!(mux.send_from(csock, 0, (10, 0), &mut outside, &mut source), Err(EFAULT));
        world.settle();
        assert_eq!((source.copies, world.peer(psock), world.mux.error(psock)), (copies, written.into(), error));
        assert_eq!(world.mux.queued(csock), 0);
        world.tcp.of(psock).room = 9;
        assert_eq!(world.send(csock, b"next", 0), Ok(4));
        assert_eq!(world.peer(psock), if error == 0 { "next" } else { "" });
    }
}

#[test]
fn what_tcp_takes_is_not_copied() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    let mut source = Bad { good: 10, copies: 0 };
    let (mux, mut outside) = world.outside();
    assert_eq!(mux.send_from(csock, 0, (10, 0), &mut outside, &mut source), Ok(10));
    assert_eq!((world.peer(psock).len(), source.copies), (10, 0));
}
