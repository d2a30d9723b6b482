//! What is around a mux, as vectors: the memory of its regions, and the TCP sockets. Every call there may be the last one that
//! its process makes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::panic::resume_unwind;
use std::rc::Rc;

use preloop_kcm::PsockId;
use preloop_kcm::errno::{EAGAIN, Errno};
use preloop_kcm::outside::{Parse, Region, Regions, Tcp};

/// Bytes of a region, unless a test says otherwise.
pub const REGION: usize = 1 << 20;

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
    pub(super) regions: BTreeMap<Region, Vec<u8>>,
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
    pub(super) come: usize,
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
