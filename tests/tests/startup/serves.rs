//! What the library does where it is to serve KCM alone, or KCM and SMC.

use std::fs;

use anyhow::{Context, Result, ensure};
use preloop_tests::world::World;
use preloop_tests::{artefacts::Artefacts, ports, programs};
use rustix::process::Signal;

use crate::talk;

crate::tests!(kcm_alone_leaves_tcp_alone, kcm_alone_leaves_smc_to_the_kernel, launchers_add_up);

/// Both ends are preloaded, and no socket is known to the library.
fn kcm_alone_leaves_tcp_alone() -> Result<()> {
    let scene = talk::scene(World::Tcp)?;
    let port = ports::free()?;
    let settings = [format!("LD_PRELOAD={}", talk::library()?), "PRELOOP_SERVES=kcm".to_owned()];
    let server = talk::echo_server(&scene, &settings, port)?;
    let client = talk::python(scene.client("env"), &settings, "hostile/ping.py")?;
    let client = client.args([&port.to_string(), talk::ROUNDS]).run()?;
    ensure!(client.stdout == format!("verified {}\n", talk::ROUNDS), "{client:?}");
    ensure!(client.stderr.is_empty(), "a connection was known: {client:?}");
    let maps = fs::read_to_string(format!("/proc/{}/maps", server.pid())).context("the server's maps")?;
    ensure!(maps.contains("libpreloop.so") && !maps.contains("preloop-sockets"), "{maps}");
    let server = server.signal(Signal::TERM)?;
    ensure!(server.stderr.is_empty(), "a connection was known: {server:?}");
    Ok(())
}

/// Sockets asked for as SMC, and io_uring, are what they are without the library.
fn kcm_alone_leaves_smc_to_the_kernel() -> Result<()> {
    const SCRIPT: &str = "
import ctypes, errno, socket
for arguments in (43, 1, 0), (socket.AF_INET, 1, 256):
    try: print(socket.socket(*arguments).family)
    except OSError as error: print(error)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(425, 0, None)
print(errno.errorcode[ctypes.get_errno()])";
    let scene = talk::scene(World::Tcp)?;
    let answers = |settings: &[String]| -> Result<String> {
        let launch = scene.client("env").args(settings).arg(programs::find("python3")?);
        Ok(launch.arg("-c").arg(SCRIPT).run()?.stdout)
    };
    let preload = format!("LD_PRELOAD={}", talk::library()?);
    let (plain, kcm) = (answers(&[])?, answers(&[preload.clone(), "PRELOOP_SERVES=kcm".to_owned()])?);
    ensure!(plain == kcm, "without the library: {plain}with it: {kcm}");
    let smc = answers(&[preload])?;
    ensure!(smc.ends_with("ENOSYS\n"), "{smc}");
    Ok(())
}

fn launchers_add_up() -> Result<()> {
    let launcher = |name: &str| -> Result<String> {
        Artefacts::locate()?.get(name)?.into_os_string().into_string().ok().context("a path in UTF-8")
    };
    let (smc, kcm) = (launcher("smc_run")?, launcher("kcm_run")?);
    for line in [vec![kcm.as_str(), "--smc"], vec![&smc, &kcm], vec![&kcm, "-pthrift", &smc]] {
        let scene = talk::scene(World::ServerOnly)?;
        let port = ports::free()?;
        let server = talk::echo_server(&scene, &[], port)?;
        let client = scene.client("env").args(["SMC_DEBUG=1", "PYTHONDONTWRITEBYTECODE=1"]).args(&line);
        let client = client.arg(programs::find("python3")?).arg(programs::script("hostile/ping.py"));
        let client = client.args([&port.to_string(), talk::ROUNDS]).run()?;
        ensure!(client.stdout == format!("verified {}\n", talk::ROUNDS), "{client:?}");
        ensure!(talk::moved(&client, &[])? == 1, "{line:?}: it did not move: {client:?}");
        ensure!(talk::end(server)? == 1, "{line:?}: the server did not notice");
    }
    Ok(())
}
