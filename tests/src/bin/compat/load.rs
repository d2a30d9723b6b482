//! Programs that load the kernel on purpose, and check what they get.

use anyhow::{Result, ensure};
use preloop_tests::world::World;

use crate::application::{Application, Expected, USUAL};
use crate::run::Run;

pub(crate) const APPLICATIONS: &[Application] = &[Application {
    name: "stress-ng",
    does: "its stressors sock, epoll, dup and fork with --verify, side by side; they must end without a failure",
    needs: &["stress-ng"],
    versions: &["stress-ng --version"],
    directions: &[World::Both],
    expected: Expected::Either("its connections last some milliseconds"),
    exercise: stress,
    ..USUAL
}];

fn stress(run: &Run) -> Result<()> {
    let [sock, epoll] = run.ports()?;
    let stressors = format!("--sock 2 --sock-port {sock} --epoll 1 --epoll-port {epoll} --dup 1 --fork 1");
    let finished = run.client("stress-ng").line(&stressors).line("--timeout 5s --verify --metrics-brief").run()?;
    ensure!(!finished.stderr.contains("fail"), "{}", finished.stderr);
    Ok(())
}
