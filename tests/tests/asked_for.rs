//! Programs that ask for SMC by name, `socket(AF_SMC, ...)` or `IPPROTO_SMC`, on a kernel that has none.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use preloop_tests::scene::Scene;
use preloop_tests::world::World;
use preloop_tests::{programs, verdict};

/// Named as `verify` skips it for want of Python.
mod asked_for {
    macro_rules! tests {
        ($($how:ident[$domain:literal]),+ $(,)?) => {$(
            #[test]
            fn $how() -> std::process::ExitCode {
                super::play(stringify!($how), $domain)
            }
        )+};
    }

    tests!(af_smc[43], af_smc6[43], ipproto_smc[2], ipproto_smc6[10]);
}

fn play(how: &str, domain: i32) -> ExitCode {
    verdict::of(is_served(how, domain))
}

/// Such sockets work, say what they were opened as, and the connection moves.
fn is_served(how: &str, domain: i32) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(30);
    let scene = Scene::new(World::Both, LIMIT)?;
    let launch = scene.client("env").args(["SMC_DEBUG=1", "PYTHONDONTWRITEBYTECODE=1"]);
    let done = launch.arg(programs::find("python3")?).arg(programs::script("asked_for.py")).arg(how).run()?;
    let expected = format!("accepted {domain}\ndomains {domain} verified 20\n");
    ensure!(done.stdout == expected, "{done:?}");
    ensure!(done.stderr.lines().filter(|line| line.contains("runs on SMC-D")).count() == 2, "{done:?}");
    Ok(())
}
