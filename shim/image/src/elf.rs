//! The look at an ELF file: for which machine it is, who loads it, and who makes its system calls.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::elf::{ELFMAG, ET_DYN, FileHeader32, FileHeader64, Machine};
use object::read::elf::{FileHeader, ProgramHeader, Sym};
use object::{Endianness, ReadCache, ReadRef};
use rustix::fs::{Mode, OFlags};

/// Bytes of a file that decide how the kernel runs it (its `BINPRM_BUF_SIZE`).
pub const HEAD_BYTES: u64 = 256;

/// Name of the notes that the Go linker leaves, in libraries and programs alike.
const GO_NOTE: &[u8] = b"Go";

/// Functions of the C library that read or write a stream of wide characters, or make it one.
const WIDE: [&[u8]; 24] = [
    b"fgetwc",
    b"getwc",
    b"getwchar",
    b"fgetws",
    b"fputwc",
    b"putwc",
    b"putwchar",
    b"fputws",
    b"ungetwc",
    b"fwide",
    b"wprintf",
    b"fwprintf",
    b"vwprintf",
    b"vfwprintf",
    b"wscanf",
    b"fwscanf",
    b"vwscanf",
    b"vfwscanf",
    b"fgetwc_unlocked",
    b"getwc_unlocked",
    b"fputwc_unlocked",
    b"putwc_unlocked",
    b"__fwprintf_chk",
    b"__wprintf_chk",
];
/// How the names of C++ streams begin: std's with libstdc++, and with libc++.
const CXX: [&[u8]; 4] = [b"_ZNSt8ios_base", b"_ZSt3cin", b"_ZSt4c", b"_ZNSt3__1"];

/// Files of one kind can be loaded into one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abi {
    /// 64-bit class, as opposed to 32-bit.
    pub wide: bool,
    /// Little-endian.
    pub little_endian: bool,
    /// `e_machine`.
    pub machine: u16,
}

/// What the header and the program headers tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Elf {
    /// For which kind of process the file is.
    pub abi: Abi,
    /// Position-independent: a library, or a program that could be one.
    pub shared: bool,
    /// `PT_INTERP`: the dynamic loader that the file asks for.
    pub loader: Option<PathBuf>,
    /// Written in Go, whose runtime makes system calls without the C library.
    pub go: bool,
}

/// The first bytes of a file.
///
/// # Errors
/// Whatever opening or reading the file meets.
pub fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

/// Bytes in which the program headers of a file and the name of its loader usually lie.
pub(crate) const PAGE: usize = 4096;

/// Reads the first bytes of a file; answers how many there are. Allocates nothing.
pub(crate) fn first_page(path: &OsStr, page: &mut [u8; PAGE]) -> Option<usize> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    rustix::io::pread(&file, page, 0).ok()
}

/// For which processes an ELF file is that starts so, and its loader as far as that stands there.
pub(crate) fn loader_in(page: &[u8]) -> Option<(Abi, Option<&OsStr>)> {
    if page.get(4) == Some(&object::elf::ELFCLASS64.0) {
        loader_of::<FileHeader64<Endianness>>(page)
    } else {
        loader_of::<FileHeader32<Endianness>>(page)
    }
}

fn loader_of<Header: FileHeader>(page: &[u8]) -> Option<(Abi, Option<&OsStr>)> {
    let header = Header::parse(page).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, page).ok().unwrap_or_default();
    let loader = segments.iter().find_map(|segment| segment.interpreter(endian, page).ok()?);
    Some((abi_of(header, endian), loader.map(OsStr::from_bytes)))
}

fn abi_of<Header: FileHeader>(header: &Header, endian: Header::Endian) -> Abi {
    let Machine(machine) = header.e_machine(endian);
    Abi { wide: header.is_class_64(), little_endian: header.is_little_endian(), machine }
}

/// Whether a file that starts so is an ELF file.
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(&ELFMAG)
}

/// Looks at the ELF file `path`.
///
/// # Errors
/// The file cannot be read, or is no proper ELF file.
pub fn look(path: &Path) -> io::Result<Elf> {
    let data = contents(path)?;
    let elf = if is_wide(path)? {
        parse::<FileHeader64<Endianness>, _>(&data)
    } else {
        parse::<FileHeader32<Endianness>, _>(&data)
    };
    elf.map_err(io::Error::other)
}

/// Whether the standard streams of the ELF file `path` can be made anew: of wide characters, or of C++, they keep what
/// they were made of. Reads its dynamic symbols.
///
/// # Errors
/// As [`look`].
pub fn has_plain_streams(path: &Path) -> io::Result<bool> {
    let data = contents(path)?;
    let others = if is_wide(path)? {
        has_other_streams::<FileHeader64<Endianness>, _>(&data)
    } else {
        has_other_streams::<FileHeader32<Endianness>, _>(&data)
    };
    others.map(|others| !others).map_err(io::Error::other)
}

/// Only the parts that are asked for are read: programs can be hundreds of megabytes long.
fn contents(path: &Path) -> io::Result<ReadCache<File>> {
    File::open(path).map(ReadCache::new)
}

fn is_wide(path: &Path) -> io::Result<bool> {
    Ok(head(path)?.get(4) == Some(&object::elf::ELFCLASS64.0))
}

fn has_other_streams<'data, Header: FileHeader, R: ReadRef<'data>>(data: R) -> object::Result<bool> {
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let symbols = header.sections(endian, data)?.symbols(endian, data, object::elf::SHT_DYNSYM)?;
    for symbol in symbols.iter() {
        let name = symbol.name(endian, symbols.strings())?;
        if WIDE.contains(&name) || CXX.iter().any(|start| name.starts_with(start)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parse<'data, Header: FileHeader, R: ReadRef<'data>>(data: R) -> object::Result<Elf> {
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let abi = abi_of(header, endian);
    let mut elf = Elf { abi, shared: header.e_type(endian) == ET_DYN, loader: None, go: false };
    for segment in header.program_headers(endian, data)? {
        if let Some(loader) = segment.interpreter(endian, data)? {
            elf.loader = Some(PathBuf::from(OsStr::from_bytes(loader)));
        }
        // A note that cannot be read tells nothing: it is no reason to distrust the file.
        if let Ok(Some(mut notes)) = segment.notes(endian, data) {
            while let Ok(Some(note)) = notes.next() {
                elf.go |= note.name() == GO_NOTE;
            }
        }
    }
    Ok(elf)
}
