//! Peers, other users and surroundings that mean no good: the process goes on, and its other connections do.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::launch::Launch;
use preloop_tests::process::Process;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{ports, programs, verdict};
use rustix::process::{Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(60);
/// What the library prints, with `SMC_DEBUG=1`, of a connection that moves.
const MOVED: &str = "runs on SMC-D";
const NOBODY_SPECIAL: &str = "12345";

macro_rules! tests {
    ($($test:ident),+ $(,)?) => {
        mod test {$(
            #[test]
            fn $test() -> std::process::ExitCode {
                super::play(super::$test)
            }
        )+}
    };
}

tests! {
    scribbled_cursors, scribbled_waiters, scribbled_everything, a_bell_that_is_full, bells_that_nobody_empties,
    an_offset_that_lies_behind, back_and_forth, a_server_that_scribbles,
    ends_stuck_before_the_move, ends_stuck_afterwards, ends_of_the_last_holder,
    squatted_mailbox, offer_by_another_user, full_mailbox, nonsense_in_the_environment, no_descriptors, no_memory,
    no_file_size,
}

fn play(test: fn() -> Result<()>) -> ExitCode {
    verdict::of(test())
}

fn script<'a>(launch: Launch<'a>, name: &str) -> Result<Launch<'a>> {
    let launch = launch.args(["SMC_DEBUG=1", "PYTHONDONTWRITEBYTECODE=1"]).arg(programs::find("python3")?);
    Ok(launch.arg(programs::script(&format!("hostile/{name}"))))
}

fn echo_server(scene: &Scene, port: u16) -> Result<Process> {
    script(scene.server("env"), "echo.py")?.arg(port.to_string()).listen(port)
}

fn ping<'a>(scene: &'a Scene, port: u16, rest: &str) -> Result<Launch<'a>> {
    Ok(script(scene.client("env"), "ping.py")?.arg(port.to_string()).line(rest))
}

/// A client that behaves well must be served, and through shared memory.
fn is_served(scene: &Scene, port: u16) -> Result<()> {
    let client = ping(scene, port, "200")?.run()?;
    ensure!(client.stdout.contains("verified 200"), "{client:?}");
    ensure!(client.stderr.contains(MOVED), "it did not move: {client:?}");
    Ok(())
}

/// Once nobody wants anything, nothing is computed.
fn is_idle(server: &Process) -> Result<()> {
    std::thread::sleep(Duration::from_millis(200));
    let before = server.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let used = server.cpu_time() - before;
    ensure!(used < Duration::from_millis(100), "{used:?} of processor time in an idle second");
    Ok(())
}

fn scribbled_cursors() -> Result<()> {
    scribbled("cursors")
}

fn scribbled_waiters() -> Result<()> {
    scribbled("waiters")
}

fn scribbled_everything() -> Result<()> {
    scribbled("all")
}

/// A client's bell takes no more rings: the server, who rings all the time, must not wait for it.
fn a_bell_that_is_full() -> Result<()> {
    scribbled("bell")
}

/// Bells upon bells that nobody empties, and the server is charged for every ring: it goes on to ring those of others.
fn bells_that_nobody_empties() -> Result<()> {
    scribbled("bells")
}

/// A client's direction moves at an offset that was passed already.
fn an_offset_that_lies_behind() -> Result<()> {
    scribbled("switch")
}

/// A client asks the server to change back to TCP, and unsays it, or changes back itself, and so on.
fn back_and_forth() -> Result<()> {
    scribbled("back")
}

/// A server with one epoll set has a client that scribbles, before, while and after it serves others.
fn scribbled(area: &str) -> Result<()> {
    let scene = Scene::new(World::Both, LIMIT)?;
    let port = ports::free()?;
    let mut server = echo_server(&scene, port)?;
    let mut good = ping(&scene, port, "40000")?.start()?;
    for seed in 0..4 {
        let arguments = format!("client {port} {seed} {area}");
        let hostile = script(scene.client("env"), "scribbler.py")?.line(&arguments).start()?.finish()?;
        ensure!(hostile.stdout.contains("scribbling"), "{hostile:?}");
        ensure!(!server.has_ended()?, "seed {seed}: the server died\n{}", server.output());
        is_served(&scene, port).with_context(|| format!("seed {seed}\n{}", server.output()))?;
    }
    good.wait_for_line("verified")?;
    good.success()?;
    is_idle(&server)?;
    ensure!(!server.has_ended()?, "the server died\n{}", server.output());
    Ok(())
}

