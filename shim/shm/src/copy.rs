//! The only lines that copy between a program's buffers and a ring. No reference is ever made to ring bytes: the
//! peer may store to them during the copy, which then yields some bytes or others, never undefined behaviour in us.

use preloop_sys::probe::{self, Access};
use preloop_sys::{Errno, Fd, call, outgoing};

/// A ring: an address and a size, valid while the group it belongs to is mapped.
#[derive(Debug, Clone, Copy)]
pub struct Ring {
    base: *mut u8,
    size: usize,
}

/// How bytes are stored into a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Through this processor's caches: for a receiver that runs on it too, or for a few bytes.
    Cached,
    /// Past them, where the processor can do that: for a receiver on another one. Lines that its cache holds since it
    /// read them need not be fetched from there first only to be written over, nor be fetched from this processor's
    /// cache afterwards; between distant cores that is several times faster.
    Streaming,
}

/// Bytes of a part from which storing it past the caches pays: it ends with waiting for the stores.
const STREAM_FROM: usize = 1 << 10;

/// The buffers of one call, as the program passed them.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    parts: &'a [libc::iovec],
    len: usize,
}

impl<'a> Buffers<'a> {
    /// Wraps buffers that a program passed to a read or write call.
    ///
    /// # Safety
    /// Every part must be valid for its length (to write to, when it is read into) while the value lives: the same
    /// promise that the program made to the C function.
    pub unsafe fn new(parts: &'a [libc::iovec]) -> Self {
        let len = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.iov_len));
        Self { parts, len }
    }

    /// Bytes of all parts.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no room at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parts as the kernel takes them, cut to `limit` bytes and without the first `skip`, into `out`; answers
    /// how many entries that took. Parts beyond `out` are left for the next call.
    fn window(&self, skip: usize, limit: usize, out: &mut [libc::iovec]) -> usize {
        let (mut skip, mut left, mut count) = (skip, limit, 0);
        for part in self.parts {
            let inside = part.iov_len.min(usize::MAX - skip);
            if skip >= inside {
                skip -= inside;
                continue;
            }
            if left == 0 || count == out.len() {
                break;
            }
            let len = (inside - skip).min(left);
            out[count] = libc::iovec { iov_base: part.iov_base.cast::<u8>().wrapping_add(skip).cast(), iov_len: len };
            (left, skip, count) = (left - len, 0, count + 1);
        }
        count
    }

    /// Has the kernel receive from a socket, `skip` bytes into the buffers and at most `limit` bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive(&self, socket: Fd, skip: usize, limit: usize, flags: i32) -> Result<usize, Errno> {
        let mut parts = [libc::iovec { iov_base: core::ptr::null_mut(), iov_len: 0 }; 64];
        let count = self.window(skip, limit, &mut parts);
        // SAFETY: msghdr is plain data.
        let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = count;
        // SAFETY: the parts are the program's, vouched for by `new`; the header lives as long as the call.
        unsafe { call::recvmsg(socket, &raw mut message, flags) }
    }

    /// Has the kernel send to a socket what is in the buffers, or the first parts of it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, socket: Fd, flags: i32) -> Result<usize, Errno> {
        // SAFETY: msghdr is plain data.
        let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
        message.msg_iov = self.parts.as_ptr().cast_mut();
        message.msg_iovlen = self.parts.len();
        // SAFETY: the parts are the program's, vouched for by `new`, and only read.
        unsafe { call::sendmsg(socket, &raw const message, flags) }
    }

    /// Has the kernel send to a socket what follows the first `skip` bytes of the buffers, or the first part of that.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send_rest(&self, socket: Fd, skip: usize, flags: i32) -> Result<usize, Errno> {
        let mut parts = [libc::iovec { iov_base: core::ptr::null_mut(), iov_len: 0 }; 64];
        let count = self.window(skip, usize::MAX, &mut parts);
        // SAFETY: the parts are the program's, vouched for by `new`, and only read.
        unsafe { Buffers::new(&parts[..count]) }.send(socket, flags)
    }

    /// Calls `with` for each piece of `len` bytes that starts `skip` bytes into the buffers.
    fn pieces(&self, skip: usize, len: usize, mut with: impl FnMut(*mut u8, usize)) {
        let (mut skip, mut left) = (skip, len);
        for part in self.parts {
            if left == 0 {
                return;
            }
            if skip >= part.iov_len {
                skip -= part.iov_len;
                continue;
            }
            let len = (part.iov_len - skip).min(left);
            with(part.iov_base.cast::<u8>().wrapping_add(skip), len);
            (left, skip) = (left - len, 0);
        }
    }
}

