//! Whether a program may use the memory that it passed to a call: where the kernel would answer EFAULT, the library must
//! not run into a fault.
//!
//! The kernel is asked, by calls of futex(2) that change nothing, for the first and the last page of a buffer. What it
//! answered for a page holds for a while: a thread asks again only about pages that it has not used lately. So a buffer
//! that is unmapped after it was used is found out about by a fault, as by any function of the C library.

use crate::Errno;
use core::cell::Cell;
use core::sync::atomic::AtomicU32;
use syscalls::{Sysno, syscall};

/// What a call does with memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
}

/// Bits of an address within a page; larger pages only make for more questions.
const PAGE_BITS: u32 = 12;
/// Pages that a thread remembers.
const REMEMBERED: usize = 256;
/// Behind all that is mapped in user space, on every machine that the library runs on.
const HIGHEST: usize = 1 << 56;

thread_local! {
    /// Pages that may be read, and written: each page number in the place of its low bits, plus one.
    static KNOWN: [[Cell<usize>; REMEMBERED]; 2] = const { [const { [const { Cell::new(0) }; REMEMBERED] }; 2] };
}

/// Whether `len` bytes from `address` may be used so.
#[inline]
pub fn may(access: Access, address: *const u8, len: usize) -> bool {
    let start = address.addr();
    if len == 0 {
        return true;
    }
    let Some(last) = start.checked_add(len - 1).filter(|last| *last < HIGHEST) else { return false };
    may_page(access, start) && (last >> PAGE_BITS == start >> PAGE_BITS || may_page(access, last))
}

/// The page that a call with many buffers asked for last.
#[derive(Debug)]
pub struct Page {
    access: Access,
    /// Its number, plus one.
    number: usize,
}

impl Page {
    /// None yet.
    pub fn none(access: Access) -> Self {
        Self { access, number: 0 }
    }

    /// As [`may`].
    #[inline]
    pub fn may(&mut self, address: *const u8, len: usize) -> bool {
        let start = address.addr();
        let behind = (1 << PAGE_BITS) - start % (1 << PAGE_BITS);
        if (start >> PAGE_BITS) + 1 == self.number && len <= behind {
            return true;
        }
        let may = may(self.access, address, len);
        if may && len > 0 {
            self.number = ((start + len - 1) >> PAGE_BITS) + 1;
        }
        may
    }
}

#[inline]
fn may_page(access: Access, address: usize) -> bool {
    let page = (address >> PAGE_BITS) + 1;
    KNOWN.with(|known| {
        let place = &known[access as usize][page % REMEMBERED];
        if place.get() == page {
            return true;
        }
        let may = ask(access, address & !3);
        if may {
            place.set(page);
        }
        may
    })
}

/// Asks the kernel about four bytes.
#[cold]
fn ask(access: Access, address: usize) -> bool {
    /// FUTEX_OP_OR with 0, FUTEX_OP_CMP_EQ with 0.
    const OR_NOTHING: u32 = 2 << 28;
    static NOBODY: AtomicU32 = AtomicU32::new(0);
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel looks at the address itself. The first call waits for no time at all for it to change; the second
    // wakes nobody, and changes no bit of it.
    let answer = unsafe {
        match access {
            Access::Read => {
                syscall!(Sysno::futex, address, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 0, &raw const now, 0, 0)
            }
            Access::Write => {
                let wake_op = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
                syscall!(Sysno::futex, NOBODY.as_ptr(), wake_op, 0, 0, address, OR_NOTHING)
            }
        }
    };
    answer != Err(Errno::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::{Access, Page, may};

    const PAGE: usize = 4096;

    /// Pages to be read and written, to be read, of no use, and of none at all.
    fn pages() -> *const u8 {
        let protections = [libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ, libc::PROT_NONE];
        // SAFETY: a new mapping, of which parts are protected and the last is unmapped.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(core::ptr::null_mut(), 4 * PAGE, access, flags, -1, 0).cast::<u8>();
            for (n, protection) in protections.into_iter().enumerate() {
                assert_eq!(libc::mprotect(start.add(n * PAGE).cast(), PAGE, protection), 0);
            }
            assert_eq!(libc::munmap(start.add(3 * PAGE).cast(), PAGE), 0);
            start
        }
    }

    /// What was looked at before says nothing of another page, of one that could not be used, or of no bytes.
    #[test]
    fn one_page_is_remembered_and_no_other() {
        let start = pages();
        for _ in 0..2 {
            let mut page = Page::none(Access::Write);
            let mut may = |offset: usize, len| page.may(start.wrapping_add(offset), len);
            assert!(may(0, 0) && may(PAGE, 0) && may(3 * PAGE, 0));
            assert!(!may(PAGE, 1) && !may(PAGE, 1) && !may(PAGE - 1, 2));
            assert!(may(0, PAGE) && may(PAGE - 1, 1) && may(8, 8));
            assert!(!may(PAGE - 1, 2) && !may(PAGE, 1) && !may(2 * PAGE, 1) && !may(3 * PAGE, 1));
            // Those that wrap around end in the page that was remembered.
            assert!(may(8, 8) && !may(16, usize::MAX - 7) && !may(0, usize::MAX) && may(8, 8));
        }
    }

    #[test]
    fn memory_may_be_used_as_it_is_mapped() {
        let start = pages();
        for (n, [read, write]) in [[true, true], [true, false], [false, false], [false, false]].into_iter().enumerate()
        {
            let at = start.wrapping_add(n * PAGE + 5);
            for _ in 0..2 {
                assert_eq!(may(Access::Read, at, 8), read, "page {n}");
                assert_eq!(may(Access::Write, at, 8), write, "page {n}");
            }
        }
        assert!(!may(Access::Write, start.wrapping_add(PAGE - 4), 8));
        assert!(!may(Access::Read, core::ptr::null(), 1) && !may(Access::Read, usize::MAX as *const u8, 1));
        assert!(may(Access::Write, core::ptr::null(), 0));
    }
}
