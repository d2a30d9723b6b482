//! `bpf(2)` as the library itself asks it: about programs and maps of the kernel's.

use crate::{Errno, Fd, call};
use preloop_uapi::bpf::{Elem, InfoByFd, MapInfo, ProgInfo, cmd};
use syscalls::{Sysno, syscall};

/// What a descriptor of the kernel's stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A program.
    Program,
    /// A map.
    Map,
    /// Neither.
    Other,
}

/// What `fd` stands for, by its name in `/proc`: the kernel's own calls take programs and maps alike.
pub fn kind(fd: Fd) -> Kind {
    let path = format!("/proc/thread-self/fd/{fd}\0");
    let mut name = [0u8; 32];
    // SAFETY: a C string, and so many writable bytes.
    let read = unsafe { syscall!(Sysno::readlinkat, libc::AT_FDCWD, path.as_ptr(), name.as_mut_ptr(), name.len()) };
    match read.ok().and_then(|len| name.get(..len)) {
        Some(b"anon_inode:bpf-prog") => Kind::Program,
        Some(b"anon_inode:bpf-map") => Kind::Map,
        _ => Kind::Other,
    }
}

/// # Safety
/// The addresses in `attr` must be good for what the command does with them.
unsafe fn bpf<const N: usize>(command: i32, attr: &mut [u8; N]) -> call::Answer {
    // SAFETY: `attr` is so many bytes; the rest is the caller's promise.
    unsafe { syscall!(Sysno::bpf, command, attr.as_mut_ptr(), N) }
}

/// # Safety
/// `info` must be so long as to take what the kernel writes for this kind of object, or be cut by its length.
unsafe fn info<const N: usize>(fd: Fd, info: &mut [u8; N]) -> Result<(), Errno> {
    let request = InfoByFd { bpf_fd: fd as u32, info_len: N as u32, info: info.as_mut_ptr().addr() as u64 };
    // SAFETY: the kernel writes at most `info_len` bytes to `info`.
    unsafe { bpf(cmd::OBJ_GET_INFO_BY_FD, &mut request.to_bytes()) }.map(drop)
}

/// What the kernel tells of a program; without its maps.
///
/// # Errors
/// Those of `bpf(2)`; EINVAL when it is no program.
pub fn program_info(fd: Fd) -> Result<ProgInfo, Errno> {
    if kind(fd) != Kind::Program {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; ProgInfo::SIZE];
    // SAFETY: all zeros, so nothing is asked for that goes elsewhere.
    unsafe { info(fd, &mut bytes) }?;
    Ok(ProgInfo::from_bytes(&bytes))
}

/// Whether the kernel has a program of this number; also when it would not say.
pub fn program_exists(id: u32) -> bool {
    // SAFETY: the command takes numbers only.
    match unsafe { bpf(cmd::PROG_GET_FD_BY_ID, &mut u64::from(id).to_ne_bytes()) } {
        Ok(fd) => {
            call::close(fd as Fd);
            true
        }
        Err(error) => error != Errno::ENOENT,
    }
}

/// A map of the kernel's, of kind array or hash. Whoever has it sees to it that the descriptor stays what it is.
#[derive(Debug)]
pub struct KernelMap {
    fd: Fd,
    info: MapInfo,
}

impl KernelMap {
    /// Asks the kernel what map it is.
    ///
    /// # Errors
    /// Those of `bpf(2)`; EINVAL when it is no map, or one of another kind.
    pub fn new(fd: Fd) -> Result<Self, Errno> {
        const HASH: u32 = 1;
        const ARRAY: u32 = 2;
        if kind(fd) != Kind::Map {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; MapInfo::SIZE];
        // SAFETY: the kernel cuts what it tells of a map to the length.
        unsafe { self::info(fd, &mut bytes) }?;
        let info = MapInfo::from_bytes(&bytes);
        if matches!(info.map_type, HASH | ARRAY) { Ok(Self { fd, info }) } else { Err(Errno::EINVAL) }
    }

    /// What the kernel told.
    pub fn info(&self) -> &MapInfo {
        &self.info
    }

    /// The value of a key.
    ///
    /// # Errors
    /// ENOENT, and what else `bpf(2)` answers.
    pub fn lookup(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut value = vec![0u8; self.info.value_size as usize];
        self.element(cmd::MAP_LOOKUP_ELEM, Some(key), &mut value)?;
        Ok(value)
    }

    /// The key after `key`, or the first.
    ///
    /// # Errors
    /// ENOENT after the last, and what else `bpf(2)` answers.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        let mut next = vec![0u8; self.info.key_size as usize];
        self.element(cmd::MAP_GET_NEXT_KEY, key, &mut next)?;
        Ok(next)
    }

    fn element(&self, command: i32, key: Option<&[u8]>, into: &mut [u8]) -> Result<(), Errno> {
        if key.is_some_and(|key| key.len() != self.info.key_size as usize) {
            return Err(Errno::EINVAL);
        }
        let key = key.map_or(0, |key| key.as_ptr().addr() as u64);
        let request = Elem { map_fd: self.fd as u32, key, value: into.as_mut_ptr().addr() as u64, ..Elem::default() };
        // SAFETY: keys and values of these kinds are as long as the kernel told, and `key` and `into` are that long.
        unsafe { bpf(command, &mut request.to_bytes()) }.map(drop)
    }
}
