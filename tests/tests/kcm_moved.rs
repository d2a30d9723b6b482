//! KCM over connections that have moved to shared memory: each case of `tests/kcm-moved` runs under `kcm_run`, and under
//! `kcm_run --smc` with rings large and small, and states the same. The connections have moved before they are attached.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::artefacts::Artefacts;
use preloop_tests::c;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;

fn program() -> Result<&'static PathBuf> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let compile = || {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kcm-moved");
        c::compile(&["kcm-moved", "kcm-shared"], "-O1", &path).map(|()| path).map_err(|error| format!("{error:#}"))
    };
    PROGRAM.get_or_init(compile).as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// How the connections are carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Tcp,
    /// With rings of so many bytes.
    Rings(&'static str),
}

/// What the library counted: every end of a connection moved what it sends, and none stayed on TCP; or some did, of a case
/// whose name says so.
fn all_moved(stats: &Path, case: &str) -> Result<()> {
    let text = std::fs::read_to_string(stats).context("the library counts nothing")?;
    let count = |event: &str| text.lines().filter(|line| line.split(' ').next() == Some(event)).count();
    let (begun, moved, stay) = (count("begin"), count("moved"), count("stays"));
    let as_meant = moved > 0 && moved + stay == begun && case.ends_with("-mixed") == (stay > 0);
    ensure!(as_meant, "{moved} of {begun} ends have moved, {stay} stay:\n{text}");
    Ok(())
}

/// What a case states.
fn facts(case: &str, way: Way) -> Result<String> {
    const LIMIT: Duration = Duration::from_secs(60);
    let scene = Scene::new(World::Tcp, LIMIT)?;
    let stats = scene.path("counts");
    let launch = scene.client("env").env("PRELOOP_STATS", &stats).arg(Artefacts::locate()?.get("kcm_run")?);
    let launch = match way {
        Way::Tcp => launch,
        Way::Rings(size) => {
            // With unbounded waits nobody gives a full ring up.
            let unbounded = if case == "stalls" { "0" } else { "1" };
            launch
                .env("SMC_RCVBUF", size)
                .env("SMC_SNDBUF", size)
                .env("PRELOOP_UNBOUNDED_WAITS", unbounded)
                .arg("--smc")
        }
    };
    let ended = launch.args(["-p", "u32be@0+4"]).arg(program()?).arg(case).run()?;
    if way != Way::Tcp {
        all_moved(&stats, case)?;
    }
    Ok(ended.stdout)
}

/// What cannot be done with a connection that has moved and a mux has.
#[test]
fn kcm_moved_refused() -> Result<()> {
    ensure!(facts("refused", Way::Tcp)? == "passed: 1 0\ngiven away: 0 0\nurgent: 1 0\n");
    let moved = facts("refused", Way::Rings("256k"))?;
    // EOPNOTSUPP.
    ensure!(moved == "passed: -1 95\ngiven away: 95 95\nurgent: -1 95\n", "{moved}");
    Ok(())
}

fn play(case: &str) -> Result<()> {
    let on_tcp = facts(case, Way::Tcp)?;
    // What a small ring holds the mux may have taken before it stops: nobody waits.
    let rings: &[_] = if case == "stalls" { &["256k"] } else { &["256k", "16k"] };
    for way in rings.iter().copied().map(Way::Rings) {
        let moved = facts(case, way)?;
        ensure!(moved == on_tcp, "{case}: {way:?}\n{moved}TCP\n{on_tcp}");
    }
    Ok(())
}

macro_rules! cases {
    ($($name:ident $case:literal,)*) => {
        /// Named as `verify` skips it for want of a compiler.
        mod kcm_moved {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::play($case)
            })*
        }
    };
}

cases! {
    sizes_in "sizes-in",
    sizes_out "sizes-out",
    parts "parts",
    floods "floods",
    fills "fills",
    stalls "stalls",
    peer_closes "peer-closes",
    peer_shuts "peer-shuts",
    peer_is_killed "peer-is-killed",
    unattaches "unattaches",
    parser_fails "parser-fails",
    takes_too_long "takes-too-long",
    epolls "epolls",
    workers "workers",
    generations "generations",
    closed "closed",
    found "found",
    changing "changing",
    forking "forking",
    raw "raw",
    leaves "leaves",
    passes "passes",
    passes_several "passes-several",
    passes_mixed "passes-mixed",
    passes_in_the_middle "passes-in-the-middle",
    passes_in_vain "passes-in-vain",
    executes "executes",
    executes_in_turns "executes-in-turns",
    executes_mixed "executes-mixed",
    executes_in_the_middle "executes-in-the-middle",
    executes_in_children "executes-in-children",
    executes_in_vain "executes-in-vain",
    executes_bare "executes-bare",
}
