//! Messages of KCM sockets with addresses (`tests/kcm/addresses.c`): the program checks for itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::programs;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;

#[test]
fn kcm_addresses() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("addresses");
    let mut command = Command::new(programs::find("cc")?);
    command.args("-std=gnu11 -O1 -g -Wall -Wextra -Werror".split(' '));
    command.arg("-I").arg(own.join("../compat/include")).arg("-o").arg(&program).arg(own.join("kcm/addresses.c"));
    let result = command.output().context("starting cc")?;
    ensure!(result.status.success(), "cc: {}", String::from_utf8_lossy(&result.stderr));
    let scene = Scene::new(World::Both, LIMIT)?;
    let settings = ["PRELOOP_SERVES=kcm", "KCM_PARSER=u32be@0"];
    scene.client("env").args(settings).arg(&program).run()?;
    Ok(())
}
