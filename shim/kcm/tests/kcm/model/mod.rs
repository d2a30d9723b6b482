//! Random operations on a whole mux, beside a model that knows only lists of messages.

mod inbound;
mod ops;
mod outbound;

use inbound::{Inbound, SPOILT, Stream};
use ops::{OnCsock, OnPsock, Op, op};
use outbound::{Outbound, Sender};
use preloop_kcm::errno::{EAGAIN, EFAULT, EIO};
use preloop_kcm::receive::{MSG_EOR, MSG_PEEK, MSG_TRUNC};
use preloop_kcm::send::{MSG_BATCH, MSG_MORE};
use preloop_kcm::{CsockId, Kind, PsockId};
use proptest::prelude::*;

use crate::world::{BUFFER, Buffers, World};

/// SO_SNDBUF of the csocks.
const SEND_BUFFER: usize = 500;

#[derive(Debug, Clone, Copy)]
struct Csock {
    id: CsockId,
    kind: Kind,
    /// Its number as a sender.
    sender: usize,
    sleepers: u32,
}

#[derive(Default)]
struct Model {
    world: World,
    csocks: Vec<Csock>,
    /// Psocks and the numbers of their streams.
    psocks: Vec<(PsockId, usize)>,
    inbound: Inbound,
    outbound: Outbound,
}

impl Model {
    fn run(&mut self, op: Op) {
        match op {
            Op::OnCsock(at, op) if !self.csocks.is_empty() => self.on_csock(at.index(self.csocks.len()), op),
            Op::OnPsock(at, op) if !self.psocks.is_empty() => self.on_psock(at.index(self.psocks.len()), op),
            Op::Clone(kind) => self.open(kind),
            Op::Attach => self.attach(),
            Op::OnCsock(..) | Op::OnPsock(..) => {}
        }
        self.collect();
    }

    fn on_csock(&mut self, at: usize, op: OnCsock) {
        let csock = self.csocks[at];
        let (id, world, sleepers) = (csock.id, &mut self.world, &mut self.csocks[at].sleepers);
        match op {
            OnCsock::Receive(want, peek) => _ = self.receive(id, want, peek),
            OnCsock::Drain => while self.receive(id, usize::MAX, false) {},
            OnCsock::Disable => {
                world.disable(id);
                self.inbound.moved();
            }
            OnCsock::Enable => world.enable(id),
            OnCsock::Sleep => {
                *sleepers += 1;
                world.mux.reader_sleeps(id);
            }
            OnCsock::Wake => {
                *sleepers = sleepers.saturating_sub(1);
                world.mux.reader_woke(id);
            }
            OnCsock::ReceiveBuffer(bytes) => world.mux.set_receive_buffer(id, bytes),
            OnCsock::LowWater(bytes) => world.mux.set_low_water(id, bytes),
            OnCsock::Close => self.close(at),
            OnCsock::Send(len, part, batch) => self.send(csock, len, part, if batch { MSG_BATCH } else { 0 }),
            OnCsock::SendBad => self.send_bad(csock),
            OnCsock::Flush => _ = self.world.send(id, &[], if self.has_open(csock) { MSG_MORE } else { MSG_EOR }),
        }
    }

    fn on_psock(&mut self, at: usize, op: OnPsock) {
        let psock = self.psocks[at];
        match op {
            OnPsock::Arrive(len, n) => self.arrive(psock, None, len, n),
            OnPsock::ArriveFor(at, len, n) => {
                let csock = (!self.csocks.is_empty()).then(|| *at.get(&self.csocks));
                self.arrive(psock, csock, len, n);
            }
            OnPsock::Spoil => self.spoil(psock),
            OnPsock::Unattach => self.unattach(at),
            OnPsock::Expire => self.expire(),
            OnPsock::PeerReads(room) => self.peer_reads(psock, room),
            OnPsock::Fail => {
                self.world.tcp.of(psock.0).write_error = Some(EIO);
                self.outbound.broke(psock.1);
                self.peer_reads(psock, 0);
            }
            OnPsock::Change(read) => {
                self.world.mux.tcp_changed(psock.0);
                if read {
                    self.world.mux.take_error(psock.0);
                } else {
                    self.outbound.broke(psock.1);
                }
                self.world.settle();
            }
        }
    }

    fn has_open(&self, csock: Csock) -> bool {
        self.outbound.senders[csock.sender].open > 0
    }

    fn open(&mut self, kind: Kind) {
        if self.csocks.len() < 5 {
            let id = self.world.open(kind);
            self.world.mux.set_send_buffer(id, SEND_BUFFER as u32);
            self.csocks.push(Csock { id, kind, sender: self.outbound.senders.len(), sleepers: 0 });
            self.outbound.senders.push(Sender::default());
        }
    }

