//! Messages for one connection among others: none goes out on another one.

use preloop_kcm::errno::{EIO, EPIPE};
use preloop_kcm::receive::MSG_EOR;
use preloop_kcm::send::MSG_BATCH;
use preloop_kcm::{CsockId, Kind, PsockId};
use proptest::prelude::*;

use crate::world::World;

#[derive(Debug, Clone)]
enum Op {
    /// By which csock, to which psock or any, with or without MSG_BATCH.
    Send(u8, Option<u8>, bool),
    PeerReads(u8, usize),
    Fail(u8),
    /// Another one takes its place.
    Replace(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (0..4u8, prop::option::weighted(0.6, 0..3u8), prop::bool::weighted(0.2))
            .prop_map(|(a, b, c)| Op::Send(a, b, c)),
        8 => (0..3u8, 0..40usize).prop_map(|(a, b)| Op::PeerReads(a, b)),
        1 => (0..3u8).prop_map(Op::Fail),
        1 => (0..3u8).prop_map(Op::Replace),
    ]
}

/// A connection by its name: what its other end got, and whether it came to an end.
#[derive(Default)]
struct Wire {
    got: Vec<u8>,
    over: bool,
}

/// A message of 8 bytes: sender, destination (0 for any), number.
fn content(sender: u8, to: u64, number: u16) -> [u8; 8] {
    let [a, b] = number.to_be_bytes();
    [b'<', sender, to as u8, a, b, b'-', b'-', b'>']
}

struct Run {
    world: World,
    names: Vec<u64>,
    wires: Vec<Wire>,
    sent: Vec<[u8; 8]>,
}

impl Run {
    fn run(&mut self, op: &Op) {
        match *op {
            Op::Send(csock, to, batch) => {
                let name = to.map_or(0, |to| self.names[usize::from(to)]);
                let bytes = content(csock, name, self.sent.len() as u16);
                let flags = MSG_EOR | if batch { MSG_BATCH } else { 0 };
                match self.world.send_to(CsockId(csock), name, &bytes, flags) {
                    Ok(_) => self.sent.push(bytes),
                    Err(EPIPE) => assert!(self.wires[name as usize].over, "it can be sent on"),
                    error => panic!("{error:?}"),
                }
            }
            Op::PeerReads(psock, room) => self.peer_reads(psock, room),
            Op::Fail(psock) => {
                self.world.tcp.of(PsockId(psock)).write_error = Some(EIO);
                self.wires[self.names[usize::from(psock)] as usize].over = true;
                self.peer_reads(psock, 0);
            }
            Op::Replace(psock) => {
                self.collect();
                self.wires[self.names[usize::from(psock)] as usize].over = true;
                self.world.unattach(PsockId(psock));
                self.names[usize::from(psock)] = self.wires.len() as u64;
                self.wires.push(Wire::default());
                assert_eq!(self.world.attach_as(self.names[usize::from(psock)]), PsockId(psock));
            }
        }
        self.collect();
    }

    fn peer_reads(&mut self, psock: u8, room: usize) {
        self.collect();
        let psock = PsockId(psock);
        self.world.tcp.of(psock).room = room;
        let (mux, mut outside) = self.world.outside();
        mux.writable(psock, &mut outside);
        self.world.settle();
    }

    fn collect(&mut self) {
        for (psock, name) in self.names.iter().enumerate() {
            let written = std::mem::take(&mut self.world.tcp.of(PsockId(psock as u8)).written);
            self.wires[*name as usize].got.extend(written);
        }
    }

    /// Everything could leave: what did, is whole, in order, and where it belongs; what did not, was for a connection
    /// that is over.
    fn finish(mut self) {
        (0..3).for_each(|psock| self.run(&Op::Replace(psock)));
        (0..4).for_each(|csock| assert_eq!(self.world.send(CsockId(csock), &[], MSG_EOR), Ok(0)));
        for _ in 0..2 {
            (0..3).for_each(|psock| self.peer_reads(psock, usize::MAX));
        }
        self.collect();
        let mut left = self.sent.clone();
        for (name, Wire { got, over }) in self.wires.iter().enumerate() {
            let (messages, rest) = got.as_chunks::<8>();
            assert!(rest.is_empty() || *over);
            for (n, message) in messages.iter().enumerate() {
                assert!([0, name as u8].contains(&message[2]), "{message:?} came on {name}");
                let at = left.iter().position(|other| other == message).expect("it was sent, and comes once");
                left.remove(at);
                let number = |message: &[u8; 8]| [message[3], message[4]];
                let mut earlier = messages[..n].iter().filter(|other| other[1] == message[1]);
                assert!(earlier.all(|other| number(other) < number(message)), "out of order");
            }
        }
        assert!(left.iter().all(|message| message[2] != 0 && self.wires[usize::from(message[2])].over), "{left:?}");
        (0..4).for_each(|csock| assert_eq!(self.world.mux.queued(CsockId(csock)), 0));
        let (_, psocks) = self.world.mux.statistics();
        assert_eq!(psocks.reserved, psocks.unreserved);
    }
}

proptest! {
    #[test]
    fn none_goes_astray(ops in prop::collection::vec(op(), 1..120), straight: bool) {
        let mut world = World { straight, ..World::new() };
        (0..4).for_each(|n| _ = world.open(if n % 2 == 0 { Kind::Dgram } else { Kind::SeqPacket }));
        let names = vec![1, 2, 3];
        names.iter().for_each(|name| _ = world.attach_as(*name));
        (0..3).for_each(|psock| world.tcp.of(PsockId(psock)).room = 20);
        let wires = (0..4).map(|_| Wire::default()).collect();
        let mut run = Run { world, names, wires, sent: Vec::new() };
        ops.iter().for_each(|op| run.run(op));
        run.finish();
    }
}
