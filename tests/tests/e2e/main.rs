//! Real programs over real connections, each scenario in every world: plain TCP as the control, both sides under
//! `smc_run`, only one. Contents are compared, and `smcss` must say that connections run through shared memory where
//! both sides are preloaded and on TCP, with the right decline code, where one is not.

/// Makes a test per world of each scenario, which is a `fn(&Scene) -> Result<()>`.
macro_rules! in_every_world {
    ($($scenario:ident),+ $(,)?) => {$(
        mod $scenario {
            use preloop_tests::world::World;

            #[test]
            fn tcp() -> std::process::ExitCode {
                crate::play(super::$scenario, World::Tcp)
            }

            #[test]
            fn both() -> std::process::ExitCode {
                crate::play(super::$scenario, World::Both)
            }

            #[test]
            fn client_only() -> std::process::ExitCode {
                crate::play(super::$scenario, World::ClientOnly)
            }

            #[test]
            fn server_only() -> std::process::ExitCode {
                crate::play(super::$scenario, World::ServerOnly)
            }
        }
    )+};
}

mod iperf3;
mod nginx;
mod python;
mod redis;
mod socat;
mod sockperf;
mod transfer;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use preloop_tests::scene::Scene;
use preloop_tests::verdict;
use preloop_tests::world::World;

fn play(scenario: fn(&Scene) -> Result<()>, world: World) -> ExitCode {
    /// Scenarios take a few seconds; on a slow machine they may take ten times that.
    const LIMIT: Duration = Duration::from_secs(45);
    verdict::of(Scene::new(world, LIMIT).and_then(|scene| scenario(&scene)).with_context(|| world.to_string()))
}
