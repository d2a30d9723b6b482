//! Processes that are killed wherever they call out of the core, and wherever the order of stores matters.

mod open;
mod ops;
mod scramble;
mod sending;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::prelude::*;

use crate::receive::MSG_EOR;
use crate::world::wire::Killed;
use crate::world::{Buffers, Fuse, World};
use crate::{CsockId, Kind, MuxState, PsockId};
use ops::{Op, op};

thread_local! {
    /// What kills this test's processes where the order of stores matters.
    static FUSE: RefCell<Fuse> = RefCell::default();
}

/// Between two stores whose order matters.
pub(super) fn may_be_killed() {
    let fuse = FUSE.with_borrow(Fuse::clone);
    fuse.burn();
}

impl World {
    fn repair(&mut self) {
        let (mux, mut outside) = self.outside();
        mux.repair(&mut outside);
    }
}

/// A message that says what it is.
fn content(source: u32, seq: u32) -> Vec<u8> {
    let len = 12 + (source * 7 + seq * 13) % 50;
    let mut bytes: Vec<u8> = [len - 4, source, seq].iter().flat_map(|n| n.to_be_bytes()).collect();
    bytes.extend((12..len).map(|at| (source + 3 * seq + at) as u8));
    bytes
}

/// Messages at the start of `bytes` with the number of their source, and what is left behind them.
fn parse(mut bytes: &[u8]) -> (Vec<(u32, u32)>, &[u8]) {
    let mut all = Vec::new();
    while bytes.len() >= 12 {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let whole = content(number(4), number(8));
        if bytes.len() < whole.len() {
            break;
        }
        assert_eq!(bytes[..whole.len()], whole, "a message is torn");
        all.push((number(4), number(8)));
        bytes = &bytes[whole.len()..];
    }
    (all, bytes)
}

/// Where messages come from: a psock's other end, or a csock.
#[derive(Default, Clone, Copy)]
struct Stream {
    id: u32,
    made: u32,
    /// Bytes of the next one.
    part: usize,
}

#[derive(Default)]
struct Run {
    world: World,
    streams: BTreeMap<u8, Stream>,
    senders: BTreeMap<u8, Stream>,
    sources: u32,
    received: Vec<(u32, u32)>,
    out: Vec<(u32, u32)>,
    /// The streams that messages are to go to; 0 for those that were refused.
    aims: BTreeMap<(u32, u32), u32>,
    /// Beginnings of messages that the other ends have.
    wires: BTreeMap<u8, Vec<u8>>,
    kills: u32,
    /// Whether TCP tells nobody how far it is.
    silent: bool,
    /// Whether messages say where they came from.
    addresses: bool,
}

impl Run {
    fn new(addresses: bool) -> Self {
        let mut run = Self { addresses, ..Self::default() };
        FUSE.set(run.world.memory.fuse.clone());
        run.run(&Op::Clone(false));
        run.run(&Op::Clone(true));
        run.run(&Op::Attach);
        run.run(&Op::Attach);
        run
    }

    /// Does it, and if its process is killed at the `kill`th call, what the next one does.
    fn run_or_die(&mut self, op: &Op, kill: u32) {
        let fuse = self.world.memory.fuse.0.clone();
        let stopped = self.stopped();
        fuse.set(kill);
        let done = catch_unwind(AssertUnwindSafe(|| self.run(op)));
        fuse.set(0);
        if let Err(cause) = done {
            assert!(cause.is::<Killed>(), "it panicked by itself");
            self.kills += 1;
            // The next one is killed while it repairs.
            fuse.set(kill);
            let repaired = catch_unwind(AssertUnwindSafe(|| self.world.repair()));
            self.kills += u32::from(repaired.is_err());
            fuse.set(0);
            self.repair();
            self.check_stopped(op, &stopped);
        }
    }

    /// Psocks that are stopped in either direction.
    fn stopped(&self) -> [Vec<u8>; 2] {
        let psock = |psock: u8| &self.world.mux.psocks[usize::from(psock)];
        let all = || self.streams.keys().copied();
        [all().filter(|n| psock(*n).strp.stopped()).collect(), all().filter(|n| psock(*n).tx_stopped).collect()]
    }

    /// No kill stops a psock, but one that is left with a part of a message.
    fn check_stopped(&mut self, op: &Op, before: &[Vec<u8>; 2]) {
        self.collect();
        let [receiving, sending] = self.stopped();
        if self.silent || matches!(op, Op::Close(_)) {
            return;
        }
        assert_eq!(receiving, before[0], "a kill stopped receiving");
        for psock in sending.iter().filter(|psock| !before[1].contains(psock)) {
            let torn = self.wires.get(psock).is_some_and(|part| !part.is_empty());
            assert!(self.world.straight && torn, "a kill stopped sending");
        }
    }

