//! Which side of a connection runs under `smc_run`.

use std::fmt;

/// Which sides of a scenario run under `smc_run`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum World {
    /// Neither: the control, plain TCP.
    Tcp,
    /// Both: connections move to shared memory.
    Both,
    /// Only the client: connections stay on TCP.
    ClientOnly,
    /// Only the server: connections stay on TCP.
    ServerOnly,
}

/// The part a program plays in a scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Accepts connections.
    Server,
    /// Opens connections.
    Client,
}

impl World {
    /// Whether programs of this side run under `smc_run`.
    pub fn preloads(self, side: Side) -> bool {
        match self {
            Self::Tcp => false,
            Self::Both => true,
            Self::ClientOnly => side == Side::Client,
            Self::ServerOnly => side == Side::Server,
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Both => "both sides under smc_run",
            Self::ClientOnly => "only the client under smc_run",
            Self::ServerOnly => "only the server under smc_run",
        })
    }
}
