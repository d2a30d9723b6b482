//! The only lines that copy between a program's buffers and a ring. No reference is ever made to ring bytes: the
//! peer may store to them during the copy, which then yields some bytes or others, never undefined behaviour in us.

use preloop_sys::{Errno, Fd, call};

/// A ring: an address and a size, valid while the group it belongs to is mapped.
#[derive(Debug, Clone, Copy)]
pub struct Ring {
    base: *mut u8,
    size: usize,
}

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

    /// Copies `len` bytes from the buffers, `skip` bytes in, to `offset`.
    pub fn fill(&self, offset: usize, len: usize, from: &Buffers<'_>, skip: usize) {
        let mut to = self.at(offset, len);
        from.pieces(skip, len, |part, len| {
            // SAFETY: `at` checked the ring's range; `Buffers::new` vouches for the program's part; they cannot
            // overlap, the ring being the library's own mapping.
            unsafe { core::ptr::copy_nonoverlapping(part, to, len) };
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

    /// Has the kernel write ring bytes to a file or pipe.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drain_to_file(&self, offset: usize, len: usize, file: Fd) -> Result<usize, Errno> {
        // SAFETY: `at` checked the range.
        unsafe { call::write_at(file, self.at(offset, len), len) }
    }
}

// SAFETY: an address; the protocol of the cursors, not the type, orders access to the bytes.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}
