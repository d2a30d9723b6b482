//! Lives of KCM sockets (`tests/kcm/*.c`): threads that are cancelled, processes that fork, signals that come at the wrong
//! moment, descriptors that are passed on.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::programs;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {$(
        #[test]
        fn $case() -> std::process::ExitCode {
            crate::play(stringify!($case))
        }
    )+};
}

cases! {
    absurd_lengths, asleep_before, attached_once, backlog, cancelled_reader, cancelled_sender, cancelled_splice, centuries,
    child_closes, ended_by_handler, forged_socket, herd, idle, in_turn, inherited_limit, killed_senders,
    left_to_those_who_can, limited, low_water, many_given_on, mux_is_gone, none_to_spare, nothing_skipped, passed_on,
    passer_is_gone, posted_while_forking, sender_in_child, signals, stopped, streams, woken_and_killed, wrong_headers,
}

const SOURCES: [&str; 7] = ["main.c", "scene.c", "herd.c", "lower.c", "receiving.c", "sharing.c", "transfer.c"];

fn play(case: &str) -> ExitCode {
    match run(case) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{case}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(case: &str) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let program = compile(case)?;
    let scene = Scene::new(World::Both, LIMIT)?;
    let settings = ["PRELOOP_SERVES=kcm", "KCM_PARSER=u32be@0+4"];
    scene.client("env").args(settings).arg(program).arg(case).run()?;
    Ok(())
}

/// Once for each case: they run at the same time.
fn compile(case: &str) -> Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kcm");
    std::fs::create_dir_all(&directory).context("a directory for the programs")?;
    let target = directory.join(case);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("kcm");
    let mut command = Command::new(programs::find("cc")?);
    command.args("-std=gnu11 -O1 -g -Wall -Wextra -Werror -pthread".split(' '));
    let result = command.args(SOURCES.map(|source| own.join(source))).arg("-o").arg(&target).output();
    let result = result.context("starting cc")?;
    ensure!(result.status.success(), "cc: {}", String::from_utf8_lossy(&result.stderr));
    Ok(target)
}
