//! The program's memory, at addresses that may be bad: `EFAULT` as in the kernel, never a signal.

use crate::{Errno, Fd, call};
use core::ffi::c_int;
use syscalls::{Sysno, syscall};

/// Leave to read and write where the program's addresses point.
#[derive(Clone, Copy, Debug)]
pub struct Memory(());

/// As `process_vm_readv(2)` and `process_vm_writev(2)` do it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Memory {
    /// For one call of the program.
    ///
    /// # Safety
    /// Only addresses that the program handed to this call may be used, for what the call does with them.
    pub unsafe fn of_this_call() -> Self {
        Self(())
    }

    /// Copies bytes from the program.
    ///
    /// # Errors
    /// EFAULT; EMFILE and its like where a pipe is needed.
    pub fn read(self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        copy(Way::In, address, into.as_mut_ptr(), into.len())
    }

    /// Copies bytes to the program.
    ///
    /// # Errors
    /// As [`Memory::read`].
    pub fn write(self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        copy(Way::Out, address, bytes.as_ptr().cast_mut(), bytes.len())
    }

    /// A C string, cut after `most` bytes; not a byte behind its end is looked at.
    ///
    /// # Errors
    /// As [`Memory::read`].
    pub fn read_string(self, address: u64, most: usize) -> Result<Vec<u8>, Errno> {
        /// Pages may be larger, not smaller.
        const PAGE: u64 = 4096;
        let mut string = Vec::new();
        while string.len() < most {
            let at = address.wrapping_add(string.len() as u64);
            let rest = (PAGE - at % PAGE).min((most - string.len()) as u64) as usize;
            let mut part = vec![0; rest];
            self.read(at, &mut part)?;
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                string.extend(&part[..end]);
                break;
            }
            string.append(&mut part);
        }
        Ok(string)
    }
}

fn copy(way: Way, theirs: u64, ours: *mut u8, len: usize) -> Result<(), Errno> {
    if len == 0 {
        return Ok(());
    }
    let local = libc::iovec { iov_base: ours.cast(), iov_len: len };
    let remote = libc::iovec { iov_base: core::ptr::with_exposed_provenance_mut(theirs as usize), iov_len: len };
    let number = if way == Way::In { Sysno::process_vm_readv } else { Sysno::process_vm_writev };
    // SAFETY: gettid takes nothing. `local` is memory of ours, writable for `Way::In`; `remote` is checked by the kernel,
    // and the program's to be used so, by `Memory`'s contract.
    let copied = unsafe {
        let thread = syscall!(Sysno::gettid)?;
        syscall!(number, thread, &raw const local, 1, &raw const remote, 1, 0)
    };
    match copied {
        Ok(copied) if copied == len => Ok(()),
        Ok(_) | Err(Errno::EFAULT) => Err(Errno::EFAULT),
        // A kernel without these calls, or a filter that forbids them.
        Err(_) => copy_by_pipe(way, theirs, ours, len),
    }
}

/// What fits every pipe.
const PIECE: usize = 4096;

fn copy_by_pipe(way: Way, theirs: u64, ours: *mut u8, len: usize) -> Result<(), Errno> {
    let mut ends: [c_int; 2] = [-1; 2];
    // SAFETY: two writable numbers.
    unsafe { syscall!(Sysno::pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) }?;
    let [output, input]: [Fd; 2] = ends;
    let theirs: *mut u8 = core::ptr::with_exposed_provenance_mut(theirs as usize);
    let mut done = 0;
    let mut answer = Ok(());
    while done < len && answer.is_ok() {
        let piece = PIECE.min(len - done);
        let (theirs, ours) = (theirs.wrapping_add(done), ours.wrapping_add(done));
        let (from, to) = if way == Way::In { (theirs, ours) } else { (ours, theirs) };
        // SAFETY: as in `copy`: the kernel checks the program's side, and `ours` has `len` bytes.
        answer = unsafe { call::write_at(input, from, piece).and_then(|sent| call::read_at(output, to, sent)) }
            .and_then(|copied| if copied == piece { Ok(()) } else { Err(Errno::EFAULT) });
        done += piece;
    }
    call::close(output);
    call::close(input);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> u64 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, whose second page is taken away again.
        unsafe {
            let start = libc::mmap(core::ptr::null_mut(), 8192, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            libc::munmap(start.byte_add(4096), 4096);
            start.expose_provenance() as u64
        }
    }

    #[test]
    fn good_and_bad_addresses() {
        // SAFETY: memory of this test's own, and addresses where there is none.
        let memory = unsafe { Memory::of_this_call() };
        let start = pages();
        let mut bytes = [0; 4];
        assert_eq!(memory.write(start + 4092, b"abcd"), Ok(()));
        assert_eq!(memory.read(start + 4092, &mut bytes), Ok(()));
        assert_eq!(&bytes, b"abcd");
        for bad in [0, 8, start + 4093, start + 4096, u64::MAX, u64::MAX << 40] {
            assert_eq!(memory.read(bad, &mut bytes), Err(Errno::EFAULT), "{bad:x}");
            assert_eq!(memory.write(bad, b"abcd"), Err(Errno::EFAULT), "{bad:x}");
            assert_eq!(memory.read(bad, &mut []), Ok(()), "{bad:x}");
        }
        // What fits was written before the address was bad, as the kernel does it.
        assert_eq!(memory.write(start + 4092, b"abcd"), Ok(()));
        assert_eq!(memory.read_string(start + 4092, 3), Ok(b"abc".to_vec()));
        assert_eq!(memory.read_string(start + 4092, 5), Err(Errno::EFAULT));
        assert_eq!(memory.write(start + 4095, &[0]), Ok(()));
        assert_eq!(memory.read_string(start + 4092, 99), Ok(b"abc".to_vec()));
    }

    #[test]
    fn the_same_through_a_pipe() {
        let start = pages();
        let mut bytes = *b"0123456789";
        assert_eq!(copy_by_pipe(Way::Out, start + 4000, bytes.as_mut_ptr(), 10), Ok(()));
        bytes.fill(0);
        assert_eq!(copy_by_pipe(Way::In, start + 4000, bytes.as_mut_ptr(), 10), Ok(()));
        assert_eq!(&bytes, b"0123456789");
        for bad in [8, start + 4090, start + 4096] {
            for way in [Way::In, Way::Out] {
                assert_eq!(copy_by_pipe(way, bad, bytes.as_mut_ptr(), 10), Err(Errno::EFAULT), "{bad:x}");
            }
        }
    }
}
