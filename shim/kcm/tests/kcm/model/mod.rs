//! Random operations on a whole mux, beside a model that knows only lists of messages.

mod inbound;
mod outbound;

use inbound::{Inbound, SPOILT, Stream};
use outbound::{Outbound, Sender};
use preloop_kcm::errno::{EAGAIN, EFAULT, EIO};
use preloop_kcm::receive::{MSG_EOR, MSG_PEEK, MSG_TRUNC};
use preloop_kcm::send::{MSG_BATCH, MSG_MORE};
use preloop_kcm::{CsockId, Kind, PsockId};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::world::{BUFFER, Buffers, World};

#[derive(Debug, Clone)]
enum Op {
    OnCsock(Index, OnCsock),
    OnPsock(Index, OnPsock),
    Clone(Kind),
    Attach,
}

#[derive(Debug, Clone)]
enum OnCsock {
    /// Receive, or peek.
    Receive(usize, bool),
    Drain,
    Disable,
    Enable,
    Sleep,
    Wake,
    ReceiveBuffer(u32),
    Close,
    /// Send a part of a message, which has a length if it is new, with or without MSG_BATCH.
    Send(usize, usize, bool),
    /// Send from a bad address.
    SendBad,
    Flush,
}

#[derive(Debug, Clone)]
enum OnPsock {
    /// The other end makes a message, and so many bytes of what it made come.
    Arrive(usize, usize),
    /// The same, while a call with buffers of its own waits on a csock.
    ArriveFor(Index, usize, usize),
    /// Something comes that is no message.
    Spoil,
    Unattach,
    /// The other end reads, and makes room.
    PeerReads(usize),
    /// Writing fails from now on.
    Fail,
    /// TCP tells of a change, and perhaps the program reads SO_ERROR.
    Change(bool),
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 12..40usize, 1 => 12..5000usize]
}

fn on_csock() -> impl Strategy<Value = OnCsock> {
    prop_oneof![
        6 => (prop_oneof![0..30usize, Just(usize::MAX)], any::<bool>()).prop_map(|(a, b)| OnCsock::Receive(a, b)),
        3 => Just(OnCsock::Drain),
        1 => Just(OnCsock::Disable),
        2 => Just(OnCsock::Enable),
        1 => Just(OnCsock::Sleep),
        1 => Just(OnCsock::Wake),
        1 => (1..6000u32).prop_map(OnCsock::ReceiveBuffer),
        1 => Just(OnCsock::Close),
        8 => (length(), 1..60usize, any::<bool>()).prop_map(|(a, b, c)| OnCsock::Send(a, b, c)),
        1 => Just(OnCsock::SendBad),
        2 => Just(OnCsock::Flush),
    ]
}

fn on_psock() -> impl Strategy<Value = OnPsock> {
    prop_oneof![
        10 => (length(), 1..200usize).prop_map(|(a, b)| OnPsock::Arrive(a, b)),
        3 => (any::<Index>(), length(), 1..200usize).prop_map(|(a, b, c)| OnPsock::ArriveFor(a, b, c)),
        1 => Just(OnPsock::Spoil),
        1 => Just(OnPsock::Unattach),
        4 => (0..300usize).prop_map(OnPsock::PeerReads),
        1 => Just(OnPsock::Fail),
        1 => any::<bool>().prop_map(OnPsock::Change),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (any::<Index>(), on_csock()).prop_map(|(a, b)| Op::OnCsock(a, b)),
        10 => (any::<Index>(), on_psock()).prop_map(|(a, b)| Op::OnPsock(a, b)),
        1 => prop_oneof![Just(Kind::Dgram), Just(Kind::SeqPacket)].prop_map(Op::Clone),
        1 => Just(Op::Attach),
    ]
}

/// SO_SNDBUF of the csocks.
const SEND_BUFFER: usize = 500;

/// A csock, its type, and its number as a sender.
type Csock = (CsockId, Kind, usize);

