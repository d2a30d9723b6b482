//! Reading `union bpf_attr`, as `__sys_bpf` of Linux's `kernel/bpf/syscall.c` does.

use super::Answer;
use preloop_sys::Errno;
use preloop_sys::memory::Memory;
use preloop_uapi::bpf::{NAME_LEN, ProgLoad};

/// One call of the program.
pub(super) struct Call<'a> {
    /// The program's memory.
    pub(super) memory: Memory,
    /// Where its attributes are.
    pub(super) at: u64,
    /// How long they are.
    pub(super) size: u32,
    /// Makes the call as it stands.
    pub(super) kernel: &'a dyn Fn() -> Answer,
}

impl Call<'_> {
    /// The attributes, at most as many bytes as any command known here has.
    ///
    /// # Errors
    /// EFAULT; E2BIG for more than a page, and for what is not zero behind what is known.
    pub(super) fn attributes(&self) -> Result<Vec<u8>, Errno> {
        read(self.memory, self.at, self.size, ProgLoad::SIZE)
    }

    /// The first member, which most commands have a descriptor in.
    pub(super) fn first(&self) -> Option<i32> {
        let mut bytes = [0; 4];
        if self.size < 4 || self.memory.read(self.at, &mut bytes).is_err() {
            return None;
        }
        Some(i32::from_ne_bytes(bytes))
    }
}

/// A structure of the program's that may be longer than the `known` bytes, if the rest is zero.
///
/// # Errors
/// As [`Call::attributes`].
pub(super) fn read(memory: Memory, at: u64, size: u32, known: usize) -> Result<Vec<u8>, Errno> {
    const PAGE: u32 = 4096;
    if size > PAGE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0; size as usize];
    memory.read(at, &mut bytes)?;
    if bytes.iter().skip(known).any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    bytes.truncate(known);
    Ok(bytes)
}

/// Nothing is set behind the command's last member, which ends at `end` (`CHECK_ATTR`).
///
/// # Errors
/// EINVAL.
pub(super) fn ends_at(attributes: &[u8], end: usize) -> Result<(), Errno> {
    if attributes.iter().skip(end).all(|byte| *byte == 0) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// A name, cut behind its end and padded with zeros.
///
/// # Errors
/// EINVAL for a name without end, and for characters that no name has.
pub(super) fn name(from: [u8; NAME_LEN]) -> Result<[u8; NAME_LEN], Errno> {
    let end = from.iter().position(|byte| *byte == 0).ok_or(Errno::EINVAL)?;
    let mut name = [0; NAME_LEN];
    for (to, byte) in name.iter_mut().zip(&from[..end]) {
        if !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'.') {
            return Err(Errno::EINVAL);
        }
        *to = *byte;
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(text: &[u8]) -> [u8; NAME_LEN] {
        let mut name = [0; NAME_LEN];
        name[..text.len()].copy_from_slice(text);
        name
    }

    #[test]
    fn names() {
        for good in [&b""[..], b"a", b"_.Z09", b"fifteen_letters"] {
            assert_eq!(name(padded(good)), Ok(padded(good)));
        }
        assert_eq!(name(padded(b"a\0-")), Ok(padded(b"a")));
        for bad in [&b"a b"[..], b"a-b", b"\xc3\xa4", b"sixteen_letters_"] {
            assert_eq!(name(padded(bad)), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn what_is_set_behind_the_last_member() {
        assert_eq!(ends_at(&[1, 2, 0, 0], 2), Ok(()));
        assert_eq!(ends_at(&[1, 2, 0, 3], 2), Err(Errno::EINVAL));
        assert_eq!(ends_at(&[1], 2), Ok(()));
    }
}
