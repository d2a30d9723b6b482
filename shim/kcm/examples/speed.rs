//! What the core costs for each message of 64 bytes, in nanoseconds, beside system calls: the best of many rounds.

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use preloop_kcm::direct::{NoSink, Sink};
use preloop_kcm::errno::{EAGAIN, Errno};
use preloop_kcm::members::Options;
use preloop_kcm::outside::{Outside, Parse, Region, Regions, Tcp};
use preloop_kcm::pull::Caller;
use preloop_kcm::receive::{MSG_EOR, Received};
use preloop_kcm::send::MSG_BATCH;
use preloop_kcm::straight::Slices;
use preloop_kcm::{CsockId, Kind, MuxState, PsockId};

const LEN: usize = 64;

struct Memory(Vec<Vec<u8>>);

fn place(which: Region) -> usize {
    match which {
        Region::Psock(id) => usize::from(id.0),
        Region::Received(id) => 16 + usize::from(id.0),
        Region::ToSend(id) => 32 + usize::from(id.0),
        Region::Held => 48,
    }
}

impl Regions for Memory {
    fn region(&mut self, which: Region) -> &mut [u8] {
        &mut self.0[place(which)]
    }

    fn copy(&mut self, source: Region, from: Range<usize>, target: Region, at: usize) {
        if let Ok([source, target]) = self.0.get_disjoint_mut([place(source), place(target)]) {
            target[at..at + from.len()].copy_from_slice(&source[from]);
        }
    }
}

/// A TCP socket that has one message after the other, `left` of them.
struct Endless {
    bytes: Vec<u8>,
    left: usize,
    written: usize,
}

impl Tcp for Endless {
    type Parser = Length;

    fn peek(&mut self, _psock: PsockId, into: &mut [u8]) -> Result<usize, Errno> {
        // It never begins in the middle of one, since only whole ones come.
        let n = into.len().min(self.left);
        into[..n].copy_from_slice(&self.bytes[..n]);
        if n > 0 { Ok(n) } else { Err(EAGAIN) }
    }

    fn take(&mut self, _psock: PsockId, n: usize) {
        assert_eq!(n % LEN, 0);
        self.left -= n;
    }

    fn available(&mut self, _psock: PsockId) -> usize {
        self.left
    }

    fn write(&mut self, _psock: PsockId, parts: &[&[u8]]) -> Result<usize, Errno> {
        let n = parts.iter().map(|part| part.len()).sum();
        self.written += n;
        Ok(n)
    }

    fn read_position(&mut self, _psock: PsockId) -> Option<u64> {
        None
    }

    fn write_position(&mut self, _psock: PsockId) -> Option<u64> {
        None
    }

    fn receive_limit(&mut self, _psock: PsockId) -> u32 {
        131_072
    }

    fn receive_time(&mut self, _psock: PsockId) -> u64 {
        0
    }

    fn parser(&mut self, _psock: PsockId) -> Length {
        Length
    }
}

/// Messages begin with four bytes that say how many follow.
#[derive(Debug)]
struct Length;

impl Parse for Length {
    fn parse(&mut self, bytes: &[u8]) -> i32 {
        bytes.first_chunk().map_or(0, |length| 4 + i32::from_be_bytes(*length))
    }
}

struct Buffers {
    bytes: Vec<[u8; LEN]>,
    used: usize,
}

impl Sink for Buffers {
    fn room(&self) -> Option<usize> {
        (self.used < self.bytes.len()).then_some(LEN)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.used
    }

    fn put(&mut self, bytes: &[u8], received: Received) -> Result<(), Errno> {
        self.bytes[self.used][..received.len].copy_from_slice(bytes);
        self.used += 1;
        Ok(())
    }
}

struct Bench {
    mux: Box<MuxState>,
    memory: Memory,
    tcp: Endless,
    csocks: Vec<CsockId>,
    psock: PsockId,
}

