//! Psocks and csocks that are lent while other calls go on: no message is lost, doubled or out of order, and none stays
//! where it is.

use std::collections::BTreeMap;

use preloop_kcm::direct::NoSink;
use preloop_kcm::loan::Loan;
use preloop_kcm::{CsockId, Kind, PsockId};
use proptest::prelude::*;

use crate::world::{Buffers, World, message};

#[derive(Debug, Clone)]
enum Op {
    /// So many messages come, and somebody is told: the pump, or a call on a csock with so many buffers.
    Arrive {
        psock: u8,
        count: u32,
        caller: Option<(u8, usize)>,
    },
    /// A call on a csock with so many buffers borrows it, with a psock or without.
    Borrow {
        psock: Option<u8>,
        csock: u8,
        buffers: usize,
    },
    /// The borrower of one of them reads.
    Read(usize),
    /// He gives it back.
    GiveBack(usize),
    Receive(u8, usize),
    Sleep(u8),
    Wake(u8),
    Send(u8),
    /// These wait until nothing is lent.
    Close(u8),
    /// What the psock has is dealt out before.
    Unattach(u8),
    End(u8),
    Disable(u8),
    Enable(u8),
    ReceiveBuffer(u8, u32),
}

fn op() -> impl Strategy<Value = Op> {
    let (psock, csock) = (|| 0..PSOCKS, || 0..CSOCKS);
    let caller = prop::option::of((csock(), 1..6usize));
    prop_oneof![
        8 => (psock(), 0..12u32, caller).prop_map(|(psock, count, caller)| Op::Arrive { psock, count, caller }),
        8 => (prop::option::of(psock()), csock(), 1..6usize).prop_map(|(psock, csock, buffers)| Op::Borrow { psock, csock, buffers }),
        8 => (0..4usize).prop_map(Op::Read),
        6 => (0..4usize).prop_map(Op::GiveBack),
        8 => (csock(), 1..20usize).prop_map(|(csock, count)| Op::Receive(csock, count)),
        2 => csock().prop_map(Op::Sleep),
        2 => csock().prop_map(Op::Wake),
        1 => csock().prop_map(Op::Send),
        1 => csock().prop_map(Op::Close),
        1 => psock().prop_map(Op::Unattach),
        1 => psock().prop_map(Op::End),
        1 => csock().prop_map(Op::Disable),
        1 => csock().prop_map(Op::Enable),
        1 => (csock(), 1..9000u32).prop_map(|(csock, bytes)| Op::ReceiveBuffer(csock, bytes)),
    ]
}

const PSOCKS: u8 = 3;
const CSOCKS: u8 = 3;

/// A call that has borrowed something.
struct Call {
    csock: CsockId,
    loan: Loan,
    sink: Buffers,
}

#[derive(Default)]
struct Run {
    world: World,
    calls: Vec<Call>,
    /// Messages that have come from each psock.
    made: BTreeMap<u8, u32>,
    /// What each csock has received, in its order: psock, number.
    received: BTreeMap<CsockId, Vec<(u8, u32)>>,
}

