//! Lives of KCM sockets (`tests/kcm/*.c`): threads that are cancelled, processes that fork, signals that come at the wrong
//! moment, descriptors that are passed on.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{c, verdict};

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {$(
        #[test]
        fn $case() -> std::process::ExitCode {
            crate::play(stringify!($case))
        }
    )+};
}

cases! {
    absurd_lengths, asleep_before, attached_once, backlog, cancelled_reader, cancelled_sender, cancelled_splice, centuries, child_closes, ended_by_handler, execs_in_shared_memory, forged_socket, herd, idle, in_turn, inherited_limit, killed_senders, left_to_those_who_can, lent_and_wanted, limited, low_water, many_given_on, mux_is_gone, none_to_spare, nothing_skipped, passed_on, passer_is_gone, posted_while_forking, read_together, sender_in_child, signals, stopped, streams, woken_and_killed, woken_together, wrong_headers,
}

fn play(case: &str) -> ExitCode {
    verdict::of(run(case).context(case.to_owned()))
}

fn run(case: &str) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let program = program()?;
    let scene = Scene::new(World::Both, LIMIT)?;
    let settings = ["PRELOOP_SERVES=kcm", "KCM_PARSER=u32be@0+4"];
    scene.client("env").args(settings).arg(program).arg(case).run()?;
    Ok(())
}

/// Compiled once for all cases, which run at the same time.
fn program() -> Result<&'static PathBuf> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let compile = || {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kcm-lives");
        c::compile(&["kcm", "kcm-shared"], "-O1", &path).map(|()| path).map_err(|error| format!("{error:#}"))
    };
    PROGRAM.get_or_init(compile).as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}
