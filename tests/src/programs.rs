//! The programs that the tests run, and the packages that bring them.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::artefacts::Artefacts;

/// Programs, and files by their paths, and the Debian or Ubuntu packages that hold them.
const PACKAGES: &[(&str, &str)] = &[
    ("iperf3", "iperf3"),
    ("sockperf", "sockperf"),
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
    ("curl", "curl"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("redis-cli", "redis-tools"),
    ("python3", "python3"),
    ("socat", "socat"),
    ("taskset", "util-linux"),
    ("setpriv", "util-linux"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cc", "build-essential"),
    ("apache2", "apache2"),
    ("haproxy", "haproxy"),
    ("lighttpd", "lighttpd"),
    ("ab", "apache2-utils"),
    ("caddy", "caddy"),
    ("varnishd", "varnish"),
    ("squid", "squid"),
    ("stunnel4", "stunnel4"),
    ("openssl", "openssl"),
    ("memcached", "memcached"),
    ("postgres", "postgresql"),
    ("pgbench", "postgresql-contrib"),
    ("psql", "postgresql-client"),
    ("pgbouncer", "pgbouncer"),
    ("mariadbd", "mariadb-server"),
    ("mariadb", "mariadb-client"),
    ("mosquitto", "mosquitto"),
    ("mosquitto_pub", "mosquitto-clients"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("rabbitmq-server", "rabbitmq-server"),
    ("epmd", "erlang-base"),
    ("/usr/lib/python3/dist-packages/pika/__init__.py", "python3-pika"),
    ("nats-server", "nats-server"),
    ("/usr/lib/dovecot/imap", "dovecot-imapd"),
    ("dovecot", "dovecot-core"),
    ("vsftpd", "vsftpd"),
    ("sshd", "openssh-server"),
    ("ssh", "openssh-client"),
    ("node", "nodejs"),
    ("java", "default-jdk-headless"),
    ("php-fpm", "php-fpm"),
    ("uvicorn", "uvicorn"),
    ("gunicorn", "gunicorn"),
    ("php", "php-cli"),
    ("perl", "perl"),
    ("ruby", "ruby"),
    ("git", "git"),
    ("busybox", "busybox"),
    ("rsync", "rsync"),
    ("stress-ng", "stress-ng"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("gcc", "gcc"),
    ("musl-gcc", "musl-tools"),
    ("libjemalloc.so.2", "libjemalloc2"),
    ("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
    ("libeatmydata.so", "libeatmydata1"),
    ("libfaketime.so.1", "libfaketime"),
    ("libstdbuf.so", "coreutils"),
    (LOADER_32, "gcc-multilib"),
    (LIBBPF, "libbpf-dev"),
];

/// Where the C library for 32-bit programs of this machine is, its loader is too.
const LOADER_32: &str = "ld-linux.so.2";
/// What programs for libbpf are compiled with.
const LIBBPF: &str = "/usr/include/bpf/libbpf.h";

/// Suites of the end-to-end tests and the programs without which they cannot run.
pub const SUITES: &[(&str, &[&str])] = &[
    ("iperf3", &["iperf3"]),
    ("sockperf", &["sockperf"]),
    ("nginx", &["nginx", "wrk", "curl"]),
    ("redis", &["redis-server", "redis-benchmark", "redis-cli", "python3"]),
    ("python", &["python3"]),
    ("socat", &["socat"]),
    ("transfer", &[]),
    ("addresses", &["python3", "ip"]),
    ("calls", &["python3"]),
    ("closing", &["python3"]),
    ("execs", &["python3", "bash", "perl"]),
    ("forks", &["python3"]),
    ("idle", &["python3"]),
    ("numbers", &["python3"]),
    ("offsets", &["python3"]),
    ("peers", &["python3"]),
    ("readers", &["python3"]),
    ("sets", &["python3"]),
    ("sharing_sets", &["python3"]),
    ("signals", &["python3"]),
    ("transfers", &["python3"]),
    ("tuples", &["python3"]),
    ("asked_for", &["python3"]),
    ("backs", &["python3", "busybox"]),
    ("backs_asleep", &["python3"]),
    ("back_kill", &["python3"]),
    ("bare_exec", &["python3"]),
    ("bare_receiver", &["python3"]),
    ("late", &["python3"]),
    ("syscall", &["cc"]),
    ("test", &["python3", "setpriv", "ss"]),
    (
        "preloads",
        &[
            "python3",
            "libjemalloc.so.2",
            "libtcmalloc_minimal.so.4",
            "libeatmydata.so",
            "libfaketime.so.1",
            "libstdbuf.so",
        ],
    ),
    ("by_hand", &["python3", "unshare", "mount"]),
    ("serves", &["python3"]),
    ("built", &["python3", "gcc"]),
    ("musl", &["python3", "musl-gcc"]),
    #[cfg(target_arch = "x86_64")]
    ("narrow", &["python3", "gcc", LOADER_32]),
    ("limits", &["python3"]),
    ("bpf", &["cc", LIBBPF]),
    ("soak", &["python3"]),
    ("kcm_load", &["cc"]),
    ("kcm_scenario", &["cc"]),
    ("kcm_moved", &["cc"]),
];

/// Programs of this crate, which are found beside the library.
const BUNDLED: [&str; 1] = ["tcp-pair"];

/// The package that holds a program.
pub fn package(program: &str) -> &str {
    PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package)
}

/// Whether a program is there.
pub fn installed(program: &str) -> bool {
    find(program).is_ok()
}

/// The path of a script of this crate.
pub fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "programs", name].iter().collect()
}

/// Where libraries are that programs run with, beside the directories for programs.
fn library_directories() -> Vec<PathBuf> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let places = ["lib/TRIPLET", "lib/TRIPLET/faketime", "lib", "lib64", "libexec/coreutils", "lib/TRIPLET/coreutils"];
    places.iter().map(|place| PathBuf::from("/usr").join(place.replace("TRIPLET", &triplet))).collect()
}

/// The path of a program, or of a library that one is to be run with.
///
/// # Errors
/// When it is not there; names the package that holds it.
pub fn find(program: &str) -> Result<PathBuf> {
    if BUNDLED.contains(&program) {
        return Artefacts::locate()?.get(program);
    }
    // The system's directories come first: version managers put scripts of the same names before them in PATH.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(PathBuf::from);
    let directories = system.into_iter().chain(library_directories()).chain(std::env::split_paths(&path));
    let found = directories.map(|dir| dir.join(program));
    match found.chain(versioned(program)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{program} is not installed: apt-get install {}", package(program)),
    }
}

/// Where Debian puts programs of which it can install several versions: a directory for each version of PostgreSQL, and
/// the version at the end of the name for PHP.
fn versioned(program: &str) -> impl Iterator<Item = PathBuf> {
    let entries = |dir| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let databases = entries("/usr/lib/postgresql").map(move |version| version.join("bin").join(program));
    let is_version = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '.');
    let named = move |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix(program)).is_some_and(is_version)
    };
    databases.chain(entries("/usr/sbin").filter(named))
}
