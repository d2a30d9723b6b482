//! What happens around KCM sockets: signals, cancellation, closing under a call, limits, hostile peers. Each case of
//! `tests/kcm-scenario` runs under `kcm_run`, and is to state what `expected.txt` has.

use std::path::PathBuf;
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
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kcm-scenario");
        c::compile(&["kcm-scenario"], "-O1", &path).map(|()| path).map_err(|error| format!("{error:#}"))
    };
    PROGRAM.get_or_init(compile).as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// The facts of a case: the lines below its name.
fn expected(case: &str) -> Result<String> {
    let all = std::fs::read_to_string(c::source("kcm-scenario/expected.txt"))?;
    let (_, from) = all.split_once(&format!("[{case}]\n")).with_context(|| format!("nothing about {case}"))?;
    Ok(from.split("[").next().unwrap_or_default().to_owned())
}

fn play(case: &str) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let scene = Scene::new(World::Tcp, LIMIT)?;
    let launch = scene.client("env").arg(Artefacts::locate()?.get("kcm_run")?).args(["-p", "u32be@0+4"]);
    let ended = launch.arg(program()?).arg(case).run()?;
    let expected = expected(case)?;
    ensure!(ended.stdout == expected, "{case} states\n{}and is to state\n{expected}", ended.stdout);
    Ok(())
}

macro_rules! cases {
    ($($name:ident $case:literal,)*) => {
        /// Named as `verify` skips it for want of a compiler.
        mod kcm_scenario {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::play($case)
            })*
        }
    };
}

cases! {
    send_while_inside "send-while-inside",
    send_while_asleep "send-while-asleep",
    interrupt "interrupt",
    cancel_receiver "cancel-receiver",
    cancel_sender "cancel-sender",
    close_under_sender "close-under-sender",
    close_under_receiver "close-under-receiver",
    dup2_under_receiver "dup2-under-receiver",
    close_last "close-last",
    many_poll "many-poll",
    descriptors "descriptors",
    address_space "address-space",
    many_muxes "many-muxes",
    programs "programs",
    huge_length "huge-length",
    trickle "trickle",
    reset_in_message "reset-in-message",
}
