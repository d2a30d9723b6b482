//! The look at an ELF file: for which machine it is, who loads it, and who makes its system calls.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::elf::{ELFMAG, ET_DYN, FileHeader32, FileHeader64, Machine};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef};

/// Bytes of a file that decide how the kernel runs it (its `BINPRM_BUF_SIZE`).
pub const HEAD_BYTES: u64 = 256;

/// Name of the notes that the Go linker leaves, in libraries and programs alike.
const GO_NOTE: &[u8] = b"Go";

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

/// Whether a file that starts so is an ELF file.
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(&ELFMAG)
}

/// Looks at the ELF file `path`.
///
/// # Errors
/// The file cannot be read, or is no proper ELF file.
pub fn look(path: &Path) -> io::Result<Elf> {
    let wide = head(path)?.get(4) == Some(&object::elf::ELFCLASS64.0);
    // Only the parts that are asked for are read: programs can be hundreds of megabytes long.
    let data = ReadCache::new(File::open(path)?);
    let elf =
        if wide { parse::<FileHeader64<Endianness>, _>(&data) } else { parse::<FileHeader32<Endianness>, _>(&data) };
    elf.map_err(io::Error::other)
}

fn parse<'data, Header: FileHeader, R: ReadRef<'data>>(data: R) -> object::Result<Elf> {
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let Machine(machine) = header.e_machine(endian);
    let abi = Abi { wide: header.is_class_64(), little_endian: header.is_little_endian(), machine };
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
