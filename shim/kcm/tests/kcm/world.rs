//! A mux with memory and TCP sockets that are vectors, and its descriptors as they would poll.

// Named, since the core's own tests take this file in from elsewhere.
#[path = "wire.rs"]
pub mod wire;

use std::collections::BTreeMap;

use preloop_kcm::direct::{NoSink, Sink};
use preloop_kcm::errno::Errno;
use preloop_kcm::loan::Loan;
use preloop_kcm::members::{Detached, Options};
use preloop_kcm::outside::Outside;
use preloop_kcm::pull::Caller;
use preloop_kcm::receive::Received;
use preloop_kcm::straight::Slices;
use preloop_kcm::{CsockId, Kind, MuxState, PsockId};
use wire::REGION;

pub use wire::{Fuse, Memory, Wire, Wires};

/// SO_RCVBUF and SO_SNDBUF as they are by default.
pub const BUFFER: u32 = 212_992;

/// Buffers of one size.
pub struct Buffers {
    pub size: usize,
    pub left: usize,
    pub got: Vec<(Vec<u8>, i32)>,
}

impl Sink for Buffers {
    fn room(&self) -> Option<usize> {
        (self.left > 0).then_some(self.size)
    }

    fn left(&self) -> usize {
        self.left
    }

    fn put(&mut self, bytes: &[u8], received: Received) -> Result<(), Errno> {
        assert_eq!(bytes.len(), received.len);
        self.left -= 1;
        self.got.push((bytes.to_vec(), received.flags));
        Ok(())
    }
}

pub struct World {
    pub mux: Box<MuxState>,
    pub memory: Memory,
    pub tcp: Wires,
    pub now: u64,
    /// Whether it sends from its bytes, without storing them where that can be.
    pub straight: bool,
    /// Csocks whose descriptor has a token.
    pub tokens: Vec<CsockId>,
    /// Csocks that gave an edge of EPOLLOUT since this was emptied.
    pub flushed: Vec<CsockId>,
    pub posted: Vec<PsockId>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    pub fn new() -> Self {
        let fuse = Fuse::default();
        Self {
            mux: Box::new(MuxState::NEW),
            memory: Memory { bytes: REGION, fuse: fuse.clone(), regions: BTreeMap::new() },
            tcp: Wires(BTreeMap::new(), fuse),
            now: 1,
            straight: false,
            tokens: Vec::new(),
            flushed: Vec::new(),
            posted: Vec::new(),
        }
    }

    /// One csock, one psock.
    pub fn scene(kind: Kind) -> (Self, CsockId, PsockId) {
        let mut world = Self::new();
        let csock = world.open(kind);
        let psock = world.attach();
        (world, csock, psock)
    }

    pub fn outside(&mut self) -> (&mut MuxState, Outside<'_, Memory, Wires>) {
        (&mut self.mux, Outside { memory: &mut self.memory, tcp: &mut self.tcp })
    }

    pub fn open(&mut self, kind: Kind) -> CsockId {
        let options = Options { kind, receive_buffer: BUFFER, send_buffer: BUFFER };
        let csock = self.mux.open(options, &mut self.memory).expect("there is a place");
        self.settle();
        csock
    }

    pub fn attach(&mut self) -> PsockId {
        self.attach_as(0)
    }

    /// A psock with a name.
    pub fn attach_as(&mut self, name: u64) -> PsockId {
        // The core asks about a psock before it answers which: the wire has to be there.
        let next = (0..=255).find(|n| !self.mux.psocks().contains(PsockId(*n))).expect("there is a place");
        self.tcp.0.insert(next, Wire::new());
        let (mux, mut outside) = self.outside();
        let psock = mux.attach(name, &mut outside).expect("there is a place");
        assert_eq!(psock.0, next);
        self.settle();
        psock
    }

    /// What stands in TCP, and the error that stays posted.
    pub fn unattach(&mut self, psock: PsockId) -> (Vec<u8>, Errno) {
        let (mux, mut outside) = self.outside();
        let Detached { posted } = mux.unattach(psock, &mut outside).expect("it is attached");
        self.settle();
        (self.read_raw(psock), posted)
    }

    pub fn close(&mut self, csock: CsockId) -> bool {
        let (mux, mut outside) = self.outside();
        let last = mux.close(csock, &mut outside).expect("it is open");
        self.tokens.retain(|other| *other != csock);
        self.settle();
        last
    }

    pub fn disable(&mut self, csock: CsockId) {
        self.mux.disable(csock, &mut self.memory);
        self.settle();
    }

    pub fn enable(&mut self, csock: CsockId) {
        self.mux.enable(csock, &mut self.memory);
        self.settle();
    }

    /// Bytes come, and the pump sees to them.
    pub fn arrive(&mut self, psock: PsockId, bytes: &[u8]) {
        self.tcp.of(psock).incoming.extend(bytes);
        self.pull(psock);
    }

