//! Messages of KCM sockets with addresses (`tests/kcm-addresses`): the program checks for itself.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use preloop_tests::c;
use preloop_tests::scene::Scene;
use preloop_tests::world::World;

#[test]
fn kcm_addresses() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("addresses");
    c::compile(&["kcm-addresses"], "-O1", &program)?;
    let scene = Scene::new(World::Both, LIMIT)?;
    let settings = ["PRELOOP_SERVES=kcm", "KCM_PARSER=u32be@0"];
    scene.client("env").args(settings).arg(&program).run()?;
    Ok(())
}
