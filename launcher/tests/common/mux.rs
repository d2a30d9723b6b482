//! Plays the library: a mux in a memfd, worked by the core as the library does it.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fs::File;
use std::mem::offset_of;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use preloop_kcm::direct::NoSink;
use preloop_kcm::errno::{EAGAIN, Errno};
use preloop_kcm::members::Options;
use preloop_kcm::outside::{Outside, Parse, Region, Regions, Tcp};
use preloop_kcm::pull::Caller;
use preloop_kcm::{CsockId, Kind, MuxState, PsockId};
use preloop_uapi::mux::{
    MUX_BYTES, MUX_MAGIC, MUX_NAME, MuxHeader, PsockEntry, REGION_BYTES, REGIONS_OFFSET, STATE_OFFSET,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A mux without its regions, which nobody reads from outside.
pub struct Mux {
    pub memory: File,
    base: *mut c_void,
    outside: Fake,
}

/// Regions in vectors, and TCP sockets that have sent `incoming` and take everything.
#[derive(Default)]
struct Fake {
    regions: BTreeMap<Region, Vec<u8>>,
    incoming: Vec<u8>,
}

impl Regions for Fake {
    fn region(&mut self, which: Region) -> &mut [u8] {
        self.regions.entry(which).or_insert_with(|| vec![0; REGION_BYTES])
    }

    fn copy(&mut self, source: Region, from: Range<usize>, target: Region, at: usize) {
        let bytes = self.region(source)[from].to_vec();
        self.region(target)[at..at + bytes.len()].copy_from_slice(&bytes);
    }
}

struct Wire<'a>(&'a mut Vec<u8>);

impl Tcp for Wire<'_> {
    type Parser = Length;

    fn peek(&mut self, _psock: PsockId, into: &mut [u8]) -> Result<usize, Errno> {
        let n = into.len().min(self.0.len());
        into[..n].copy_from_slice(&self.0[..n]);
        if n == 0 { Err(EAGAIN) } else { Ok(n) }
    }

    fn take(&mut self, _psock: PsockId, n: usize) {
        self.0.drain(..n);
    }

    fn available(&mut self, _psock: PsockId) -> usize {
        self.0.len()
    }

    fn write(&mut self, _psock: PsockId, parts: &[&[u8]]) -> Result<usize, Errno> {
        Ok(parts.concat().len())
    }

    fn read_position(&mut self, _psock: PsockId) -> Option<u64> {
        None
    }

    fn write_position(&mut self, _psock: PsockId) -> Option<u64> {
        None
    }

    fn receive_limit(&mut self, _psock: PsockId) -> u32 {
        1 << 20
    }

    fn receive_time(&mut self, _psock: PsockId) -> u64 {
        0
    }

    /// Two bytes of length, and so many more.
    fn parser(&mut self, _psock: PsockId) -> Length {
        Length
    }
}

/// Messages begin with two bytes that say how many follow.
#[derive(Debug)]
struct Length;

impl Parse for Length {
    fn parse(&mut self, bytes: &[u8]) -> i32 {
        bytes.first_chunk().map_or(0, |length| 2 + i32::from(u16::from_be_bytes(*length)))
    }
}

impl Mux {
    pub fn new(made_at: u64) -> Self {
        let memory = memory();
        memory.set_len(MUX_BYTES as u64).unwrap();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so nothing else is mapped over.
        let base = unsafe { mmap(std::ptr::null_mut(), REGIONS_OFFSET, protection, MapFlags::SHARED, &memory, 0) };
        let mux = Self { memory, base: base.unwrap(), outside: Fake::default() };
        mux.put(offset_of!(MuxHeader, magic), MUX_MAGIC);
        mux.put(offset_of!(MuxHeader, made_at), made_at);
        mux
    }

    /// Stores a number in the header.
    pub fn put(&self, offset: usize, value: u64) {
        self.memory.write_all_at(&value.to_ne_bytes(), offset as u64).unwrap();
    }

    pub fn state(&mut self) -> &mut MuxState {
        // SAFETY: inside the mapping, which lives as long as this mux. Nobody else writes there while it is borrowed; zeros,
        // with which it begins, are a state.
        unsafe { &mut *self.base.byte_add(STATE_OFFSET).cast() }
    }

    pub fn open(&mut self, kind: Kind) -> CsockId {
        let mut outside = std::mem::take(&mut self.outside);
        let options = Options { kind, receive_buffer: 1 << 20, send_buffer: 1 << 20 };
        let csock = self.state().open(options, &mut outside).unwrap();
        self.outside = outside;
        csock
    }

    pub fn close(&mut self, csock: CsockId) {
        self.with(|state, outside| state.close(csock, outside)).unwrap();
    }

    /// Attaches the TCP socket of that inode.
    pub fn attach(&mut self, inode: u64) -> PsockId {
        let psock = self.with(|state, outside| state.attach(0, outside)).unwrap();
        let entry = offset_of!(MuxHeader, psocks) + usize::from(psock.0) * size_of::<PsockEntry>();
        self.put(entry + offset_of!(PsockEntry, inode), inode);
        psock
    }

    /// Bytes that came to a psock were read.
    pub fn arrive(&mut self, psock: PsockId, bytes: &[u8]) {
        self.outside.incoming.extend(bytes);
        self.with(|state, outside| {
            while state.pull(psock, Caller { csock: None, sink: &mut NoSink, now: 1, may_leave: true }, outside) {}
        });
    }

    pub fn send(&mut self, csock: CsockId, bytes: &[u8], flags: i32) {
        let copy = |to: &mut [u8]| {
            to.copy_from_slice(bytes);
            Ok(())
        };
        let sent = self.with(|state, outside| state.send(csock, (bytes.len(), flags), outside, copy));
        assert_eq!(sent, Ok(bytes.len()));
    }

    fn with<R>(&mut self, act: impl FnOnce(&mut MuxState, &mut Outside<'_, Fake, Wire<'_>>) -> R) -> R {
        let mut memory = std::mem::take(&mut self.outside);
        let mut incoming = std::mem::take(&mut memory.incoming);
        let result = act(self.state(), &mut Outside { memory: &mut memory, tcp: &mut Wire(&mut incoming) });
        self.outside = Fake { incoming, ..memory };
        result
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        // SAFETY: the mapping is this mux's own, and nothing borrows from it any more.
        unsafe { munmap(self.base, REGIONS_OFFSET) }.unwrap();
    }
}

/// An empty memfd of a mux's name.
pub fn memory() -> File {
    memfd::MemfdOptions::default().create(MUX_NAME).unwrap().into_file()
}
