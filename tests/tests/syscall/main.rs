//! What system calls answer on TCP connections, fact by fact. Each subject (`tests/syscall/*.c`, see `facts.h`) acts on
//! its end of connections and has its peer act on the other, and states what a program can see: results, errors, events,
//! contents, order. It runs in all four pairings of preloaded and not, once as the server and once as the client, and the
//! facts must be those of plain TCP line by line. Whatever a subject says is to move must have moved with both ends
//! preloaded. The facts of plain TCP are left in `target/tmp/syscall/SUBJECT.ROLE.facts`: the map of TCP's behaviour.

mod subjects;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::process::Finished;
use preloop_tests::scene::Scene;
use preloop_tests::syscall::Program;
use preloop_tests::syscall::report::{self, Permit};
use preloop_tests::world::{Side, World};
use preloop_tests::{ports, verdict, wait};

/// Plain TCP comes first: it says what is right.
const WORLDS: [World; 4] = [World::Tcp, World::Both, World::ClientOnly, World::ServerOnly];

fn play(subject: &str, permits: &[Permit]) -> ExitCode {
    verdict::of(compare(subject, permits).context(subject.to_owned()))
}

/// The subject in every world and both roles, all at once: subjects mostly wait.
fn compare(subject: &str, permits: &[Permit]) -> Result<()> {
    let program = &Program::compile(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("syscall"), subject)?;
    std::thread::scope(|scope| {
        let runs = [Side::Server, Side::Client]
            .map(|acting| (acting, WORLDS.map(|world| scope.spawn(move || facts(program, acting, world)))));
        let mut wrong = String::new();
        for (acting, runs) in runs {
            let results = runs.map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            let mut results = WORLDS.into_iter().zip(results);
            let Some((_, expected)) = results.next() else { continue };
            let expected = expected.with_context(|| format!("on plain TCP, acting as the {acting:?}"))?;
            program.keep(acting, &expected)?;
            for (world, found) in results {
                let permits = if world.preloads(acting) { permits } else { &[] };
                let always = world == World::Both;
                let differences = found.map_or_else(
                    |error| format!("{error:#}\n"),
                    |found| report::differences(&expected, &found, permits, always),
                );
                if !differences.is_empty() {
                    wrong += &format!("\n{world}, acting as the {acting:?}:\n{differences}");
                }
            }
        }
        ensure!(wrong.is_empty(), "{wrong}");
        Ok(())
    })
}

/// What the subject states in one world and role.
fn facts(program: &Program, acting: Side, world: World) -> Result<String> {
    const LIMIT: Duration = Duration::from_secs(20);
    let scene = Scene::new(world, LIMIT)?;
    let port = ports::free()?.to_string();
    let launch = |side| {
        let launch = if side == Side::Server { scene.server("env") } else { scene.client("env") };
        let launch = launch.arg("SMC_DEBUG=1").arg(program.path());
        let role = if side == Side::Server { "server" } else { "client" };
        launch.args([if side == acting { "acts" } else { "peer" }, role, &port])
    };
    let mut server = launch(Side::Server).listen(port.parse()?)?;
    let mut client = launch(Side::Client).start()?;
    wait::until("an end ends", LIMIT * 2, || Ok(server.has_ended()? || client.has_ended()?))?;
    let both = || Ok(server.has_ended()? && client.has_ended()?);
    wait::until("the other end ends", Duration::from_secs(10), both)
        .with_context(|| format!("{}\n{}", server.output(), client.output()))?;
    let (actor, peer) = if acting == Side::Server { (server, client) } else { (client, server) };
    let (actor, peer) = (actor.finish()?, peer.finish()?);
    let told = || format!("acting:\n{}{}peer:\n{}", actor.stdout, actor.stderr, peer.stderr);
    ensure!(actor.status.success(), "{}\n{}", actor.status, told());
    ensure!(peer.status.success() || was_killed(&peer), "peer: {}\n{}", peer.status, told());
    for end in [&actor, &peer] {
        report::moves(&end.stderr, world == World::Both).with_context(told)?;
    }
    Ok(actor.stdout)
}

/// Some subjects have their peer killed.
fn was_killed(end: &Finished) -> bool {
    use std::os::unix::process::ExitStatusExt;
    end.status.signal() == Some(9)
}