impl Run {
    fn new() -> Self {
        let mut run = Self::default();
        for n in 0..CSOCKS {
            run.world.open(if n == 0 { Kind::SeqPacket } else { Kind::Dgram });
        }
        (0..PSOCKS).for_each(|_| _ = run.world.attach());
        run
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Arrive { psock, count, caller } => self.arrive(psock, count, caller),
            Op::Borrow { psock, csock, buffers } => {
                let (psock, csock) = (psock.map(PsockId), CsockId(csock));
                if let Some(loan) = self.world.mux.lend(psock, csock) {
                    self.calls.push(Call { csock, loan, sink: buffers_for(buffers) });
                }
            }
            Op::Read(n) => {
                if let Some(Call { loan, sink, .. }) = self.calls.get_mut(n) {
                    let (_, mut outside) = self.world.outside();
                    loan.receive(sink, outside.memory);
                    loan.read(sink, &mut outside);
                }
            }
            Op::GiveBack(n) => self.give_back(n),
            Op::Receive(csock, count) => self.receive(CsockId(csock), count),
            Op::Sleep(csock) => {
                self.give_back_of(CsockId(csock));
                self.world.mux.reader_sleeps(CsockId(csock));
            }
            Op::Wake(csock) => self.world.mux.reader_woke(CsockId(csock)),
            Op::Send(csock) => _ = self.world.send(CsockId(csock), b"text", preloop_kcm::receive::MSG_EOR),
            Op::Close(csock) => self.close(CsockId(csock)),
            Op::Unattach(psock) => self.unattach(PsockId(psock)),
            Op::End(psock) => self.world.tcp.of(PsockId(psock)).end = Some(Ok(0)),
            Op::Disable(csock) => {
                self.alone();
                // Its messages would go behind later ones of another.
                self.receive(CsockId(csock), usize::MAX);
                self.world.disable(CsockId(csock));
            }
            Op::Enable(csock) => self.alone().enable(CsockId(csock)),
            Op::ReceiveBuffer(csock, bytes) => self.alone().mux.set_receive_buffer(CsockId(csock), bytes),
        }
        self.world.settle();
        // Whoever waits goes before who has something: what no call is about to read comes back.
        for csock in self.world.mux.wanted_back().iter() {
            self.give_back_of(csock);
        }
        assert!(self.world.mux.wanted_back().is_empty());
    }

    /// Its messages would go behind later ones of another.
    fn close(&mut self, csock: CsockId) {
        self.alone();
        self.receive(csock, usize::MAX);
        let kind = if csock.0 == 0 { Kind::SeqPacket } else { Kind::Dgram };
        assert!(!self.world.close(csock));
        assert_eq!(self.world.open(kind), csock);
    }

    /// All that it has is dealt out before, and so nothing is lost.
    fn unattach(&mut self, psock: PsockId) {
        self.alone();
        self.drain();
        assert_eq!(self.world.unattach(psock).0, []);
        assert_eq!(self.world.attach(), psock);
    }

    fn arrive(&mut self, psock: u8, count: u32, caller: Option<(u8, usize)>) {
        if self.world.tcp.of(PsockId(psock)).end.is_some() {
            self.unattach(PsockId(psock));
        }
        let made = self.made.entry(psock).or_default();
        for number in *made..*made + count {
            let mut bytes = message('m', 8 + number % 50);
            bytes[4..8].copy_from_slice(&u32::from(psock).to_be_bytes());
            bytes[8..12].copy_from_slice(&number.to_be_bytes());
            self.world.tcp.of(PsockId(psock)).incoming.extend(bytes);
        }
        *made += count;
        let Some((csock, buffers)) = caller else {
            self.world.pull_into(PsockId(psock), None, &mut NoSink);
            return;
        };
        let (csock, mut sink) = (CsockId(csock), buffers_for(buffers));
        // Such a call has taken what there was.
        self.receive(csock, usize::MAX);
        self.world.pull_into(PsockId(psock), Some(csock), &mut sink);
        self.got(csock, sink);
    }

    fn give_back(&mut self, n: usize) {
        if n < self.calls.len() {
            let Call { csock, loan, sink } = self.calls.remove(n);
            self.world.give_back(loan);
            self.got(csock, sink);
        }
    }

    /// With nothing lent.
    fn alone(&mut self) -> &mut World {
        while !self.calls.is_empty() {
            self.give_back(0);
        }
        assert!(self.world.mux.lent().is_empty());
        &mut self.world
    }

    /// Another call on a csock takes back what the one before has borrowed.
    fn give_back_of(&mut self, csock: CsockId) {
        if let Some(n) = self.calls.iter().position(|call| call.csock == csock) {
            self.give_back(n);
            self.world.settle();
        }
    }

    fn receive(&mut self, csock: CsockId, count: usize) {
        self.give_back_of(csock);
        for _ in 0..count {
            let Ok((bytes, flags)) = self.world.receive(csock, usize::MAX, 0) else { break };
            self.got(csock, Buffers { size: 0, left: 0, got: vec![(bytes, flags)] });
        }
    }

    fn got(&mut self, csock: CsockId, sink: Buffers) {
        for (bytes, _) in sink.got {
            let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
            assert_eq!(bytes.len(), 12 + number(8) as usize % 50);
            self.received.entry(csock).or_default().push((number(4) as u8, number(8)));
        }
    }

    /// All that is left arrives without anybody being told again.
    fn drain(&mut self) {
        (0..CSOCKS).for_each(|csock| self.world.enable(CsockId(csock)));
        loop {
            (0..CSOCKS).for_each(|csock| self.receive(CsockId(csock), usize::MAX));
            let Some(psock) = self.world.mux.unread().iter().next() else { break };
            self.world.pull(psock);
        }
    }

    fn finish(mut self) {
        self.alone();
        self.drain();
        let mut all: Vec<_> = self.received.values().flatten().copied().collect();
        all.sort_unstable();
        let made = self.made.iter().flat_map(|(psock, made)| (0..*made).map(|number| (*psock, number)));
        assert_eq!(all, made.collect::<Vec<_>>());
        for got in self.received.values() {
            for psock in 0..PSOCKS {
                assert!(got.iter().filter(|(from, _)| *from == psock).is_sorted(), "{got:?}");
            }
        }
    }
}

