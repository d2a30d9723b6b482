//! The harness itself: nothing that a scene started outlives it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use preloop_tests::scene::Scene;
use preloop_tests::tools::tcp_pair;
use preloop_tests::world::World;
use preloop_tests::{ports, wait};

const LONG: Duration = Duration::from_secs(60);

fn sleeper(scene: &Scene) -> preloop_tests::process::Process {
    scene.client("sleep").arg("1000").start().unwrap()
}

fn exists(pid: rustix::process::Pid) -> bool {
    Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists()
}

#[test]
fn the_deadline_ends_what_hangs() -> Result<()> {
    let scene = Scene::new(World::Tcp, Duration::from_millis(100))?;
    let start = Instant::now();
    let error = sleeper(&scene).success().unwrap_err().to_string();
    assert!(error.contains("its time was over"), "{error}");
    assert!(start.elapsed() < LONG);
    Ok(())
}

#[test]
fn dropping_a_process_ends_its_group() -> Result<()> {
    let scene = Scene::new(World::Tcp, LONG)?;
    let mut process = scene.client("sh").args(["-c", "sleep 1000 & echo $!; wait"]).start()?;
    process.wait_for_line("")?;
    let child: u32 = process.stdout().trim().parse()?;
    let leader = process.pid();
    drop(process);
    assert!(!exists(leader));
    // Whoever adopted the child reaps it in its own time.
    let runs = || std::fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    wait::until("the child is gone", LONG, || Ok(!runs()))
}

#[test]
fn a_panic_ends_the_processes() -> Result<()> {
    let scene = Scene::new(World::Tcp, LONG)?;
    let process = sleeper(&scene);
    let pid = process.pid();
    let panic = std::thread::spawn(move || {
        let _held = process;
        panic!("on purpose");
    });
    assert!(panic.join().is_err());
    assert!(!exists(pid));
    Ok(())
}

#[test]
fn a_server_that_ends_early_is_reported_with_its_messages() -> Result<()> {
    let scene = Scene::new(World::Tcp, LONG)?;
    let server = scene.server("sh").args(["-c", "echo out of order >&2; exit 3"]);
    let error = server.listen(ports::free()?).unwrap_err().to_string();
    assert!(error.contains("out of order"), "{error}");
    let missing = scene.client("no-such-program").start().unwrap_err().to_string();
    assert!(missing.contains("apt-get install no-such-program"), "{missing}");
    Ok(())
}

#[test]
fn the_bundled_pair_measures_and_verifies() -> Result<()> {
    let scene = Scene::new(World::Tcp, LONG)?;
    let port = ports::free()?;
    let _server = tcp_pair::server(&scene, port, false).listen(port)?;
    let stream = tcp_pair::client(&scene, port, "stream", "--seconds 0.1").run()?;
    assert!(tcp_pair::gigabits_per_second(&stream)? > 0.0);
    let ping_pong = tcp_pair::client(&scene, port, "pingpong", "--seconds 0.1").run()?;
    assert!(tcp_pair::latency(&ping_pong)? > 0.0);
    let exchange = tcp_pair::client(&scene, port, "exchange", "--bytes 100000 --dialogue 3").run()?;
    assert!(exchange.stdout.contains("100000 bytes verified each way"), "{}", exchange.stdout);
    Ok(())
}
