//! A mux with memory and TCP sockets that are vectors, and its descriptors as they would poll.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::panic::resume_unwind;
use std::rc::Rc;

use preloop_kcm::direct::{NoSink, Sink};
use preloop_kcm::errno::{EAGAIN, Errno};
use preloop_kcm::members::{Detached, Options};
use preloop_kcm::outside::{Outside, Parse, Region, Regions, Tcp};
use preloop_kcm::pull::Caller;
use preloop_kcm::receive::Received;
use preloop_kcm::straight::Slices;
use preloop_kcm::{CsockId, Kind, MuxState, PsockId};

/// Bytes of a region, unless a test says otherwise.
const REGION: usize = 1 << 20;
/// SO_RCVBUF and SO_SNDBUF as they are by default.
pub const BUFFER: u32 = 212_992;

/// How many calls out of the core there are until its process is killed; 0 for never.
#[derive(Clone, Default, Debug)]
pub struct Fuse(pub Rc<Cell<u32>>);

/// What a killed process unwinds with.
pub struct Killed;

impl Fuse {
    /// One call out of the core.
    pub fn burn(&self) {
        if self.0.get() > 0 {
            self.0.set(self.0.get() - 1);
            if self.0.get() == 0 {
                resume_unwind(Box::new(Killed));
            }
        }
    }
}

pub struct Memory {
    pub bytes: usize,
    pub fuse: Fuse,
    regions: BTreeMap<Region, Vec<u8>>,
}

impl Regions for Memory {
    fn region(&mut self, which: Region) -> &mut [u8] {
        self.fuse.burn();
        let len = if which == Region::Held { 8 * self.bytes } else { self.bytes };
        self.regions.entry(which).or_insert_with(|| vec![0; len])
    }

    fn copy(&mut self, source: Region, from: Range<usize>, target: Region, at: usize) {
        assert_ne!(source, target);
        let bytes = self.region(source)[from].to_vec();
        self.region(target)[at..at + bytes.len()].copy_from_slice(&bytes);
        self.fuse.burn();
    }
}

/// The other end of a psock, and the wire between.
pub struct Wire {
    pub incoming: VecDeque<u8>,
    /// Bytes of them that come between one look at them and the next.
    pub piece: usize,
    /// Bytes of them that have come, and those that the last peek has shown.
    come: usize,
    peeked: usize,
    /// Bytes that were read and written ever, and whether it tells.
    pub read: u64,
    pub wrote: u64,
    pub tells: bool,
    /// Peeks, and the bytes that they copied.
    pub peeks: usize,
    pub copied: usize,
    pub end: Option<Result<usize, Errno>>,
    pub written: Vec<u8>,
    /// Bytes that may be written until the other end reads.
    pub room: usize,
    pub write_error: Option<Errno>,
    pub limit: u32,
    pub time: u64,
    parser: Rc<RefCell<Script>>,
    pub writes: usize,
}

/// What a parser is to answer, without which it reads a length of four bytes; and what it was asked.
#[derive(Default, Debug)]
struct Script {
    answers: VecDeque<i32>,
    /// How many bytes each call was shown.
    shown: Vec<usize>,
}

/// The program of a psock.
#[derive(Debug)]
pub struct Scripted(Rc<RefCell<Script>>, Fuse);

impl Parse for Scripted {
    fn parse(&mut self, bytes: &[u8]) -> i32 {
        self.1.burn();
        let mut script = self.0.borrow_mut();
        script.shown.push(bytes.len());
        script
            .answers
            .pop_front()
            .unwrap_or_else(|| bytes.first_chunk().map_or(0, |length| 4i32.wrapping_add(i32::from_be_bytes(*length))))
    }
}

impl Wire {
    pub fn new() -> Self {
        Self {
            incoming: VecDeque::new(),
            piece: usize::MAX,
            come: 0,
            peeked: 0,
            read: 1000,
            wrote: 2000,
            tells: true,
            peeks: 0,
            copied: 0,
            end: None,
            written: Vec::new(),
            room: usize::MAX,
            write_error: None,
            limit: 87380,
            time: 0,
            parser: Rc::default(),
            writes: 0,
        }
    }

    /// What the parser answers next.
    pub fn answers(&mut self, answers: &[i32]) {
        self.parser.borrow_mut().answers.extend(answers);
    }

    /// How many bytes each call of the parser was shown.
    pub fn shown(&self) -> Vec<usize> {
        self.parser.borrow().shown.clone()
    }
}

#[derive(Default)]
pub struct Wires(pub BTreeMap<u8, Wire>, pub Fuse);

impl Wires {
    pub fn of(&mut self, psock: PsockId) -> &mut Wire {
        self.1.burn();
        self.0.get_mut(&psock.0).expect("the psock is attached")
    }
}

impl Tcp for Wires {
    type Parser = Scripted;

    fn peek(&mut self, psock: PsockId, into: &mut [u8]) -> Result<usize, Errno> {
        let n = self.available(psock).min(into.len());
        let wire = self.of(psock);
        wire.peeked = n;
        wire.peeks += 1;
        wire.copied += n;
        if n == 0 {
            return wire.end.unwrap_or(Err(EAGAIN));
        }
        for (to, from) in into.iter_mut().zip(wire.incoming.range(..n)) {
            *to = *from;
        }
        Ok(n)
    }

    fn take(&mut self, psock: PsockId, n: usize) {
        let wire = self.of(psock);
        assert!((1..=wire.peeked).contains(&n), "{n} of {} that were shown", wire.peeked);
        wire.incoming.drain(..n);
        wire.read += n as u64;
        wire.come -= n;
        wire.peeked = 0;
        self.1.burn();
    }

    fn available(&mut self, psock: PsockId) -> usize {
        let wire = self.of(psock);
        wire.come = wire.incoming.len().min(wire.come.saturating_add(wire.piece));
        wire.peeked = wire.come;
        wire.come
    }

    fn write(&mut self, psock: PsockId, parts: &[&[u8]]) -> Result<usize, Errno> {
        let wire = self.of(psock);
        wire.writes += 1;
        if let Some(error) = wire.write_error {
            return Err(error);
        }
        let all: Vec<u8> = parts.concat();
        let n = all.len().min(wire.room);
        assert!(!all.is_empty(), "nothing is never written");
        if n == 0 {
            return Err(EAGAIN);
        }
        wire.room -= n;
        wire.written.extend(&all[..n]);
        wire.wrote += n as u64;
        self.1.burn();
        Ok(n)
    }

    fn read_position(&mut self, psock: PsockId) -> Option<u64> {
        let wire = self.of(psock);
        wire.tells.then_some(wire.read)
    }

    fn write_position(&mut self, psock: PsockId) -> Option<u64> {
        let wire = self.of(psock);
        wire.tells.then_some(wire.wrote)
    }

    fn receive_limit(&mut self, psock: PsockId) -> u32 {
        self.of(psock).limit
    }

    fn receive_time(&mut self, psock: PsockId) -> u64 {
        self.of(psock).time
    }

    fn parser(&mut self, psock: PsockId) -> Scripted {
        Scripted(Rc::clone(&self.of(psock).parser), self.1.clone())
    }
}

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
        mux.pull(psock, Caller { csock, sink, now }, &mut outside)
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
        for csock in (0..=255).map(CsockId) {
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