impl Bench {
    fn new(csocks: usize) -> Self {
        let mut mux = Box::new(MuxState::NEW);
        let mut memory = Memory(vec![vec![0; 1 << 20]; 49]);
        let message = [&60u32.to_be_bytes()[..], &[b'm'; 60]].concat();
        let mut tcp = Endless { bytes: message.repeat((1 << 20) / LEN), left: 0, written: 0 };
        let options = Options { kind: Kind::Dgram, receive_buffer: 212_992, send_buffer: 212_992 };
        let csocks = (0..csocks).map(|_| mux.open(options, &mut memory).expect("there is a place")).collect();
        let psock = mux.attach(0, &mut Outside { memory: &mut memory, tcp: &mut tcp }).expect("there is a place");
        mux.take_work();
        Self { mux, memory, tcp, csocks, psock }
    }

    fn work(&mut self) {
        if self.mux.has_work() {
            black_box(self.mux.take_work());
        }
    }

    fn pull(&mut self, sink: &mut impl Sink, csock: Option<CsockId>) {
        let outside = &mut Outside { memory: &mut self.memory, tcp: &mut self.tcp };
        self.mux.pull(self.psock, Caller { csock, sink, now: 1, may_leave: true }, outside);
        self.work();
    }

    fn send(&mut self, csock: CsockId, flags: i32) {
        let outside = &mut Outside { memory: &mut self.memory, tcp: &mut self.tcp };
        let bytes = black_box([b's'; LEN]);
        let sent = self.mux.send(csock, (LEN, flags), outside, |to| {
            to.copy_from_slice(&bytes);
            Ok(())
        });
        assert_eq!(sent, Ok(LEN));
        self.work();
    }

    fn send_from(&mut self, csock: CsockId) {
        let outside = &mut Outside { memory: &mut self.memory, tcp: &mut self.tcp };
        let bytes = black_box([b's'; LEN]);
        assert_eq!(self.mux.send_from(csock, 0, (LEN, MSG_EOR), outside, &mut Slices(&[&bytes])), Ok(LEN));
        self.work();
    }

    /// `count` messages come and are queued; the blocked reader that is woken takes them.
    fn queue(&mut self, count: usize) {
        self.tcp.left = count * LEN;
        let csock = self.csocks[0];
        self.mux.reader_sleeps(csock);
        self.pull(&mut NoSink, None);
        self.mux.reader_woke(csock);
        let mut to = [0; LEN];
        for csock in 0..self.csocks.len() {
            while self
                .mux
                .receive(self.csocks[csock], LEN, 0, &mut self.memory, |from, _| {
                    to.copy_from_slice(from);
                    Ok(())
                })
                .is_ok()
            {
                black_box(&to);
                self.work();
            }
        }
    }
}

/// Nanoseconds for each of the `count` messages of one step.
fn best(name: &str, count: usize, mut step: impl FnMut()) {
    const STEPS: usize = 100;
    let mut best = f64::INFINITY;
    for _ in 0..1000 {
        let start = Instant::now();
        (0..STEPS).for_each(|_| step());
        best = best.min(start.elapsed().as_nanos() as f64 / (STEPS * count) as f64);
    }
    println!("{name:<44} {best:>7.1}");
}

fn main() {
    for (sockets, name) in [(1, "one socket"), (16, "16 sockets")] {
        let mut bench = Bench::new(sockets);
        let mut buffers = Buffers { bytes: vec![[0; LEN]; 64], used: 0 };
        let csock = bench.csocks[sockets - 1];
        best(&format!("{name}: 64 into the caller's buffers"), 64, || {
            (bench.tcp.left, buffers.used) = (64 * LEN, 0);
            bench.pull(&mut buffers, Some(csock));
            assert_eq!((buffers.used, bench.tcp.left), (64, 0));
        });
        let mut one = Buffers { bytes: vec![[0; LEN]], used: 0 };
        best(&format!("{name}: one into the caller's buffer"), 1, || {
            (bench.tcp.left, one.used) = (LEN, 0);
            bench.pull(&mut one, Some(csock));
            assert_eq!(one.used, 1);
        });
        best(&format!("{name}: 64 queued, and received"), 64, || bench.queue(64));
        best(&format!("{name}: one queued, and received"), 1, || bench.queue(1));
        best(&format!("{name}: sent at once"), 1, || bench.send(csock, MSG_EOR));
        best(&format!("{name}: sent at once, straight"), 1, || bench.send_from(csock));
        best(&format!("{name}: sent 64 at a time"), 64, || {
            (0..63).for_each(|_| bench.send(csock, MSG_EOR | MSG_BATCH));
            bench.send(csock, MSG_EOR);
        });
    }
}