    fn repair(&mut self) {
        self.world.repair();
        let once = self.world.mux.clone();
        self.world.repair();
        assert_same(&once, &self.world.mux);
        let (mux, mut outside) = self.world.outside();
        mux.write_stalled(&mut outside);
        let World { mux, tokens, .. } = &mut self.world;
        tokens.retain(|csock| mux.open.contains(*csock));
        // Nobody would end what it had begun.
        for csock in mux.csocks.iter_mut().filter(|csock| csock.open) {
            csock.tx.discard(csock.open_len as usize, csock.open_to);
            (csock.open, csock.open_len, csock.open_to) = (false, 0, 0);
        }
        let (open, attached) = (mux.open, mux.attached);
        self.senders.retain(|csock, _| open.contains(CsockId(*csock)));
        self.streams.retain(|psock, _| attached.contains(PsockId(*psock)));
        // What the killed one was about to close, or had just made, belongs to nobody.
        for csock in open.iter().filter(|id| !self.senders.contains_key(&id.0)).collect::<Vec<_>>() {
            self.world.close(csock);
        }
        for psock in attached.iter().filter(|id| !self.streams.contains_key(&id.0)).collect::<Vec<_>>() {
            let written = std::mem::take(&mut self.world.tcp.of(psock).written);
            self.out.extend(parse(&written).0);
            self.world.unattach(psock);
        }
        self.world.settle();
    }

    fn run(&mut self, op: &Op) {
        let open = |csock: &u8| self.world.mux.open.contains(CsockId(*csock));
        let attached = |psock: &u8| self.world.mux.attached.contains(PsockId(*psock));
        match op {
            Op::Arrive(psock, count, part) if attached(psock) => {
                self.come(*psock, *count, *part);
                self.world.pull(PsockId(*psock));
            }
            Op::ArriveFor(psock, csock, left) if attached(psock) && open(csock) => {
                self.come(*psock, 6, 0);
                if self.world.mux.messages(CsockId(*csock)) == 0 {
                    let mut sink = Buffers { size: 1000, left: *left, got: Vec::new() };
                    let pulled =
                        AssertUnwindSafe(|| self.world.pull_into(PsockId(*psock), Some(CsockId(*csock)), &mut sink));
                    let killed = catch_unwind(pulled).err();
                    for (bytes, _) in sink.got {
                        self.received.extend(parse(&bytes).0);
                    }
                    if let Some(killed) = killed {
                        resume_unwind(killed);
                    }
                    self.world.settle();
                } else {
                    self.world.pull(PsockId(*psock));
                }
            }
            Op::Receive(csock) if open(csock) => _ = self.receive(*csock),
            Op::Disable(csock) if open(csock) => self.world.disable(CsockId(*csock)),
            Op::Enable(csock) if open(csock) => self.world.enable(CsockId(*csock)),
            Op::Clone(seqpacket) if self.senders.len() < 4 => {
                let csock = self.world.open(if *seqpacket { Kind::SeqPacket } else { Kind::Dgram });
                self.world.mux.set_addresses(csock, self.addresses);
                let source = self.source();
                self.senders.insert(csock.0, source);
            }
            Op::Close(csock) if open(csock) && self.senders.len() > 1 => {
                self.senders.remove(csock);
                self.world.close(CsockId(*csock));
            }
            Op::Attach if self.streams.len() < 3 => {
                let source = self.source();
                let psock = self.world.attach_as(source.id.into());
                self.world.tcp.of(psock).room = 500;
                self.world.tcp.of(psock).tells = !self.silent;
                self.streams.insert(psock.0, source);
            }
            Op::Unattach(psock) if attached(psock) => {
                self.forget_stream(*psock);
                self.world.unattach(PsockId(*psock));
            }
            Op::Send(csock, to, flags) if open(csock) => self.send(*csock, *to, *flags),
            Op::PeerReads(psock, room) if attached(psock) => self.peer_reads(*psock, *room),
            Op::ReceiveBuffer(csock, bytes) if open(csock) => {
                self.world.mux.set_receive_buffer(CsockId(*csock), *bytes);
            }
            _ => {}
        }
    }

    fn source(&mut self) -> Stream {
        self.sources += 1;
        Stream { id: self.sources, ..Stream::default() }
    }

    /// The other end sends `count` messages and the beginning of another.
    fn come(&mut self, psock: u8, count: u32, part: usize) {
        let stream = self.streams.get_mut(&psock).expect("it is attached");
        let last = stream.made + count;
        let mut bytes: Vec<u8> = (stream.made..=last).flat_map(|seq| content(stream.id, seq)).collect();
        let whole = bytes.len() - content(stream.id, last).len();
        let end = (whole + part).min(bytes.len() - 1).max(stream.part);
        bytes.truncate(end);
        let new = bytes.split_off(stream.part);
        (stream.made, stream.part) = (last, end - whole);
        self.world.tcp.0.get_mut(&psock).expect("it is attached").incoming.extend(new);
    }

    /// The stream is not looked at any more.
    fn forget_stream(&mut self, psock: u8) {
        self.collect();
        self.wires.remove(&psock);
        self.streams.remove(&psock);
    }