/// Clients of a server that scribbles end, with an error or not, but by themselves.
fn a_server_that_scribbles() -> Result<()> {
    for (seed, area) in ["cursors", "waiters", "all", "back"].into_iter().cycle().take(8).enumerate() {
        let scene = Scene::new(World::Both, LIMIT)?;
        let port = ports::free()?;
        let arguments = format!("server {port} {seed} {area}");
        let hostile = script(scene.server("env"), "scribbler.py")?.line(&arguments).listen(port)?;
        let client = ping(&scene, port, "1000000")?.start()?;
        let hostile = hostile.finish()?;
        ensure!(hostile.stdout.contains("scribbling"), "{hostile:?}");
        let client = client.finish()?;
        ensure!(client.status.code().is_some(), "{area}, seed {seed}: {client:?}");
    }
    Ok(())
}

fn ends_stuck_before_the_move() -> Result<()> {
    WAITS.iter().try_for_each(|how| stuck(how, "early"))
}

fn ends_stuck_afterwards() -> Result<()> {
    WAITS.iter().try_for_each(|how| stuck(how, "late"))
}

fn ends_of_the_last_holder() -> Result<()> {
    stuck("send", "shared")?;
    stuck("edge", "shared")
}

/// How a program waits until it can send more.
const WAITS: [&str; 5] = ["send", "poll", "select", "level", "edge"];

/// A peer is killed of which TCP cannot tell: its FIN stands behind bytes that nobody takes. Whoever waits for room hears
/// of it.
fn stuck(how: &str, when: &str) -> Result<()> {
    let scene = Scene::new(World::Both, LIMIT)?;
    let port = ports::free()?;
    let arguments = format!("survive {port} {how}");
    let mut survivor = script(scene.server("env"), "stuck.py")?.line(&arguments).piped().listen(port)?;
    let mut victim = script(scene.client("env"), "stuck.py")?.line(&format!("die {port} {when}")).start()?;
    victim.wait_for_line("stuck")?;
    survivor.input(b"fill it\n")?;
    // Until it waits for room.
    std::thread::sleep(Duration::from_millis(300));
    ensure!(!survivor.stdout().contains("gone:"), "it heard of an end before there was one: {}", survivor.output());
    let victim = victim.signal(Signal::KILL)?;
    ensure!(victim.stderr.contains(MOVED), "{victim:?}");
    survivor.wait_for_line("gone:").with_context(|| format!("{how}, {when}"))?;
    let survivor = survivor.success()?;
    ensure!(survivor.stderr.contains(MOVED), "{survivor:?}");
    Ok(())
}

fn stranger<'a>(scene: &'a Scene, what: &str, port: u16) -> Result<Launch<'a>> {
    let setpriv = ["--reuid", NOBODY_SPECIAL, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
    let launch = scene.client("setpriv").args(setpriv).arg(programs::find("python3")?);
    // Not even the script's directory need be readable for another user: it is read here.
    let text = std::fs::read_to_string(programs::script("hostile/stranger.py"))?;
    Ok(launch.args(["-c", &text, what, &port.to_string()]).piped())
}

/// When a stranger acts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The connection is there, and nothing was said.
    Connected,
    /// The client has proposed, and the server has not looked yet.
    Proposed,
}

/// Plays a client and a server, and a stranger who does something meanwhile; returns what both ends said.
fn with_stranger(what: &str, moment: Moment) -> Result<Option<[String; 2]>> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return Ok(None);
    }
    let scene = Scene::new(World::Both, LIMIT)?;
    let bystander = Scene::new(World::Tcp, LIMIT)?;
    let port = ports::free()?;
    let server = echo_server(&scene, port)?;
    // The second message proposes.
    let pause = if moment == Moment::Connected { 0 } else { 1 };
    let mut client = ping(&scene, port, &format!("300 {pause}"))?.piped().start()?;
    client.wait_for_line("paused")?;
    if moment == Moment::Proposed {
        kill_process(server.pid(), Signal::STOP)?;
        client.input(b"\n")?;
        client.wait_for_line("sent")?;
    }
    let mut stranger = stranger(&bystander, what, port)?.start()?;
    stranger.wait_for_line("ready")?;
    ensure!(!stranger.stdout().contains("ready 0"), "the stranger found nothing");
    if moment == Moment::Proposed {
        kill_process(server.pid(), Signal::CONT)?;
    } else {
        client.input(b"\n")?;
    }
    client.wait_for_line("verified")?;
    is_served(&scene, port).context("another connection")?;
    let client = client.success()?;
    let server = server.signal(Signal::TERM)?;
    Ok(Some([client.stderr, server.stderr]))
}

