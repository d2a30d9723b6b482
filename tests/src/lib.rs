//! Running real programs, with and without `smc_run`, and learning how their connections carry their bytes.
//!
//! A [`scene::Scene`] holds the programs of one scenario in one [`world::World`]. Everything that a scene starts ends
//! with it, when its deadline passes at the latest. An [`observer::Observer`] asks `smcss` meanwhile which connections
//! run through shared memory.

pub mod artefacts;
pub mod build;
pub mod c;
pub mod checksum;
pub mod comparison;
pub mod conformance;
pub mod launch;
pub mod machine;
pub mod observer;
pub mod packages;
pub mod placement;
pub mod ports;
pub mod process;
pub mod procfs;
pub mod programs;
pub mod scene;
pub mod smcss;
pub mod stats;
pub mod stream;
pub mod syscall;
pub mod table;
pub mod tools;
pub mod verdict;
pub mod wait;
mod watchdog;
pub mod world;
