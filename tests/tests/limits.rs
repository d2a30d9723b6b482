//! Descriptors and memory that run out, descriptors that may be many, and how many the library has of its own.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::launch::Launch;
use preloop_tests::process::{Finished, Process};
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{ports, procfs, programs, verdict, wait};

/// Named as `verify` skips it for want of Python.
mod limits {
    macro_rules! tests {
        ($($test:ident),+ $(,)?) => {$(
            #[test]
            fn $test() -> std::process::ExitCode {
                super::play(super::$test)
            }
        )+};
    }

    tests!(
        few_for_the_server,
        few_for_the_client,
        few_without_answers,
        little_memory,
        many,
        own_descriptors,
        bells_of_many_threads
    );
}

/// What the library prints, with `SMC_DEBUG=1`, of a connection that moves.
const MOVED: &str = "runs on SMC-D";
/// Descriptors of the library's own in a process: the arena's memfd, the socket it asks the kernel with, the one it rings
/// from, and the bells of one epoll set and of the main thread.
const FIXED: usize = 5;
const WITHOUT_LIMIT: &str = "";
const FEW: &str = "ulimit -n 256;";

fn play(test: fn() -> Result<()>) -> ExitCode {
    verdict::of(test())
}

fn scene(world: World) -> Result<Scene> {
    const LIMIT: Duration = Duration::from_secs(60);
    Scene::new(world, LIMIT)
}

/// A script behind a shell's commands.
fn script<'a>(launch: Launch<'a>, commands: &str, name: &str, rest: &str) -> Result<Launch<'a>> {
    let (python, script) = (programs::find("python3")?, programs::script(&format!("limits/{name}")));
    let line = format!("{commands} export SMC_DEBUG=1; exec {} -B {} {rest}", python.display(), script.display());
    Ok(launch.args(["-c", &line]))
}

fn server(scene: &Scene, commands: &str, port: u16) -> Result<Process> {
    listener(scene, commands, "server", port)
}

fn listener(scene: &Scene, commands: &str, role: &str, port: u16) -> Result<Process> {
    let mut server = script(scene.server("sh"), commands, "full.py", &format!("{role} {port}"))?.start()?;
    wait::until("the server listens", Duration::from_secs(15), || {
        ensure!(!server.has_ended()?, "it ended early:\n{}", server.output());
        Ok(procfs::listens(server.pid(), port))
    })?;
    Ok(server)
}

fn client<'a>(scene: &'a Scene, commands: &str, port: u16, count: usize) -> Result<Launch<'a>> {
    script(scene.client("sh"), commands, "full.py", &format!("client {port} {count}"))
}

fn moved(end: &Finished) -> usize {
    end.stderr.lines().filter(|line| line.ends_with(MOVED)).count()
}

fn held(end: &Finished) -> Result<usize> {
    let count = end.stdout.lines().find_map(|line| line.strip_prefix("holds "));
    count.with_context(|| format!("{end:?}"))?.parse().context("a number")
}

/// How many connections a client held at most, and how many of them moved.
fn exhausted(world: World, for_server: &str, for_client: &str) -> Result<(usize, usize)> {
    /// More than 256 descriptors allow.
    const COUNT: usize = 300;
    let scene = scene(world)?;
    let port = ports::free()?;
    let mut server = server(&scene, for_server, port)?;
    let client = client(&scene, for_client, port, COUNT)?.run()?;
    ensure!(client.stdout.ends_with("verified\n"), "{client:?}");
    ensure!(!server.has_ended()?, "the server died\n{}", server.output());
    Ok((held(&client)?, moved(&client)))
}

/// As many connections as without the library, but for the descriptors that this has of its own; those with which
/// descriptors run out stay on TCP.
fn few(for_server: &str, for_client: &str) -> Result<()> {
    /// Connections whose handshakes find no descriptor, or have to give theirs back.
    const LAST: usize = 5;
    let (native, _) = exhausted(World::Tcp, for_server, for_client)?;
    let (held, moved) = exhausted(World::Both, for_server, for_client)?;
    ensure!(held + FIXED >= native, "{held} connections, and {native} without the library");
    ensure!(moved + LAST >= held, "{moved} of {held} connections moved");
    Ok(())
}

fn few_for_the_server() -> Result<()> {
    few(FEW, WITHOUT_LIMIT)
}

fn few_for_the_client() -> Result<()> {
    few(WITHOUT_LIMIT, FEW)
}