#[derive(Default)]
struct Model {
    world: World,
    csocks: Vec<Csock>,
    /// Psocks and the numbers of their streams.
    psocks: Vec<(PsockId, usize)>,
    inbound: Inbound,
    outbound: Outbound,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
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
        let (id, world) = (csock.0, &mut self.world);
        match op {
            OnCsock::Receive(want, peek) => _ = self.receive(id, want, peek),
            OnCsock::Drain => while self.receive(id, usize::MAX, false) {},
            OnCsock::Disable => {
                world.disable(id);
                self.inbound.moved();
            }
            OnCsock::Enable => world.enable(id),
            OnCsock::Sleep if world.mux.messages(id) == 0 => world.mux.reader_sleeps(id),
            OnCsock::Sleep | OnCsock::Wake => world.mux.reader_woke(id),
            OnCsock::ReceiveBuffer(bytes) => world.mux.set_receive_buffer(id, bytes),
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

    fn has_open(&self, (.., sender): Csock) -> bool {
        self.outbound.senders[sender].open > 0
    }

    fn open(&mut self, kind: Kind) {
        if self.csocks.len() < 5 {
            let id = self.world.open(kind);
            self.world.mux.set_send_buffer(id, SEND_BUFFER as u32);
            self.csocks.push((id, kind, self.outbound.senders.len()));
            self.outbound.senders.push(Sender::default());
        }
    }

    fn close(&mut self, at: usize) {
        if self.csocks.len() < 2 {
            return;
        }
        let (id, _, sender) = self.csocks.swap_remove(at);
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

    /// Also checks that no busy csock got a batch that an idle one could have had.
    fn arrive(&mut self, (id, number): (PsockId, usize), caller: Option<Csock>, len: usize, n: usize) {
        let stream = &mut self.inbound.streams[number];
        if stream.spoilt {
            return;
        }
        stream.made.push(len);
        let bytes = stream.bytes(number);
        let part = &bytes[stream.arrived..bytes.len().min(stream.arrived + n)];
        stream.arrived += part.len();
        self.world.tcp.of(id).incoming.extend(part);
        let had: Vec<u32> = self.csocks.iter().map(|(id, ..)| self.world.mux.messages(*id)).collect();
        match caller {
            Some((csock, kind, _)) if self.world.mux.messages(csock) == 0 => self.pull_for(id, csock, kind),
            _ => self.world.pull(id),
        }
        let has = |at: usize| self.world.mux.messages(self.csocks[at].0);
        let busy_gained = (0..had.len()).any(|at| had[at] > 0 && has(at) > had[at]);
        let idle = |at: &usize| had[*at] == 0 && has(*at) == 0 && !self.world.mux.disabled(self.csocks[*at].0);
        let idle = (0..had.len()).find(idle);
        assert!(!busy_gained || idle.is_none() || caller.is_some(), "{idle:?} waits");
    }

    fn pull_for(&mut self, id: PsockId, csock: CsockId, kind: Kind) {
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

    fn spoil(&mut self, (id, number): (PsockId, usize)) {
        let stream = &mut self.inbound.streams[number];
        if !stream.spoilt {
            let bytes = stream.bytes(number);
            self.world.tcp.of(id).incoming.extend(&bytes[stream.arrived..]);
            (stream.arrived, stream.spoilt) = (bytes.len(), true);
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
            let kind = self.csocks.iter().find(|(id, ..)| *id == csock).expect("it is open").1;
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
        let (id, kind, sender) = csock;
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
        let (id, kind, sender) = csock;
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
            self.world.mux.set_receive_buffer(csock.0, BUFFER);
            self.world.enable(csock.0);
            if self.has_open(csock) {
                self.send(csock, 0, usize::MAX >> 1, 0);
            }
            _ = self.world.send(csock.0, &[], MSG_EOR);
        }
        while self.csocks.clone().iter().any(|(id, ..)| self.receive(*id, usize::MAX, false)) {}
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
    fn nothing_is_lost_doubled_or_torn(ops in prop::collection::vec(op(), 1..150)) {
        let mut model = Model::default();
        model.open(Kind::Dgram);
        model.attach();
        for op in ops {
            model.run(op);
        }
        model.finish();
    }
}
