//! Preloaded without the launcher: by `LD_PRELOAD`, and for every program by `/etc/ld.so.preload`.

use anyhow::{Result, ensure};
use preloop_tests::world::World;
use preloop_tests::{ports, programs};

use crate::talk;

crate::tests!(environment, named_twice, whole_system);

fn environment() -> Result<()> {
    with_preload(&talk::library()?)
}

/// By the user and by the launcher, or through two paths.
fn named_twice() -> Result<()> {
    let own = talk::library()?;
    with_preload(&format!("{own} {own}"))?;
    let scene = talk::scene(World::Tcp)?;
    let link = scene.path("libpreloop.so");
    std::os::unix::fs::symlink(&own, &link)?;
    with_preload(&format!("{own}:{}", link.display()))
}

fn with_preload(preload: &str) -> Result<()> {
    let scene = talk::scene(World::Tcp)?;
    let port = ports::free()?;
    let settings = [format!("LD_PRELOAD={preload}")];
    let server = talk::echo_server(&scene, &settings, port)?;
    let client = talk::python(scene.client("env"), &settings, "hostile/ping.py")?;
    let client = client.args([&port.to_string(), talk::ROUNDS]).run()?;
    ensure!(client.stdout == format!("verified {}\n", talk::ROUNDS), "{client:?}");
    ensure!(talk::moved(&client, &[])? == 1, "it did not move: {client:?}");
    ensure!(talk::end(server)? == 1, "the server did not notice");
    Ok(())
}

/// In a copy of `/etc` that only this script's mount namespace sees: all its programs are preloaded, the shell too.
fn whole_system() -> Result<()> {
    const SCRIPT: &str = r#"
        set -e
        mkdir etc
        mount -t tmpfs none etc
        cp -a /etc/. etc/
        echo "$1" > etc/ld.so.preload
        mount --bind etc /etc
        export SMC_DEBUG=1
        "$2" -B "$3/echo.py" "$4" & server=$!
        "$2" -c "import time, sys
while ':%04X 00000000:0000 0A' % int(sys.argv[1]) not in open('/proc/net/tcp').read(): time.sleep(0.01)" "$4"
        "$2" -B "$3/ping.py" "$4" "$5"
        kill $server
    "#;
    let root = rustix::process::geteuid().is_root();
    let unshare: &[&str] = if root { &["-m"] } else { &["-r", "-m"] };
    let scene = talk::scene(World::Tcp)?;
    if !root && scene.client("unshare").args(unshare).arg("true").start()?.finish()?.status.code() != Some(0) {
        eprintln!("skipped: this user may make no mount namespace");
        return Ok(());
    }
    let hostile = programs::script("hostile");
    let port = ports::free()?.to_string();
    let launch = scene.client("unshare").args(unshare).args(["sh", "-c", SCRIPT, "sh"]);
    let launch = launch.arg(talk::library()?).arg(programs::find("python3")?).arg(hostile);
    let ends = launch.args([&port, talk::ROUNDS]).run()?;
    ensure!(ends.stdout == format!("verified {}\n", talk::ROUNDS), "{ends:?}");
    ensure!(talk::moved(&ends, &[])? == 2, "it did not move: {ends:?}");
    Ok(())
}