    fn close(&mut self, at: usize) {
        if self.csocks.len() < 2 {
            return;
        }
        let Csock { id, sender, .. } = self.csocks.swap_remove(at);
        let torn: Vec<usize> =
            self.psocks.iter().filter(|(psock, _)| self.world.mux.stalled(*psock)).map(|(_, wire)| *wire).collect();
        assert!(!self.world.close(id));
        torn.into_iter().for_each(|wire| self.outbound.broke(wire));
        self.outbound.senders[sender].closed = true;
        self.inbound.moved();
    }

    fn attach(&mut self) {
        if self.psocks.len() < 4 {
            self.outbound.attached();
            let id = self.world.attach();
            self.world.tcp.of(id).room = 200;
            self.world.tcp.of(id).time = 1000;
            self.psocks.push((id, self.inbound.streams.len()));
            self.inbound.streams.push(Stream::default());
        }
    }

    fn unattach(&mut self, at: usize) {
        self.collect();
        let (id, stream) = self.psocks.swap_remove(at);
        let drops = |world: &World| world.mux.statistics().0.rx_ready_drops;
        let before = drops(&self.world);
        let (unread, _) = self.world.unattach(id);
        self.inbound.unattached(stream, &unread, drops(&self.world) > before);
        self.outbound.broke(stream);
    }

    fn arrive(&mut self, (id, number): (PsockId, usize), caller: Option<Csock>, len: usize, n: usize) {
        let stream = &mut self.inbound.streams[number];
        if stream.spoilt || stream.due.is_some() {
            return;
        }
        stream.made.push(len);
        let bytes = stream.bytes(number);
        let part = &bytes[stream.arrived..bytes.len().min(stream.arrived + n)];
        stream.arrived += part.len();
        self.world.tcp.of(id).incoming.extend(part);
        let had: Vec<u32> = self.csocks.iter().map(|csock| self.world.mux.messages(csock.id)).collect();
        match caller {
            Some(csock) if self.world.mux.messages(csock.id) == 0 => self.pull_for(id, csock),
            _ => self.world.pull(id),
        }
        if caller.is_none() {
            self.check_steering(&had);
        }
    }

    /// Of two csocks the one with the higher need must have got the batch.
    fn check_steering(&self, had: &[u32]) {
        let need = |at: usize| match self.csocks[at].sleepers > had[at] {
            true => 2,
            false => u32::from(had[at] == 0),
        };
        let gained = |at: &usize| self.world.mux.messages(self.csocks[*at].id) > had[*at];
        let enabled = |at: &usize| !self.world.mux.disabled(self.csocks[*at].id);
        let room = |at: &usize| had[*at] == 0;
        let got = (0..had.len()).filter(gained).map(need).min();
        let waits = (0..had.len()).filter(|at| enabled(at) && room(at) && !gained(at)).map(need).max();
        assert!(got.is_none() || waits <= got, "need {waits:?} waits while {got:?} gets: {had:?}");
    }

    fn pull_for(&mut self, id: PsockId, Csock { id: csock, kind, .. }: Csock) {
        // One long enough for what this model sends, or small ones that cut.
        let size = if kind == Kind::Dgram { 1 << 20 } else { 17 };
        let mut sink = Buffers { size, left: 3, got: Vec::new() };
        self.world.pull_into(id, Some(csock), &mut sink);
        let mut whole = Vec::new();
        for (bytes, flags) in sink.got {
            whole.extend(bytes);
            if flags & MSG_EOR != 0 {
                self.inbound.received(csock, &whole, &whole, flags);
                whole.clear();
            }
        }
        self.world.settle();
        if !whole.is_empty() {
            let rest = self.world.receive(csock, usize::MAX, MSG_PEEK).expect("the rest is queued").0;
            self.inbound.received(csock, &[&whole[..], &rest].concat(), &whole, 0);
        }
    }

    /// Exactly the connections that are in the middle of a message, and read, end.
    fn expire(&mut self) {
        self.world.now += 1000;
        let reads: Vec<bool> = self.psocks.iter().map(|(id, _)| self.world.mux.receives(*id)).collect();
        let due = self.world.mux.next_deadline();
        self.world.mux.expire(self.world.now);
        assert_eq!(due.is_some(), self.world.mux.next_deadline() != due, "the deadline that was next is over");
        for ((id, number), read) in self.psocks.iter().zip(reads) {
            let begun = self.inbound.in_the_middle(*number);
            assert_eq!(self.world.mux.receiving_ended(*id) && read, begun && read);
            if begun && read {
                self.inbound.ended(*number);
                self.outbound.broke(*number);
            }
        }
        self.world.settle();
    }