    pub fn pull(&mut self, psock: PsockId) {
        self.pull_into(psock, None, &mut NoSink);
        self.settle();
    }

    pub fn pull_into<S: Sink>(&mut self, psock: PsockId, csock: Option<CsockId>, sink: &mut S) -> bool {
        let now = self.now;
        let (mux, mut outside) = self.outside();
        mux.pull(psock, Caller { csock, sink, now, may_leave: true }, &mut outside)
    }

    /// Reads as a call on a csock does that borrows a psock; false where it may not.
    pub fn read_lent<S: Sink>(&mut self, psock: PsockId, csock: CsockId, sink: &mut S) -> bool {
        let Some(mut loan) = self.mux.lend(Some(psock), csock) else { return false };
        let (_, mut outside) = self.outside();
        loan.read(sink, &mut outside);
        self.give_back(loan);
        true
    }

    pub fn give_back(&mut self, loan: Loan) {
        let now = self.now;
        let (mux, mut outside) = self.outside();
        mux.give_back(loan, || now, &mut outside);
    }

    /// Does the work that is left, and checks that descriptors poll as they should.
    pub fn settle(&mut self) {
        loop {
            let work = self.mux.take_work();
            self.tokens.retain(|csock| !work.emptied.contains(*csock));
            self.tokens.extend(work.gained.iter());
            self.flushed.extend(work.flushed.iter());
            self.posted.extend(work.posted.iter());
            if work.resumed.is_empty() {
                break;
            }
            for psock in work.resumed.iter() {
                while self.pull_into(psock, None, &mut NoSink) {}
            }
        }
        let lent = self.mux.lent();
        for csock in (0..=255).map(CsockId).filter(|csock| !lent.contains(*csock)) {
            let token = self.tokens.contains(&csock);
            assert_eq!(token, self.mux.messages(csock) > 0, "token of {csock:?}");
        }
    }

    pub fn receive(&mut self, csock: CsockId, want: usize, flags: i32) -> Result<(Vec<u8>, i32), Errno> {
        let mut bytes = Vec::new();
        let received = self.mux.receive(csock, want, flags, &mut self.memory, |from, _| {
            bytes.extend(from);
            Ok(())
        });
        self.settle();
        let received = received?;
        assert_eq!(received.len, bytes.len());
        Ok((bytes, received.flags))
    }

    /// All that a csock has, a letter and a length for each message of the form that [`message`] makes.
    pub fn drain(&mut self, csock: CsockId) -> String {
        let mut all = Vec::new();
        while let Ok((bytes, _)) = self.receive(csock, usize::MAX, 0) {
            all.push(format!("{}({})", bytes.get(4).map_or('-', |b| char::from(*b)), bytes.len()));
        }
        all.join(",")
    }

    pub fn send(&mut self, csock: CsockId, bytes: &[u8], flags: i32) -> Result<usize, Errno> {
        self.send_to(csock, 0, bytes, flags)
    }

    pub fn send_to(&mut self, csock: CsockId, connection: u64, bytes: &[u8], flags: i32) -> Result<usize, Errno> {
        let straight = self.straight;
        let (mux, mut outside) = self.outside();
        let sent = if straight {
            let (a, b) = bytes.split_at(bytes.len() / 2);
            mux.send_from(csock, connection, (bytes.len(), flags), &mut outside, &mut Slices(&[a, b]))
        } else {
            mux.send_to(csock, connection, (bytes.len(), flags), &mut outside, |to| {
                to.copy_from_slice(bytes);
                Ok(())
            })
        };
        self.settle();
        sent
    }

    /// The other end reads all, and makes room for so many bytes more.
    pub fn peer_reads(&mut self, psock: PsockId, room: usize) -> String {
        let mut got = Vec::new();
        loop {
            let wire = self.tcp.of(psock);
            let more = std::mem::take(&mut wire.written);
            wire.room = room;
            let done = more.is_empty();
            got.extend(more);
            let (mux, mut outside) = self.outside();
            if mux.stalled(psock) {
                mux.writable(psock, &mut outside);
            }
            self.settle();
            if done && self.tcp.of(psock).written.is_empty() {
                return String::from_utf8(got).expect("tests send text");
            }
        }
    }

    /// What the other end has got without making room.
    pub fn peer(&mut self, psock: PsockId) -> String {
        String::from_utf8(std::mem::take(&mut self.tcp.of(psock).written)).expect("tests send text")
    }

    pub fn read_raw(&mut self, psock: PsockId) -> Vec<u8> {
        let wire = self.tcp.of(psock);
        wire.come = 0;
        wire.read += wire.incoming.len() as u64;
        wire.incoming.drain(..).collect()
    }
}

/// A length of four bytes, and so many times a letter.
pub fn message(letter: char, len: u32) -> Vec<u8> {
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.resize(4 + len as usize, letter as u8);
    bytes
}
