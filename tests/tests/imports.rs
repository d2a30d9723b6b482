//! Every function through which real programs reach a socket is one that the library stands in front of, or one of which
//! is known why not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSymbol};
use preloop_tests::artefacts::Artefacts;
use preloop_tests::programs;

/// Functions of the C library that act on descriptors which may be sockets.
const FUNCTIONS: &str = "
    read write readv writev recv recvfrom recvmsg recvmmsg send sendto sendmsg sendmmsg sendfile sendfile64 splice tee
    vmsplice copy_file_range pread pread64 pwrite pwrite64 preadv preadv64 pwritev pwritev64 preadv2 preadv64v2 pwritev2
    pwritev64v2 __read_chk __pread_chk __pread64_chk __recv_chk __recvfrom_chk __poll_chk __ppoll_chk __read __write
    __send __connect __close __poll __select __fcntl __dup2 __fork __vfork __sigaction socket socketpair bind listen
    accept accept4 connect shutdown getsockopt setsockopt getsockname getpeername ioctl fcntl fcntl64 sockatmark isfdtype
    fstat fstat64 close close_range closefrom dup dup2 dup3 fclose fdopen freopen freopen64 fileno fileno_unlocked poll ppoll select pselect
    epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 fork _Fork vfork clone posix_spawn
    posix_spawnp execl execlp execle execv execve execvp execvpe fexecve execveat daemon
    forkpty system popen wordexp _exit _Exit quick_exit sigaction signal siginterrupt aio_read aio_read64 aio_write aio_write64
    lio_listio lio_listio64 dprintf vdprintf __dprintf_chk __vdprintf_chk
    syscall prctl setrlimit setrlimit64 prlimit prlimit64 io_uring_setup
";

/// Those that the kernel's socket, or the kernel, answers as it should, moved or not; and those of which docs/LIMITS.md
/// says what happens.
const LEFT_ALONE: [(&str, &str); 4] = [
    ("pread pread64 pwrite pwrite64 preadv preadv64 pwritev pwritev64 __pread_chk __pread64_chk", "ESPIPE on a socket"),
    ("tee vmsplice copy_file_range", "refuse sockets"),
    ("isfdtype fstat fstat64", "the kernel's socket knows"),
    ("quick_exit", "at_quick_exit(3) tells"),
];

/// Programs, and libraries that make the calls for programs.
const PROGRAMS: [&str; 9] =
    ["iperf3", "sockperf", "nginx", "wrk", "curl", "redis-server", "redis-benchmark", "python3", "socat"];

fn symbols(path: &Path, wanted: fn(&object::Symbol<'_, '_>) -> bool) -> Result<BTreeSet<String>> {
    let data = fs::read(path).with_context(|| path.display().to_string())?;
    let file = object::File::parse(&*data)?;
    let names = file.dynamic_symbols().filter(wanted).filter_map(|symbol| symbol.name().ok().map(str::to_owned));
    Ok(names.collect())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

fn exported() -> Result<BTreeSet<String>> {
    symbols(&Artefacts::locate()?.get("libpreloop.so")?, |symbol| symbol.is_definition())
}

#[test]
fn programs_find_every_function_that_they_import() -> Result<()> {
    let exported = exported()?;
    let known: BTreeSet<_> = words(FUNCTIONS).collect();
    let left: BTreeSet<_> = LEFT_ALONE.iter().flat_map(|(names, _)| words(names)).collect();
    for program in PROGRAMS {
        let Ok(path) = programs::find(program) else { continue };
        let imports = symbols(&path, |symbol| symbol.is_undefined())?;
        let gap: Vec<_> = imports
            .iter()
            .filter(|name| known.contains(name.as_str()) && !exported.contains(*name) && !left.contains(name.as_str()))
            .collect();
        ensure!(gap.is_empty(), "{program} imports {gap:?}, which the library does not stand in front of");
    }
    Ok(())
}

#[test]
fn every_function_is_exported_or_left_alone_for_a_reason() -> Result<()> {
    let exported = exported()?;
    let left: BTreeSet<_> = LEFT_ALONE.iter().flat_map(|(names, _)| words(names)).collect();
    // The one that no C library has: programs make it with syscall(2).
    let missing: Vec<_> = words(FUNCTIONS)
        .filter(|name| !exported.contains(*name) && !left.contains(name) && *name != "io_uring_setup")
        .collect();
    ensure!(missing.is_empty(), "neither exported nor left alone: {missing:?}");
    let both: Vec<_> = left.iter().filter(|name| exported.contains(**name)).collect();
    ensure!(both.is_empty(), "exported and left alone: {both:?}");
    Ok(())
}