/// The name that the client's mailbox needs belongs to somebody else already.
fn squatted_mailbox() -> Result<()> {
    let Some([client, _]) = with_stranger("squat", Moment::Connected)? else { return Ok(()) };
    ensure!(!client.contains(MOVED), "{client}");
    Ok(())
}

/// The client has a mailbox, and the first one there is not who has the other end.
fn offer_by_another_user() -> Result<()> {
    let Some([client, server]) = with_stranger("offer", Moment::Proposed)? else { return Ok(()) };
    // The other client's connection moves in any case.
    ensure!(client.lines().filter(|line| line.contains(MOVED)).count() == 1, "{client}");
    ensure!(server.lines().filter(|line| line.contains(MOVED)).count() == 2, "{server}");
    Ok(())
}

/// The client's mailbox takes nobody any more; the connection works, whatever carries it.
fn full_mailbox() -> Result<()> {
    with_stranger("fill", Moment::Proposed).map(drop)
}

/// The bundled pair, both under `smc_run` and with a shell's commands before them; the messages of both.
fn pair_after(commands: &str) -> Result<[String; 2]> {
    let scene = Scene::new(World::Both, LIMIT)?;
    let port = ports::free()?;
    let python = programs::find("python3")?;
    let shell = |launch: Launch<'_>, name: &str, rest: &str| {
        let script = programs::script(&format!("hostile/{name}"));
        let line = format!("{commands} exec {} -B {} {rest}", python.display(), script.display());
        launch.args(["-c", &line]).start()
    };
    let mut server = shell(scene.server("sh"), "echo.py", &port.to_string())?;
    preloop_tests::wait::until("the server listens", Duration::from_secs(15), || {
        ensure!(!server.has_ended()?, "it ended early:\n{}", server.output());
        Ok(preloop_tests::procfs::listens(server.pid(), port))
    })?;
    let client = shell(scene.client("sh"), "ping.py", &format!("{port} 200"))?.success()?;
    ensure!(client.stdout.contains("verified 200"), "{client:?}");
    ensure!(!server.has_ended()?, "the server died\n{}", server.output());
    let server = server.signal(Signal::TERM)?;
    Ok([client.stderr, server.stderr])
}

fn nonsense_in_the_environment() -> Result<()> {
    #[rustfmt::skip]
    let settings = [
        "SMC_RCVBUF=wide", "SMC_SNDBUF=-1", "SMC_RCVBUF=99999999999m", "SMC_SNDBUF=", "SMC_DEBUG=perhaps",
        "PRELOOP_SERVES=tls", "KCM_DEBUG=perhaps",
    ];
    for setting in settings {
        for messages in pair_after(&format!("export {setting};"))? {
            let complaints: Vec<_> = messages.lines().filter(|line| line.contains("Warning")).collect();
            ensure!(complaints.len() == 1, "{setting}: {messages}");
            let name = setting.split_once('=').map_or(setting, |(name, _)| name);
            let tool = if name.starts_with("KCM") { "kcm_run: " } else { "smc_run: " };
            ensure!(complaints[0].starts_with(tool) && complaints[0].contains(name), "{setting}: {messages}");
        }
    }
    Ok(())
}

/// Enough for the program alone, but not for what the library would like.
fn no_descriptors() -> Result<()> {
    for descriptors in 6..=12 {
        pair_after(&format!("ulimit -n {descriptors};")).with_context(|| format!("{descriptors} descriptors"))?;
    }
    Ok(())
}

fn no_memory() -> Result<()> {
    let messages = pair_after("ulimit -v 100000; export SMC_DEBUG=1;")?;
    ensure!(messages.iter().all(|text| !text.contains(MOVED)), "{messages:?}");
    Ok(())
}

fn no_file_size() -> Result<()> {
    let messages = pair_after("ulimit -f 10; export SMC_DEBUG=1;")?;
    ensure!(messages.iter().all(|text| !text.contains(MOVED)), "{messages:?}");
    Ok(())
}
