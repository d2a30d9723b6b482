//! bpf(2), fact by fact (`tests/bpf/*.c`): what loads, which maps can be made, every error, and what libbpf makes of an
//! object file. The facts are the kernel's own for root, line by line, both under the library, where the kernel answers
//! root, and for nobody, whom it lets do nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::scene::{Scene, User};
use preloop_tests::world::World;
use preloop_tests::{programs, verdict};

const NOBODY: User = User { uid: 65534, gid: 65534 };

/// What differs without privileges, on purpose: fact, value, and the reason, which docs/KCM.md and docs/LIMITS.md give at
/// more length.
const PERMITTED: [(&str, &str, &str); 9] = [
    ("programs.type 9999", "-1/EPERM", OTHER_TYPES),
    ("programs.unspecified type", "-1/EPERM", OTHER_TYPES),
    ("programs.size 0", "-1/EPERM", OTHER_TYPES),
    ("programs.5000 instructions", "-1/E2BIG", "the kernel's own limit for those without privileges"),
    ("programs.returns a pointer", "-1/EACCES", "as in the kernel for those without privileges"),
    ("maps.array, value of 17 MiB", "-1/E2BIG", "a map has at most 16 MiB"),
    ("descriptors.what the child stored", "-1/ENOENT", OWN_VALUES),
    ("executed.what it held", "-1/ENOENT 0", OWN_VALUES),
    ("libbpf.first_byte", "ok, type 1, name first_byte, maps 0", "BPF_PROG_BIND_MAP is the kernel's"),
];
const OTHER_TYPES: &str = "of other types of programs the kernel's refusal stands";
const OWN_VALUES: &str = "each process has its own values";

/// Named as `verify` skips it for want of libbpf.
mod bpf {
    #[test]
    fn facts() -> std::process::ExitCode {
        super::play("facts", &["main.c", "programs.c", "maps.c", "descriptors.c"], &[])
    }

    #[test]
    fn libbpf() -> std::process::ExitCode {
        super::play("libbpf", &["libbpf.c"], &["-lbpf"])
    }
}

fn play(program: &str, sources: &[&str], libraries: &[&str]) -> ExitCode {
    verdict::of(compare(program, sources, libraries).context(program.to_owned()))
}

fn compare(program: &str, sources: &[&str], libraries: &[&str]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: whoever is not root cannot see what the kernel says");
        return Ok(());
    }
    let program = compile(program, sources, libraries)?;
    let kernel = facts(&program, World::Tcp, None)?;
    if kernel.contains("programs.good: -1/EPERM") || kernel.contains("libbpf.load: EPERM") {
        eprintln!("skipped: the kernel lets root load nothing here");
        return Ok(());
    }
    let wrong = [(None, "root"), (Some(NOBODY), "nobody")].map(|(user, name)| {
        let found = facts(&program, World::Both, user)?;
        Ok(differences(&kernel, &found, user.is_some()).into_iter().map(|line| format!("\n{name}: {line}")).collect())
    });
    let wrong = wrong.into_iter().collect::<Result<Vec<String>>>()?.concat();
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

fn differences(kernel: &str, found: &str, unprivileged: bool) -> Vec<String> {
    let mut found: Vec<_> = found.lines().collect();
    let mut wrong = Vec::new();
    for line in kernel.lines().filter(|line| known_to_this_kernel(line)) {
        let name = line.split_once(": ").map_or(line, |(name, _)| name);
        let permitted = PERMITTED.iter().find(|(fact, ..)| unprivileged && *fact == name);
        let wanted = permitted.map_or_else(|| line.to_owned(), |(fact, value, _)| format!("{fact}: {value}"));
        match found.iter().position(|other| *other == wanted) {
            Some(at) => drop(found.remove(at)),
            None => {
                wrong.push(format!("not {wanted}{}", permitted.map_or(String::new(), |(.., why)| format!(" ({why})"))))
            }
        }
    }
    wrong.extend(found.into_iter().filter(|line| known_to_this_kernel(line)).map(|line| format!("but {line}")));
    wrong
}

/// The log is that of Linux 6.4 and later: before, it was cut at its end, and had at least 128 bytes.
fn known_to_this_kernel(fact: &str) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    !fact.starts_with("logs.") || (numbers.next(), numbers.next()) >= (Some(6), Some(4))
}

/// What the program states, without the library or with it.
fn facts(program: &Path, world: World, user: Option<User>) -> Result<String> {
    const LIMIT: Duration = Duration::from_secs(60);
    let object: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../bpf-parsers/tests/objects/maps.o"].iter().collect();
    let mut scene = Scene::new(world, LIMIT)?;
    if let Some(user) = user {
        scene.run_as(user)?;
    }
    Ok(scene.client("env").arg("PRELOOP_SERVES=kcm").arg(program).arg(object).run()?.stdout)
}

fn compile(program: &str, sources: &[&str], libraries: &[&str]) -> Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bpf");
    std::fs::create_dir_all(&directory).context("a directory for the programs")?;
    let target = directory.join(program);
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(programs::find("cc")?);
    command.args("-std=gnu11 -O1 -g -Wall -Wextra -Werror -pthread".split(' '));
    command.args(sources.iter().map(|source| own.join("bpf").join(source)));
    if libraries.is_empty() {
        command.args(["support.c", "programs.c"].map(|source| own.join("conformance").join(source)));
    }
    let result = command.arg("-o").arg(&target).args(libraries).output().context("starting cc")?;
    ensure!(result.status.success(), "cc: {}", String::from_utf8_lossy(&result.stderr));
    Ok(target)
}
