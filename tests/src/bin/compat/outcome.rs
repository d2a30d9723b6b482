//! What a run must have shown, and the row that it becomes.

use std::fmt;

use anyhow::{Result, ensure};
use preloop_tests::observer::Tally;
use preloop_tests::world::World;
use preloop_uapi::decline::Decline;

use crate::application::{Application, Expected};

/// Columns of the table.
pub(crate) const HEADINGS: [&str; 6] =
    ["application", "versions", "direction", "result", "moved", "why not the others"];

/// A row of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    /// A cell for each of [`HEADINGS`].
    pub(crate) cells: [String; 6],
}

/// Compares where the connections were with where they should have been.
///
/// # Errors
/// When they were elsewhere.
pub(crate) fn judge(application: &Application, world: World, tally: &Tally) -> Result<Row> {
    let both = world == World::Both;
    ensure!(both || tally.moved == 0, "connections moved although one side is not preloaded");
    let known = match application.expected {
        Expected::Moved => {
            ensure!(tally.seen > 0, "smcss saw no connection");
            ensure!(!both || tally.moved > 0, "no connection moved: {}", reasons(tally));
            None
        }
        Expected::Tcp(why) => {
            ensure!(tally.moved == 0, "connections moved, contrary to the entry: {why}");
            Some(why).filter(|_| world != World::ClientOnly)
        }
        Expected::Either(why) => Some(why),
    };
    let result = if tally.moved > 0 { "works" } else { "works on TCP" };
    let why: Vec<_> = known.map(str::to_owned).into_iter().chain(Some(reasons(tally))).collect();
    let cells = [
        application.name.to_owned(),
        application.version()?,
        direction(world).to_owned(),
        result.to_owned(),
        format!("{} of {}", tally.moved, tally.seen),
        why.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("; "),
    ];
    Ok(Row { cells })
}

/// The sides that are under `smc_run`, in a word.
fn direction(world: World) -> &'static str {
    match world {
        World::Tcp => "none",
        World::Both => "both",
        World::ClientOnly => "client",
        World::ServerOnly => "server",
    }
}

/// Why connections stayed on TCP, and how many for each reason.
fn reasons(tally: &Tally) -> String {
    let reason = |(&code, count): (&u32, &usize)| match Decline(code) {
        Decline::NONE => format!("{count} ended undecided"),
        decline => format!("{count}: {} ({code:08x})", decline.meaning()),
    };
    tally.stayed.iter().map(reason).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} |", self.cells.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::USUAL;

    fn tally(moved: usize, stayed: &[(u32, usize)]) -> Tally {
        let seen = moved + stayed.iter().map(|(_, count)| count).sum::<usize>();
        Tally { seen, moved, stayed: stayed.iter().copied().collect() }
    }

    #[test]
    fn with_both_sides_connections_must_move_or_have_a_known_reason() {
        let known = Application { expected: Expected::Tcp("it is known"), ..USUAL };
        let stayed = tally(0, &[(0x0306_0000, 2)]);
        assert!(judge(&USUAL, World::Both, &stayed).is_err());
        assert!(judge(&USUAL, World::Both, &tally(1, &[])).is_ok());
        assert!(judge(&known, World::Both, &tally(1, &[])).is_err());
        let why = "it is known; 2: a socket option or call that shared memory cannot carry (03060000)";
        assert_eq!(judge(&known, World::Both, &stayed).unwrap().cells[5], why);
    }

    #[test]
    fn with_one_side_none_may_move() {
        let row = judge(&USUAL, World::ClientOnly, &tally(0, &[(0, 1), (0x0301_0000, 3)])).unwrap();
        assert_eq!(row.cells[3..], ["works on TCP", "0 of 4", "1 ended undecided, 3: the peer has no SMC (03010000)"]);
        assert!(judge(&USUAL, World::ServerOnly, &tally(1, &[])).is_err());
        assert!(judge(&USUAL, World::ServerOnly, &tally(0, &[])).is_err());
    }
}
