//! An echo server, programs that talk to it, and what they may print.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::artefacts::Artefacts;
use preloop_tests::launch::Launch;
use preloop_tests::ports;
use preloop_tests::process::{Finished, Process};
use preloop_tests::programs;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use rustix::process::Signal;

/// Messages that a client sends.
pub(crate) const ROUNDS: &str = "100";
/// What the library prints, with `SMC_DEBUG=1`, of a connection that moves.
const MOVED: &str = "runs on SMC-D";
/// What it prints of one that does not.
const STAYS: &str = "stays on TCP";

pub(crate) fn scene(world: World) -> Result<Scene> {
    const LIMIT: Duration = Duration::from_secs(60);
    Scene::new(world, LIMIT)
}

/// The library's path.
pub(crate) fn library() -> Result<String> {
    let path = Artefacts::locate()?.get("libpreloop.so")?;
    path.into_os_string().into_string().ok().context("a path in UTF-8")
}

/// A Python script behind `env` and its settings.
pub(crate) fn python<'a>(launch: Launch<'a>, settings: &[String], script: &str) -> Result<Launch<'a>> {
    let launch = launch.args(["SMC_DEBUG=1", "PYTHONDONTWRITEBYTECODE=1"]).args(settings);
    Ok(launch.arg(programs::find("python3")?).arg(programs::script(script)))
}

pub(crate) fn echo_server(scene: &Scene, settings: &[String], port: u16) -> Result<Process> {
    python(scene.server("env"), settings, "hostile/echo.py")?.arg(port.to_string()).listen(port)
}

/// Ends a server that serves for ever; answers how many of its connections moved.
pub(crate) fn end(mut server: Process) -> Result<usize> {
    ensure!(!server.has_ended()?, "the server died\n{}", server.output());
    let server = server.signal(Signal::TERM)?;
    ensure!(server.stdout.is_empty(), "{server:?}");
    moved(&server, &[])
}

/// How many connections of a program moved. Beside the library's debug lines nothing is in its messages but lines that
/// contain these words.
pub(crate) fn moved(program: &Finished, expected: &[&str]) -> Result<usize> {
    let own = |line: &&str| line.ends_with(MOVED) || line.contains(STAYS);
    let others: Vec<_> = program.stderr.lines().filter(|line| !own(line)).collect();
    let right = others.len() == expected.len() && others.iter().zip(expected).all(|(line, words)| line.contains(words));
    ensure!(right, "messages beside the library's own, not {expected:?}: {others:?}\n{program:?}");
    Ok(program.stderr.lines().filter(|line| line.ends_with(MOVED)).count())
}

/// Compiles programs of `programs/startup/` in the scene's directory.
pub(crate) fn compile(scene: &Scene, compiler: &str, options: &str, sources: &[&str], out: &str) -> Result<PathBuf> {
    let path = scene.path(out);
    let sources = sources.iter().map(|source| programs::script(&format!("startup/{source}")));
    let compiler = std::process::Command::new(programs::find(compiler)?)
        .args(["-O1", "-Wall", "-Werror", "-o"])
        .arg(&path)
        .args(options.split_whitespace())
        .args(sources)
        .output()?;
    ensure!(compiler.status.success(), "{options}: {}", String::from_utf8_lossy(&compiler.stderr));
    Ok(path)
}

/// A client that cannot be preloaded, started by a preloaded shell, works on TCP, and nobody says anything.
pub(crate) fn runs_from_a_shell(compiler: &str, options: &str) -> Result<()> {
    let scene = scene(World::ServerOnly)?;
    let port = ports::free()?;
    let talk = compile(&scene, compiler, options, &["talk.c"], "talk")?;
    let server = echo_server(&scene, &[], port)?;
    let talk = talk.into_os_string().into_string().ok().context("a path in UTF-8")?;
    let args = ["-c".to_owned(), r#""$0" "$@""#.to_owned(), talk, port.to_string(), ROUNDS.to_owned()];
    let moved = talks(&scene, Path::new("/bin/sh"), &args, &[])?;
    ensure!(moved == 0 && end(server)? == 0, "{moved} connections moved");
    Ok(())
}

/// Runs a client under the launcher; answers how many of its connections moved.
pub(crate) fn talks(scene: &Scene, program: &Path, args: &[String], warning: &[&str]) -> Result<usize> {
    // The launcher itself must see the program, and not what starts it.
    let launcher = Artefacts::locate()?.get("smc_run")?;
    let launch = scene.client("env").arg(launcher).arg("-d").arg(program).args(args);
    let client = launch.run()?;
    let expected = format!("verified {ROUNDS}\n");
    ensure!(!client.stdout.is_empty() && client.stdout.replace(&expected, "").is_empty(), "{client:?}");
    moved(&client, warning)
}