    /// What a call had got when it was killed counts as received.
    fn receive(&mut self, csock: u8) -> bool {
        let World { mux, memory, .. } = &mut self.world;
        let mut bytes = Vec::new();
        let done = catch_unwind(AssertUnwindSafe(|| {
            mux.receive(CsockId(csock), 1000, 0, memory, |from, _| {
                bytes.extend(from);
                Ok(())
            })
        }));
        let (messages, rest) = parse(&bytes);
        assert!(messages.len() <= 1 && rest.is_empty(), "a message is torn");
        let source = messages.first().map_or(0, |message| message.0.into());
        self.received.extend(messages);
        let received = done.unwrap_or_else(|killed| resume_unwind(killed));
        if let Ok(received) = received {
            assert_eq!(received.connection, if self.addresses { source } else { 0 }, "it came from elsewhere");
        }
        self.world.settle();
        received.is_ok()
    }

    /// Lets everything through; each message comes once at most. The answer is how many did not come, though nothing
    /// happened to their connection, and how many of csocks that are open did not leave.
    fn finish(mut self) -> (u32, u32) {
        for csock in self.world.mux.open.iter() {
            self.world.mux.set_receive_buffer(csock, u32::MAX);
            self.world.enable(csock);
        }
        while self.world.mux.open.iter().any(|csock| self.receive(csock.0)) {}
        let ended = |psock: u8| self.world.mux.receiving_ended(PsockId(psock));
        let streams: Vec<Stream> =
            self.streams.iter().filter(|(psock, _)| !ended(**psock)).map(|(_, stream)| *stream).collect();
        let came = |stream: &Stream| self.received.iter().filter(|(id, _)| *id == stream.id).count() as u32;
        let missing = streams.iter().map(|stream| stream.made - came(stream)).sum();
        self.run(&Op::Unattach(2));
        self.run(&Op::Attach);
        for csock in self.world.mux.open.iter() {
            _ = self.world.send(csock, &[], MSG_EOR);
        }
        let attached: Vec<u8> = self.streams.keys().copied().collect();
        attached.iter().for_each(|psock| self.peer_reads(*psock, usize::MAX));
        self.collect();
        for all in [&mut self.received, &mut self.out] {
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "a message came twice");
        }
        (missing, self.stuck())
    }
}

/// But for what is left to do.
fn assert_same(one: &MuxState, other: &MuxState) {
    one.csocks.iter().zip(&other.csocks).for_each(|(one, other)| assert_eq!(one, other));
    one.psocks.iter().zip(&other.psocks).for_each(|(one, other)| assert_eq!(one, other));
    assert_eq!((one.open, one.attached, one.to_write), (other.open, other.attached, other.to_write));
    assert_eq!((one.holding, one.sleeping), (other.holding, other.sleeping));
    assert!(one.receivers.iter().eq(other.receivers.iter()) && one.senders.iter().eq(other.senders.iter()));
    assert!(one.ready.iter().eq(other.ready.iter()) && one.available.iter().eq(other.available.iter()));
    assert_eq!((one.held, one.stats, one.gone, one.named), (other.held, other.stats, other.gone, other.named));
}

/// What operations do and a kill may undo.
fn run(ops: &[(Op, u32)], (straight, addresses): (bool, bool), silent: bool) -> (u32, u32, u32) {
    let mut run = Run::new(addresses);
    run.world.straight = straight;
    run.silent = silent;
    run.world.tcp.0.values_mut().for_each(|wire| wire.tells = !silent);
    for (op, kill) in ops {
        run.run_or_die(op, *kill);
        if *kill == 0 {
            let before = run.world.mux.clone();
            run.world.repair();
            assert_same(&before, &run.world.mux);
            run.world.settle();
        }
        run.collect();
    }
    let kills = run.kills;
    let (missing, stuck) = run.finish();
    (kills, missing, stuck)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn a_whole_state_stays_as_it_is(
        ops in prop::collection::vec(op().prop_map(|op| (op, 0)), 1..60),
        modes in any::<(bool, bool)>(),
    ) {
        prop_assert_eq!(run(&ops, modes, false), (0, 0, 0));
    }

    #[test]
    fn whoever_is_killed_loses_little_and_doubles_nothing(
        ops in prop::collection::vec((op(), prop_oneof![2 => Just(0), 1 => 1..12u32, 1 => 1..80u32]), 1..60),
        modes in any::<(bool, bool)>(),
    ) {
        let (kills, missing, stuck) = run(&ops, modes, false);
        prop_assert!(missing <= kills, "{missing} messages received lost by {kills} kills");
        prop_assert!(stuck <= kills, "{stuck} messages sent lost by {kills} kills");
    }

    #[test]
    fn where_tcp_does_not_tell_a_connection_may_be_stopped(
        ops in prop::collection::vec((op(), prop_oneof![2 => Just(0), 1 => 1..12u32, 1 => 1..80u32]), 1..60),
        modes in any::<(bool, bool)>(),
    ) {
        let (kills, missing, stuck) = run(&ops, modes, true);
        prop_assert!(missing <= kills, "{missing} messages of whole connections lost by {kills} kills");
        prop_assert!(stuck <= 64 * kills, "{stuck} messages lost by {kills} kills");
    }
}
