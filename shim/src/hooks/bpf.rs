//! bpf(2), which the C library has no function for: programs call it by number.

use crate::bpf;
use core::ffi::{c_int, c_long, c_uint};
use preloop_sys::memory::Memory;
use preloop_sys::{errno, real};

/// bpf(2).
///
/// # Safety
/// As in C.
pub(super) unsafe fn bpf(command: c_int, attributes: usize, size: c_uint) -> c_long {
    let kernel = || {
        // SAFETY: the program's own call.
        let answer = unsafe { real::syscall(libc::SYS_bpf, command as _, attributes as _, size.into(), 0, 0, 0) };
        if answer < 0 { Err(errno::get()) } else { Ok(answer as usize) }
    };
    // SAFETY: the attributes and what they point to are the program's, for this call.
    let memory = unsafe { Memory::of_this_call() };
    match bpf::call(command, attributes as u64, size, memory, &kernel) {
        Ok(answer) => answer as c_long,
        Err(code) => {
            errno::set(code);
            -1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::{Loaded, program};
    use preloop_parsers::insn::{Insn, alu, class, jmp, mode, pseudo, size};
    use preloop_parsers::{Fields, Parser};
    use preloop_sys::{Errno, Fd, call};
    use preloop_uapi::bpf::{Elem, MapCreate, ProgLoad, SOCKET_FILTER, cmd};

    type Kernel<'a> = &'a dyn Fn() -> Result<usize, Errno>;

    /// A kernel that lets nobody.
    const STRICT: Kernel<'static> = &|| Err(Errno::EPERM);

    fn ask<const N: usize>(command: c_int, attributes: &mut [u8; N], kernel: Kernel<'_>) -> Result<usize, Errno> {
        // SAFETY: the attributes point to memory of the tests, which outlives the call.
        let memory = unsafe { Memory::of_this_call() };
        bpf::answer(command, attributes.as_mut_ptr().expose_provenance() as u64, N as u32, memory, kernel)
    }

    /// The kernel itself, where it lets this process, and otherwise the strict one.
    fn ask_real<const N: usize>(command: c_int, attributes: &mut [u8; N]) -> Result<usize, Errno> {
        let at = attributes.as_mut_ptr().expose_provenance();
        ask(command, attributes, &|| {
            // SAFETY: as in `ask`.
            let answer = unsafe { libc::syscall(libc::SYS_bpf, command, at, N) };
            if answer < 0 { Err(errno::get()) } else { Ok(answer as usize) }
        })
    }

    fn address<T>(of: &T) -> u64 {
        core::ptr::from_ref(of).expose_provenance() as u64
    }

    fn array() -> MapCreate {
        MapCreate { map_type: 2, key_size: 4, value_size: 4, max_entries: 2, ..MapCreate::default() }
    }

    fn update(map: Fd, value: u32, real: bool) {
        let elem = Elem { map_fd: map as u32, key: address(&1u32), value: address(&value), ..Elem::default() };
        let mut bytes = elem.to_bytes();
        let done = if real {
            ask_real(cmd::MAP_UPDATE_ELEM, &mut bytes)
        } else {
            ask(cmd::MAP_UPDATE_ELEM, &mut bytes, STRICT)
        };
        assert_eq!(done, Ok(0));
    }

    fn lookup(map: Fd) -> u32 {
        let value = 0u32;
        let elem = Elem { map_fd: map as u32, key: address(&1u32), value: address(&value), ..Elem::default() };
        assert_eq!(ask_real(cmd::MAP_LOOKUP_ELEM, &mut elem.to_bytes()), Ok(0));
        core::hint::black_box(value)
    }

    /// Adds one to element 1 of the map, and returns what it was before.
    fn counts(map: Fd) -> Vec<[u8; 8]> {
        let insn = |code, dst, src, off, imm| Insn { code, dst, src, off, imm }.to_bytes();
        vec![
            insn(class::ST | mode::MEM | size::W, 10, 0, -4, 1),
            insn(class::ALU64 | alu::MOV | 8, 2, 10, 0, 0),
            insn(class::ALU64 | alu::ADD, 2, 0, 0, -4),
            insn(class::LD | mode::IMM | size::DW, 1, pseudo::MAP_FD, 0, map),
            insn(0, 0, 0, 0, 0),
            insn(class::JMP | jmp::CALL, 0, 0, 0, 1),
            insn(class::JMP | jmp::JNE, 0, 0, 1, 0),
            insn(class::JMP | jmp::EXIT, 0, 0, 0, 0),
            insn(class::LDX | mode::MEM | size::W, 1, 0, 0, 0),
            insn(class::ALU64 | alu::MOV | 8, 2, 1, 0, 0),
            insn(class::ALU64 | alu::ADD, 2, 0, 0, 1),
            insn(class::STX | mode::MEM | size::W, 0, 2, 0, 0),
            insn(class::ALU64 | alu::MOV | 8, 0, 1, 0, 0),
            insn(class::JMP | jmp::EXIT, 0, 0, 0, 0),
        ]
    }

    fn load_attributes(insns: &[[u8; 8]]) -> ProgLoad {
        let at = insns.as_ptr().expose_provenance() as u64;
        let license = address(b"MIT\0");
        let (prog_type, insn_cnt) = (SOCKET_FILTER, insns.len() as u32);
        ProgLoad {
            prog_type,
            insn_cnt,
            insns: at,
            license,
            prog_name: *b"counts\0\0\0\0\0\0\0\0\0\0",
            ..ProgLoad::default()
        }
    }

    fn run(loaded: &Loaded) -> u32 {
        loaded.program.run(&b""[..], &Fields::default()).expect("no fault")
    }

    fn run_elsewhere(loaded: &Loaded) -> u32 {
        let parser = Parser::from_bytes(&loaded.parser).expect("a parser");
        assert_eq!(parser.name, "counts");
        parser.load().expect("a program").run(&b""[..], &Fields::default()).expect("no fault")
    }

    #[test]
    fn a_stand_in_runs_with_the_maps_of_this_process() {
        let map = ask(cmd::MAP_CREATE, &mut array().to_bytes(), STRICT).expect("a map") as Fd;
        let filter =
            ask(cmd::PROG_LOAD, &mut load_attributes(&counts(map)).to_bytes(), STRICT).expect("a program") as Fd;
        update(map, 7, false);
        let loaded = program(filter).expect("loaded");
        assert_eq!([run(&loaded), run(&loaded), lookup(map)], [7, 8, 9]);
        update(map, 20, false);
        let own = bpf::of_parser(&Parser::from_bytes(&loaded.parser).expect("a parser")).expect("loaded");
        assert_eq!(own.run(&b""[..], &Fields::default()), Ok(7), "as it was then, and in a map of its own");
        call::close(map);
        // A program holds its maps.
        assert_eq!(run(&loaded), 20);
        let again = program(filter).expect("loaded again");
        assert_eq!([run(&again), run(&loaded), run_elsewhere(&again)], [21, 22, 21], "the last as it was then");
        call::close(filter);
        assert_eq!(program(filter).expect_err("closed"), Errno::EBADF);
    }

    #[test]
    fn the_kernels_program_runs_with_twins_of_its_maps() {
        let map = ask_real(cmd::MAP_CREATE, &mut array().to_bytes()).expect("a map") as Fd;
        let filter = ask_real(cmd::PROG_LOAD, &mut load_attributes(&counts(map)).to_bytes()).expect("a program") as Fd;
        update(map, 7, true);
        let loaded = program(filter).expect("loaded");
        assert_eq!([run(&loaded), run(&loaded), lookup(map)], [7, 8, 9]);
        update(map, 20, true);
        assert_eq!([run(&loaded), run_elsewhere(&program(filter).expect("again"))], [20, 21]);
        call::close(map);
        call::close(filter);
    }

    #[test]
    fn what_is_no_socket_filter() {
        let map = ask(cmd::MAP_CREATE, &mut array().to_bytes(), STRICT).expect("a map") as Fd;
        let memfd = call::memfd(c"no stand-in").expect("a memfd");
        for (fd, expected) in [(map, Errno::EINVAL), (memfd, Errno::EINVAL), (0, Errno::EINVAL), (-1, Errno::EBADF)] {
            assert_eq!(program(fd).expect_err("no program"), expected);
        }
        let (good, bad) = (counts(map), counts(-1));
        let mut other = ProgLoad { prog_type: 3, ..load_attributes(&good) }.to_bytes();
        assert_eq!(ask(cmd::PROG_LOAD, &mut other, STRICT), Err(Errno::EPERM));
        for refused in [Errno::EACCES, Errno::EINVAL, Errno::ENOMEM] {
            let mut filter = load_attributes(&bad).to_bytes();
            assert_eq!(ask(cmd::PROG_LOAD, &mut filter, &|| Err(refused)), Err(refused), "the kernel's word counts");
        }
        // Except about what the kernel knows nothing of.
        let mut filter = load_attributes(&good).to_bytes();
        assert!(ask(cmd::PROG_LOAD, &mut filter, &|| Err(Errno::EINVAL)).is_ok());
        call::close(map);
        call::close(memfd);
    }

    #[test]
    fn a_forged_stand_in_is_checked() {
        let map = ask(cmd::MAP_CREATE, &mut array().to_bytes(), STRICT).expect("a map") as Fd;
        let filter =
            ask(cmd::PROG_LOAD, &mut load_attributes(&counts(map)).to_bytes(), STRICT).expect("a program") as Fd;
        let mut good = vec![0; 4096];
        let len = call::pread(filter, &mut good, 0).expect("read");
        good.truncate(len);
        for at in 0..len {
            let mut bytes = good.clone();
            bytes[at] ^= 0x81;
            let forged = call::memfd(c"forged").expect("a memfd");
            assert_eq!(call::write(forged, &bytes), Ok(len));
            assert_eq!(program(forged).expect_err("not sealed"), Errno::EINVAL);
            call::seal(forged, 0xf).expect("sealed");
            if let Ok(loaded) = program(forged) {
                let _ = loaded.program.run(&b"message"[..], &Fields::default());
            }
            call::close(forged);
        }
    }
}