    fn spoil(&mut self, (id, number): (PsockId, usize)) {
        let stream = &mut self.inbound.streams[number];
        if !stream.spoilt && stream.due.is_none() {
            let bytes = stream.bytes(number);
            self.world.tcp.of(id).incoming.extend(&bytes[stream.arrived..]);
            (stream.arrived, stream.spoilt) = (bytes.len(), true);
            // The parser's error is posted, and an unread one makes the next write fail.
            self.outbound.broke(number);
            self.world.arrive(id, &SPOILT);
        }
    }

    fn receive(&mut self, csock: CsockId, want: usize, peek: bool) -> bool {
        let Ok((whole, 0)) = self.world.receive(csock, usize::MAX, MSG_PEEK) else {
            assert_eq!(self.world.receive(csock, want, 0), Err(EAGAIN));
            return false;
        };
        let n = want.min(whole.len());
        let flags = if peek { MSG_PEEK } else { 0 };
        let (got, flags) = self.world.receive(csock, want, flags).expect("it was there a moment ago");
        assert_eq!(got, whole[..n]);
        if !peek {
            let kind = self.csocks.iter().find(|other| other.id == csock).expect("it is open").kind;
            let expected = match kind {
                _ if n == whole.len() => MSG_EOR,
                Kind::Dgram => MSG_EOR | MSG_TRUNC,
                Kind::SeqPacket => 0,
            };
            assert_eq!(flags, expected);
            self.inbound.received(csock, &whole, &got, flags);
        }
        true
    }

    fn send(&mut self, csock: Csock, len: usize, part: usize, batch: i32) {
        let Csock { id, kind, sender, .. } = csock;
        let full = !self.has_open(csock) && self.outbound.queued(sender) >= SEND_BUFFER;
        let (bytes, last) = self.outbound.next_part(sender, len, part);
        let flags = match kind {
            Kind::Dgram if !last => MSG_MORE,
            Kind::SeqPacket if last => MSG_EOR,
            _ => 0,
        };
        let result = self.world.send(id, &bytes, flags | batch);
        if full {
            assert_eq!(result, Err(EAGAIN));
        } else {
            assert_eq!(result, Ok(bytes.len()));
            self.outbound.taken(sender, bytes.len(), last);
        }
    }

    fn send_bad(&mut self, csock: Csock) {
        let Csock { id, kind, sender, .. } = csock;
        let full = !self.has_open(csock) && self.outbound.queued(sender) >= SEND_BUFFER;
        let (mux, mut outside) = self.world.outside();
        let result = mux.send(id, (7, MSG_EOR), &mut outside, |_| Err(EFAULT));
        self.world.settle();
        assert_eq!(result, Err(if full { EAGAIN } else { EFAULT }));
        if kind == Kind::Dgram {
            self.outbound.senders[sender].open = 0;
        }
    }

    fn peer_reads(&mut self, (id, wire): (PsockId, usize), room: usize) {
        let written = std::mem::take(&mut self.world.tcp.of(id).written);
        self.outbound.written(wire, &written);
        self.world.tcp.of(id).room = room;
        if self.world.mux.stalled(id) {
            let (mux, mut outside) = self.world.outside();
            mux.writable(id, &mut outside);
        }
        self.world.settle();
    }

    /// Takes what the other ends have got.
    fn collect(&mut self) {
        for (id, wire) in &self.psocks {
            let written = std::mem::take(&mut self.world.tcp.of(*id).written);
            self.outbound.written(*wire, &written);
        }
    }

    /// Lets everything through, and looks whether it was everything.
    fn finish(mut self) {
        for csock in self.csocks.clone() {
            self.world.mux.set_receive_buffer(csock.id, BUFFER);
            self.world.enable(csock.id);
            if self.has_open(csock) {
                self.send(csock, 0, usize::MAX >> 1, 0);
            }
            _ = self.world.send(csock.id, &[], MSG_EOR);
        }
        while self.csocks.clone().iter().any(|csock| self.receive(csock.id, usize::MAX, false)) {}
        if self.psocks.len() == 4 {
            self.unattach(0);
        }
        self.attach();
        for psock in self.psocks.clone() {
            self.peer_reads(psock, usize::MAX);
        }
        self.collect();
        let (mux, psocks) = self.world.mux.statistics();
        assert_eq!(psocks.rx_msgs, self.inbound.finish() + mux.rx_ready_drops);
        assert_eq!(psocks.tx_msgs, self.outbound.count());
        assert_eq!((mux.tx_msgs, mux.tx_bytes), (psocks.tx_msgs, psocks.tx_bytes));
        assert_eq!(psocks.reserved, psocks.unreserved);
        self.outbound.finish();
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_torn(ops in prop::collection::vec(op(), 1..150), straight: bool) {
        let mut model = Model::default();
        model.world.straight = straight;
        model.open(Kind::Dgram);
        model.attach();
        for op in ops {
            model.run(op);
        }
        model.finish();
    }
}
