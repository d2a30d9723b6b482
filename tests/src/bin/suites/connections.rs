//! What became of the connections of a run, from the lines that `PRELOOP_STATS` has the library write
//! (`shim/src/stats.rs`).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

/// One end of a connection.
#[derive(Default, Clone, Debug)]
struct End {
    active: bool,
    /// Calls that sent something, as far as TCP carried it.
    sends: u32,
    /// Calls that received something, likewise.
    receives: u32,
    /// Its decline code, or empty.
    decline: String,
    stage: Stage,
    /// The program shut a direction down.
    shut: bool,
}

/// How far the handshake came.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    #[default]
    None,
    Proposed,
    Offered,
    Agreed,
    Moved,
}

impl Stage {
    fn of(event: &str) -> Option<Self> {
        Some(match event {
            "proposed" => Self::Proposed,
            "offered" => Self::Offered,
            "agreed" => Self::Agreed,
            "moved" => Self::Moved,
            _ => return None,
        })
    }
}

/// The decline code of a peer that withdrew its offer, as it does when it closes.
const WITHDRAWN: &str = "05000000";
/// The decline code of an end whose peer does not answer; after a proposal, because it has closed.
const GONE: &str = "03010000";

/// The connections of one run.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Those with two preloaded ends.
    pub(crate) complete: usize,
    /// Those of them with a second message: the end that connected sent twice or more, or one of them sent through shared
    /// memory.
    pub(crate) eligible: usize,
    /// Those of them where at least one direction moved.
    pub(crate) moved: usize,
    /// Those where both ends agreed to move, and nothing was sent any more.
    pub(crate) agreed: usize,
    /// Those that ended first: one of the ends made no call any more in which it could have taken its step.
    pub(crate) ended: usize,
    /// Those of these whose accepting end received but once: what was sent in pieces was one message.
    pub(crate) single: usize,
    /// The other ones, by why.
    others: BTreeMap<String, usize>,
}

/// The other ends of connections, by their two addresses as the waiting end would say them.
type Waiting = HashMap<(SocketAddr, SocketAddr), Vec<usize>>;

impl Connections {
    /// Reads the lines of a run.
    pub(crate) fn read(text: &str) -> Self {
        let mut ends = Vec::<End>::new();
        let mut pairs = Vec::new();
        let mut waiting = Waiting::new();
        // The socket that lies in a slot now.
        let mut present = HashMap::<&str, usize>::new();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [event, slot, rest @ ..] = &words[..] else { continue };
            if let ("begin", [role, local, peer]) = (*event, rest) {
                let (Some(local), Some(peer)) = (address(local), address(peer)) else { continue };
                present.insert(slot, ends.len());
                match waiting.get_mut(&(local, peer)).and_then(Vec::pop) {
                    Some(other) => pairs.push((other, ends.len())),
                    None => waiting.entry((peer, local)).or_default().push(ends.len()),
                }
                ends.push(End { active: *role == "active", ..End::default() });
            } else if let Some(end) = present.get(slot).and_then(|&index| ends.get_mut(index)) {
                end.happened(event, rest);
            }
        }
        let mut all = Self::default();
        pairs.into_iter().for_each(|(one, other)| all.add(&ends[one], &ends[other]));
        all
    }

    fn add(&mut self, one: &End, other: &End) {
        let (active, passive) = if one.active { (one, other) } else { (other, one) };
        let stage = active.stage.max(passive.stage);
        self.complete += 1;
        if active.sends < 2 && stage < Stage::Moved {
            return;
        }
        self.eligible += 1;
        let code = active.decline.as_str().max(&passive.decline);
        // What a shutdown, or a close after an offer, left behind is an end and no reason.
        let code = if active.shut || passive.shut || code == WITHDRAWN { "" } else { code };
        // Both ends did after the second answer.
        let went_on = active.sends.min(passive.receives) >= 3 && active.receives.min(passive.sends) >= 2;
        match stage {
            Stage::Moved => self.moved += 1,
            Stage::Agreed => self.agreed += 1,
            _ if active.sends >= 3 && passive.sends == 0 => self.other("one way, unanswered"),
            _ if !code.is_empty() && (went_on || code != GONE || stage == Stage::None) => self.other(code),
            _ if went_on => self.other("undecided"),
            _ => {
                self.ended += 1;
                self.single += usize::from(passive.receives <= 1);
            }
        }
    }

    fn other(&mut self, why: &str) {
        *self.others.entry(why.to_owned()).or_default() += 1;
    }

    /// Why eligible connections that did not end first did not move, and how many.
    pub(crate) fn others(&self) -> String {
        self.others.iter().map(|(why, count)| format!("{count} {why}")).collect::<Vec<_>>().join(", ")
    }
}

impl End {
    fn happened(&mut self, event: &str, rest: &[&str]) {
        match (event, rest) {
            ("stays", [code]) => self.decline = (*code).to_owned(),
            ("shut", _) => self.shut = true,
            ("end", [sends, receives]) => {
                self.sends = sends.parse().unwrap_or(0);
                self.receives = receives.parse().unwrap_or(0);
            }
            _ => self.stage = self.stage.max(Stage::of(event).unwrap_or_default()),
        }
    }
}

/// An address; one that is mapped from IPv4 becomes that, as the other end may say it so.
fn address(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::Connections;

    /// A connection of two ends, and what happened to it.
    fn connection(port: u16, events: &str) -> String {
        let begin = |role, ends| format!("begin {role} {ends}\n");
        let active = begin(format!("1.{port} active"), format!("127.0.0.1:{port} 127.0.0.1:9"));
        let passive = begin(format!("2.{port} passive"), format!("[::ffff:127.0.0.1]:9 [::ffff:127.0.0.1]:{port}"));
        active + &passive + &events.replace('@', &format!(".{port}"))
    }

    #[test]
    fn connections_are_sorted_by_what_became_of_them() {
        let text = [
            connection(1, "proposed 1@\nmoved 1@\nend 1@ 2 1\nend 2@ 1 2\n"),
            connection(2, "end 1@ 1 3\nend 2@ 3 1\n"),
            connection(3, "proposed 1@\nshut 1@\nstays 1@ 03060000\nend 1@ 2 1\nend 2@ 1 2\n"),
            connection(4, "stays 1@ 03060000\nend 1@ 2 1\nend 2@ 1 2\n"),
            connection(5, "proposed 1@\nend 1@ 5 4\nend 2@ 4 5\n"),
            connection(7, "proposed 1@\nend 1@ 2 1\nend 2@ 1 1\n"),
            "begin 3.1 active 127.0.0.1:6 127.0.0.1:9\nend 3.1 9 9\n".to_owned(),
        ];
        let found = Connections::read(&text.concat());
        assert_eq!((found.complete, found.eligible, found.moved, found.ended, found.single), (6, 5, 1, 2, 1));
        assert_eq!(found.others(), "1 03060000, 1 undecided");
    }
}