/// So many, each of which takes any message.
fn buffers_for(left: usize) -> Buffers {
    Buffers { size: 1 << 10, left, got: Vec::new() }
}

proptest! {
    #[test]
    fn all_messages_come_once_and_in_order(ops in prop::collection::vec(op(), 1..120)) {
        let mut run = Run::new();
        ops.iter().for_each(|op| run.run(op));
        run.finish();
    }
}

#[test]
fn nothing_is_lent_twice_and_nothing_while_somebody_waits() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let (second, other) = (world.open(Kind::Dgram), world.attach());
    let loan = world.mux.lend(Some(psock), first).expect("it is free");
    assert!(world.mux.lend(Some(psock), second).is_none() && world.mux.lend(Some(other), first).is_none());
    world.arrive(other, &[message('a', 1), message('b', 1)].concat());
    assert_eq!((world.mux.messages(first), world.mux.messages(second)), (0, 2), "it goes past the one that is lent");
    world.give_back(loan);
    world.settle();
    assert!(world.mux.lent().is_empty());
    assert!(world.mux.lend(Some(other), second).is_none(), "the first has nothing");
}

#[test]
fn a_csock_takes_its_messages_along() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.arrive(psock, &[message('a', 1), message('b', 1)].concat());
    let mut loan = world.mux.lend(Some(psock), csock).expect("it is free");
    let mut sink = buffers_for(1);
    loan.receive(&mut sink, &mut world.memory);
    assert!(loan.messages() == 1 && loan.may_go_on() && world.mux.wanted_back().is_empty());
    let other = world.open(Kind::Dgram);
    assert!(!world.mux.wanted_back().is_empty(), "it would get messages first");
    world.disable(other);
    assert!(world.mux.wanted_back().is_empty());
    loan.receive(&mut buffers_for(1), &mut world.memory);
    assert!(!loan.may_go_on());
    world.give_back(loan);
    world.settle();
}

#[test]
fn what_waits_for_a_receiver_comes_to_one_that_is_given_back() {
    let (mut world, first, psock) = World::scene(Kind::Dgram);
    let (second, other) = (world.open(Kind::Dgram), world.attach());
    world.disable(second);
    let loan = world.mux.lend(Some(psock), first).expect("it is free");
    world.arrive(other, &[message('a', 1), message('b', 1)].concat());
    assert_eq!(world.mux.messages(first), 0);
    world.give_back(loan);
    world.settle();
    assert_eq!(world.drain(first), "a(5),b(5)");
}

#[test]
fn who_asks_for_what_is_lent_is_answered_afterwards() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.open(Kind::Dgram);
    let mut loan = world.mux.lend(Some(psock), csock).expect("it is free");
    let mut sink = buffers_for(4);
    loan.read(&mut sink, &mut world.outside().1);
    world.arrive(psock, &message('a', 1));
    assert!(world.mux.unread().is_empty() && world.tcp.of(psock).incoming.len() == 5);
    world.give_back(loan);
    assert!(world.mux.unread().contains(psock));
    world.pull(psock);
    assert_eq!(world.drain(csock), "a(5)");
}

#[test]
fn what_there_is_no_room_for_goes_to_another() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    let other = world.open(Kind::Dgram);
    world.mux.set_receive_buffer(csock, 1300);
    let sent: Vec<u8> = ('a'..='f').flat_map(|letter| message(letter, 60)).collect();
    world.tcp.of(psock).incoming.extend(sent);
    let mut sink = Buffers { size: 64, left: 2, got: Vec::new() };
    assert!(world.read_lent(psock, csock, &mut sink));
    world.settle();
    assert_eq!((sink.got.len(), world.drain(csock)), (2, "c(64)".into()));
    assert_eq!(world.drain(other), "d(64),e(64),f(64)");
}

#[test]
fn an_error_and_the_end_are_told_when_it_is_given_back() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    let (_, other) = (world.open(Kind::Dgram), world.attach());
    world.tcp.of(psock).answers(&[5, -71]);
    world.tcp.of(psock).incoming.extend([message('a', 1), message('b', 1)].concat());
    let mut sink = buffers_for(4);
    assert!(world.read_lent(psock, csock, &mut sink));
    assert_eq!((sink.got.len(), world.mux.error(psock)), (1, 71));
    assert_eq!(world.unattach(psock), (message('b', 1), 71));
    world.tcp.of(other).end = Some(Ok(0));
    assert!(world.read_lent(other, csock, &mut sink));
    assert!(!world.mux.receives(other));
    world.settle();
}