/// Copies bytes that are few, mostly: up to 64 without a call, which costs more than the copy.
///
/// # Safety
/// As of [`core::ptr::copy_nonoverlapping`].
#[inline(always)]
pub unsafe fn copy_few(from: *const u8, to: *mut u8, len: usize) {
    const WORD: usize = size_of::<u128>();
    // SAFETY: the caller's; words overlap where the length is no multiple of theirs.
    unsafe {
        let word = |at: usize| from.add(at).cast::<u128>().read_unaligned();
        let put = |at: usize, word: u128| to.add(at).cast::<u128>().write_unaligned(word);
        match len {
            WORD..=32 => {
                let (first, last) = (word(0), word(len - WORD));
                put(0, first);
                put(len - WORD, last);
            }
            33..=64 => {
                let words = [word(0), word(WORD), word(len - 2 * WORD), word(len - WORD)];
                put(0, words[0]);
                put(WORD, words[1]);
                put(len - 2 * WORD, words[2]);
                put(len - WORD, words[3]);
            }
            _ => core::ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

/// Lends memory of the library's own as the buffers of a call.
pub fn lend<R>(bytes: &mut [u8], with: impl FnOnce(Buffers<'_>) -> R) -> R {
    let part = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }];
    // SAFETY: the slice is borrowed as long as the value lives.
    with(unsafe { Buffers::new(&part) })
}

/// Shows slices as the buffers of a call that only reads them: as many of them as one call may have.
pub fn show<R>(parts: &[&[u8]], with: impl FnOnce(Buffers<'_>) -> R) -> R {
    let mut entries = [libc::iovec { iov_base: core::ptr::null_mut(), iov_len: 0 }; 64];
    let count = parts.len().min(entries.len());
    for (entry, part) in entries.iter_mut().zip(parts) {
        *entry = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
    }
    // SAFETY: the slices are borrowed as long as the value lives, and are not written to.
    with(unsafe { Buffers::new(&entries[..count]) })
}

impl Buffers<'_> {
    /// Copies `into.len()` bytes, `skip` bytes into the buffers, out of them. There must be as many.
    pub fn gather(&self, skip: usize, into: &mut [u8]) {
        let mut to = into.as_mut_ptr();
        self.pieces(skip, into.len(), |part, len| {
            // SAFETY: `pieces` gives `into.len()` bytes in all; `new` vouches for the program's part, which is none of the
            // library's memory.
            unsafe { core::ptr::copy_nonoverlapping(part, to, len) };
            to = to.wrapping_add(len);
        });
    }

    /// Copies bytes into the buffers, `skip` bytes in. There must be room.
    pub fn scatter(&self, skip: usize, from: &[u8]) {
        let mut at = from.as_ptr();
        self.pieces(skip, from.len(), |part, len| {
            // SAFETY: as in `gather`.
            unsafe { core::ptr::copy_nonoverlapping(at, part, len) };
            at = at.wrapping_add(len);
        });
    }

    /// Whether the program may use its own buffers so, `len` bytes of them: see [`probe`].
    pub fn allow(&self, access: Access, len: usize) -> bool {
        self.allow_by(len, |part, len| probe::may(access, part, len))
    }

    /// Copies bytes into the buffers, which have room for them, if the program may write to those: see [`probe`]. False, and
    /// nothing is written, if not. For one of many calls in a row.
    #[inline]
    pub fn scatter_if_allowed(&self, from: &[u8], page: &mut probe::Page) -> bool {
        if let [part] = self.parts
            && from.len() <= part.iov_len
        {
            let allowed = page.may(part.iov_base.cast(), from.len());
            if allowed {
                // SAFETY: as in `gather`.
                unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), part.iov_base.cast(), from.len()) };
            }
            return allowed;
        }
        let allowed = self.allow_by(from.len(), |part, len| page.may(part, len));
        if allowed {
            self.scatter(0, from);
        }
        allowed
    }

    fn allow_by(&self, len: usize, mut may: impl FnMut(*const u8, usize) -> bool) -> bool {
        let mut allowed = true;
        self.pieces(0, len, |part, len| allowed = allowed && may(part, len));
        allowed
    }
}

impl Ring {
    /// # Safety
    /// `base` must be mapped, readable and writable, for `size` bytes for as long as the value is used.
    pub unsafe fn new(base: *mut u8, size: usize) -> Self {
        Self { base, size }
    }