/// Handshakes that nobody answers have a descriptor each, which a program that needs it gets.
fn few_without_answers() -> Result<()> {
    let [native, held] = [World::Tcp, World::Both].map(|world| {
        let scene = scene(world)?;
        let port = ports::free()?;
        let _server = listener(&scene, WITHOUT_LIMIT, "mute", port)?;
        held(&script(scene.client("sh"), FEW, "full.py", &format!("lines {port} 300"))?.run()?)
    });
    let (native, held) = (native?, held?);
    ensure!(held + FIXED >= native, "{held} connections, and {native} without the library");
    Ok(())
}

/// Address space for the program and for no, one or two link groups: what finds no room stays on TCP.
fn little_memory() -> Result<()> {
    const CONNECTIONS: usize = 20;
    for megabytes in [100, 200, 300, 400, 600] {
        let limit = format!("ulimit -v {};", megabytes << 10);
        let scene = scene(World::Both)?;
        let port = ports::free()?;
        let mut server = server(&scene, &limit, port)?;
        let client = client(&scene, &limit, port, CONNECTIONS)?.run().with_context(|| limit.clone())?;
        ensure!(held(&client)? == CONNECTIONS && client.stdout.ends_with("verified\n"), "{limit} {client:?}");
        ensure!(!server.has_ended()?, "{limit} the server died\n{}", server.output());
    }
    Ok(())
}

/// A million descriptors, or as many as this user may have.
fn many() -> Result<()> {
    let scene = scene(World::Both)?;
    let port = ports::free()?;
    let server = server(&scene, WITHOUT_LIMIT, port)?;
    let client = script(scene.client("sh"), WITHOUT_LIMIT, "numbers.py", &port.to_string())?.run()?;
    ensure!(client.stdout == "forks and closes fast\n", "{client:?}\n{}", server.output());
    ensure!(moved(&client) == 1, "it did not move: {client:?}");
    Ok(())
}

/// A few for the process, one for each peer process, none for a connection that has moved.
fn own_descriptors() -> Result<()> {
    const PEERS: usize = 6;
    const CONNECTIONS: usize = 25;
    let scene = scene(World::Both)?;
    let port = ports::free()?;
    let server = server(&scene, WITHOUT_LIMIT, port)?;
    let mut clients = Vec::new();
    for _ in 0..PEERS {
        clients.push(client(&scene, WITHOUT_LIMIT, port, CONNECTIONS)?.piped().start()?);
    }
    for client in &mut clients {
        client.wait_for_line("verified")?;
    }
    let own = own(&server)?;
    ensure!(own.len() <= FIXED + PEERS, "the server has {}: {own:?}", own.len());
    for client in &clients {
        let own = self::own(client)?;
        ensure!(own.len() <= FIXED + 1, "a client has {}: {own:?}", own.len());
    }
    for mut client in clients {
        client.end_input();
        let client = client.success()?;
        ensure!(moved(&client) == CONNECTIONS, "they did not all move: {client:?}");
    }
    Ok(())
}

/// A server with a thread for each connection, which all slept at once: of their bells it keeps a few.
fn bells_of_many_threads() -> Result<()> {
    const CONNECTIONS: usize = 200;
    /// RLIMIT_NOFILE / 32.
    const KEPT: usize = 32;
    let scene = scene(World::Both)?;
    let port = ports::free()?;
    let line = format!("ulimit -n 1024; exec {} serve {port}", env!("CARGO_BIN_EXE_soak"));
    let server = scene.server("sh").args(["-c", &line]).listen(port)?;
    let mut client = client(&scene, WITHOUT_LIMIT, port, CONNECTIONS)?.piped().start()?;
    client.wait_for_line("verified")?;
    let asleep = own(&server)?.len();
    ensure!(asleep > CONNECTIONS / 2, "only {asleep} descriptors while all threads sleep");
    client.end_input();
    ensure!(moved(&client.success()?) == CONNECTIONS, "they did not all move");
    let threads = || fs::read_dir(format!("/proc/{}/task", server.pid().as_raw_nonzero())).map(Iterator::count);
    wait::until("the server's threads end", Duration::from_secs(10), || Ok(threads()? == 1))?;
    let own = own(&server)?.len();
    ensure!(own <= KEPT + FIXED + 1, "{own} descriptors when no connection is left");
    Ok(())
}

/// The library's own descriptors of a process: memfds, and sockets that are not TCP's.
fn own(process: &Process) -> Result<Vec<String>> {
    let pid = process.pid().as_raw_nonzero();
    let tcp = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let inodes: Vec<_> = tcp.lines().filter_map(|line| line.split_whitespace().nth(9)).collect();
    let is_own = |name: &String| match name.strip_prefix("socket:[").and_then(|name| name.strip_suffix(']')) {
        Some(inode) => !inodes.contains(&inode),
        None => name.starts_with("/memfd:"),
    };
    let links = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(links.map(|name| name.to_string_lossy().into_owned()).filter(is_own).collect())
}