    /// Bytes of the ring.
    pub fn size(&self) -> u64 {
        self.size as u64
    }

    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.size && len <= self.size - offset);
        self.base.wrapping_add(offset)
    }

    /// Copies `len` bytes from the buffers, `skip` bytes in, to `offset`. All are stored when it returns: a cursor
    /// that is published afterwards (Release) is not seen before them.
    pub fn fill(&self, offset: usize, len: usize, from: &Buffers<'_>, skip: usize, store: Store) {
        let mut to = self.at(offset, len);
        from.pieces(skip, len, |part, len| {
            // SAFETY: `at` checked the ring's range; `Buffers::new` vouches for the program's part; they cannot
            // overlap, the ring being the library's own mapping.
            unsafe {
                match store {
                    Store::Streaming if len >= STREAM_FROM => stream(part, to, len),
                    _ => core::ptr::copy_nonoverlapping(part, to, len),
                }
            }
            to = to.wrapping_add(len);
        });
    }

    /// Copies `len` bytes at `offset` into the buffers, `skip` bytes in.
    pub fn drain(&self, offset: usize, len: usize, to: &Buffers<'_>, skip: usize) {
        let mut from = self.at(offset, len);
        to.pieces(skip, len, |part, len| {
            // SAFETY: as in `fill`.
            unsafe { core::ptr::copy_nonoverlapping(from, part, len) };
            from = from.wrapping_add(len);
        });
    }

    /// Has the kernel read a file straight into the ring; `file_offset` as for pread(2).
    ///
    /// # Errors
    /// The kernel's.
    pub fn fill_from_file(
        &self,
        offset: usize,
        len: usize,
        file: Fd,
        file_offset: Option<i64>,
    ) -> Result<usize, Errno> {
        let to = self.at(offset, len);
        match file_offset {
            // SAFETY: `at` checked the range.
            Some(file_offset) => unsafe { call::pread_at(file, to, len, file_offset) },
            // SAFETY: as above.
            None => unsafe { call::read_at(file, to, len) },
        }
    }

    /// Has the kernel read a pipe straight into the ring, without waiting where it can.
    ///
    /// # Errors
    /// The kernel's; EAGAIN when nothing is there.
    pub fn fill_from_pipe(&self, offset: usize, len: usize, pipe: Fd) -> Result<usize, Errno> {
        // SAFETY: `at` checked the range.
        unsafe { call::read_now_at(pipe, self.at(offset, len), len) }
    }

    /// Has the kernel send ring bytes over a socket, without waiting.
    ///
    /// # Errors
    /// The kernel's; EAGAIN when it takes none.
    pub fn drain_to_socket(&self, offset: usize, len: usize, socket: Fd) -> Result<usize, Errno> {
        // SAFETY: `at` checked the range.
        unsafe { outgoing::send_now_at(socket, self.at(offset, len), len) }
    }

    /// Has the kernel write ring bytes to a file or pipe.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drain_to_file(&self, offset: usize, len: usize, file: Fd) -> Result<usize, Errno> {
        // SAFETY: `at` checked the range.
        unsafe { call::write_at(file, self.at(offset, len), len) }
    }
}

/// Copies past the caches, and waits until the bytes are stored: such stores are not ordered with those that follow.
///
/// # Safety
/// As for `copy_nonoverlapping`.
#[cfg(target_arch = "x86_64")]
unsafe fn stream(from: *const u8, to: *mut u8, len: usize) {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const LINE: usize = 64;
    let head = to.align_offset(LINE).min(len);
    let lines = (len - head) / LINE * LINE;
    // SAFETY: the caller's ranges, cut into a head up to the first whole cache line, whole lines (whose alignment the
    // store needs), and a tail. SSE2, which every x86-64 processor has.
    unsafe {
        core::ptr::copy_nonoverlapping(from, to, head);
        for at in (head..head + lines).step_by(LINE) {
            let (from, to) = (from.add(at).cast::<__m128i>(), to.add(at).cast::<__m128i>());
            let line: [__m128i; 4] = core::array::from_fn(|word| _mm_loadu_si128(from.add(word)));
            for (word, value) in line.into_iter().enumerate() {
                _mm_stream_si128(to.add(word), value);
            }
        }
        let done = head + lines;
        core::ptr::copy_nonoverlapping(from.add(done), to.add(done), len - done);
        _mm_sfence();
    }
}

/// Other processors copy through their caches.
///
/// # Safety
/// As for `copy_nonoverlapping`.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn stream(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's.
    unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
}

// SAFETY: an address; the protocol of the cursors, not the type, orders access to the bytes.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

#[cfg(test)]
mod tests {
    use super::{Buffers, Ring, STREAM_FROM, Store};

    /// Every length and misalignment around whole cache lines, and nothing beside what was asked for.
    #[test]
    fn both_ways_to_store_copy_the_same() {
        let mut memory = vec![0u8; 2048];
        let source: Vec<u8> = (0..1700).map(|n| (n % 251) as u8).collect();
        for store in [Store::Cached, Store::Streaming] {
            let lengths = || (0..70).chain(STREAM_FROM..STREAM_FROM + 130);
            for (offset, skip, len) in
                (0..70).flat_map(|offset| lengths().map(move |len| (offset, (offset * 7 + len) % 300, len)))
            {
                memory.fill(255);
                let part = libc::iovec { iov_base: source.as_ptr().cast_mut().cast(), iov_len: source.len() };
                let parts = [part];
                // SAFETY: the buffers live, and are only read.
                let from = unsafe { Buffers::new(&parts) };
                // SAFETY: as long as the vector.
                let ring = unsafe { Ring::new(memory.as_mut_ptr(), memory.len()) };
                ring.fill(offset, len, &from, skip, store);
                assert_eq!(memory[offset..offset + len], source[skip..skip + len], "{store:?} {offset} {len}");
                assert!(memory[..offset].iter().chain(&memory[offset + len..]).all(|byte| *byte == 255));
            }
        }
    }
}
