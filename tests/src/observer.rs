//! Watching, through `smcss`, how connections carry their bytes while programs run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::artefacts::Artefacts;
use crate::smcss::{self, End, Mode, OPTION, PEER_DECLINED, PEER_NO_SMC};
use crate::wait;
use crate::world::World;

/// Every end that was seen, with the last mode it was seen in.
type Seen = BTreeMap<(u64, SocketAddr, SocketAddr), Mode>;

/// How many of the connections that were seen run through shared memory, and why the others do not.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Connections of which an end was seen.
    pub seen: usize,
    /// Those that moved to shared memory.
    pub moved: usize,
    /// The others, by decline code, which is 0 where nothing was decided before the end.
    pub stayed: BTreeMap<u32, usize>,
}

/// Asks `smcss` again and again about the connections of some ports.
#[derive(Debug)]
pub struct Observer {
    world: World,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Observer {
    pub(crate) fn start(world: World, artefacts: Artefacts, ports: &[u16]) -> Result<Self> {
        let seen = Arc::<Mutex<Seen>>::default();
        let stop = Arc::<AtomicBool>::default();
        let thread = if world == World::Tcp {
            None
        } else {
            let smcss = artefacts.get("smcss")?;
            let (seen, stop, ports) = (Arc::clone(&seen), Arc::clone(&stop), ports.to_vec());
            Some(std::thread::spawn(move || sample(smcss, &ports, &seen, &stop)))
        };
        Ok(Self { world, seen, stop, thread })
    }

    /// Waits until so many connections carry their bytes as this world promises, while they are open.
    ///
    /// # Errors
    /// When they do not within some seconds.
    pub fn wait_for(&self, connections: usize) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(15);
        let ready = || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(judge(self.world, &seen, connections).is_ok())
        };
        let waited = wait::until("connections have their mode", LIMIT, ready);
        waited.or_else(|_| self.judge(connections))
    }

    /// Ends the watch. At least so many connections must have carried their bytes as this world promises, and none
    /// otherwise; connections that ended undecided, or that were shut down before they could move, do not count.
    ///
    /// # Errors
    /// When that is not so, or `smcss` failed.
    pub fn expect(mut self, connections: usize) -> Result<()> {
        self.end()?;
        self.judge(connections)
    }

    /// Ends the watch and counts. Connections that came and went between two looks are not among them.
    ///
    /// # Errors
    /// When `smcss` failed.
    pub fn count(mut self) -> Result<Tally> {
        self.end()?;
        Ok(count(&self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.map_or(Ok(()), |ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    fn judge(&self, connections: usize) -> Result<()> {
        judge(self.world, &self.seen.lock().unwrap_or_else(PoisonError::into_inner), connections)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn sample(smcss: PathBuf, ports: &[u16], seen: &Mutex<Seen>, stop: &AtomicBool) -> Result<()> {
    const PERIOD: Duration = Duration::from_millis(10);
    while !stop.load(Ordering::Acquire) {
        let ends = smcss::connections(&smcss, ports)?;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(ends.into_iter().map(|End { pid, local, peer, mode }| ((pid, local, peer), mode)));
        drop(seen);
        sleep(PERIOD);
    }
    Ok(())
}

fn judge(world: World, seen: &Seen, connections: usize) -> Result<()> {
    let (good, bad): (Mode, fn(Mode) -> bool) = match world {
        World::Tcp => return Ok(()),
        // A peer that is shut down with an offer on its way declines it; its own end says why.
        World::Both => (Mode::Smcd, |mode| !matches!(mode, Mode::Smcd | Mode::Tcp(0 | OPTION | PEER_DECLINED))),
        World::ClientOnly | World::ServerOnly => {
            (Mode::Tcp(PEER_NO_SMC), |mode| !matches!(mode, Mode::Tcp(0 | PEER_NO_SMC | OPTION)))
        }
    };
    ensure!(!seen.values().any(|&mode| bad(mode)), "a connection has a wrong mode ({world}):\n{}", list(seen));
    let ends: BTreeSet<_> =
        seen.iter().filter(|(_, mode)| **mode == good).map(|((_, local, peer), _)| (local, peer)).collect();
    // In both worlds with one preloaded side only that side's ends are listed.
    let complete = ends.iter().filter(|(local, peer)| world != World::Both || ends.contains(&(*peer, *local))).count();
    let count = if world == World::Both { complete / 2 } else { complete };
    ensure!(count >= connections, "{count} connections, not {connections}, became {good} ({world}):\n{}", list(seen));
    Ok(())
}

/// Joins the ends to connections. One has moved when either end says so: the decision is one word for both.
fn count(seen: &Seen) -> Tally {
    let mut connections = BTreeMap::<_, Mode>::new();
    for (&(_, local, peer), &mode) in seen {
        let joined = connections.entry((local.min(peer), local.max(peer))).or_insert(mode);
        *joined = match (*joined, mode) {
            (Mode::Smcd, _) | (_, Mode::Smcd) => Mode::Smcd,
            (Mode::Tcp(one), Mode::Tcp(other)) => Mode::Tcp(one.max(other)),
        };
    }
    let mut tally = Tally { seen: connections.len(), ..Tally::default() };
    for mode in connections.into_values() {
        match mode {
            Mode::Smcd => tally.moved += 1,
            Mode::Tcp(code) => *tally.stayed.entry(code).or_default() += 1,
        }
    }
    tally
}

/// How many ends have each mode, and which they are where there are few: the odd ones out.
fn list(seen: &Seen) -> String {
    const FEW: usize = 20;
    let mut ends = BTreeMap::<_, Vec<_>>::new();
    for ((pid, local, peer), mode) in seen {
        ends.entry(mode).or_default().push(format!("    process {pid}: {local} -> {peer}\n"));
    }
    let listed = |ends: &[String]| if ends.len() > FEW { String::new() } else { ends.concat() };
    ends.iter().map(|(mode, ends)| format!("  {} ends {mode}\n{}", ends.len(), listed(ends))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ends: &[(u16, u16, Mode)]) -> Seen {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        ends.iter().map(|&(local, peer, mode)| ((1, address(local), address(peer)), mode)).collect()
    }

    #[test]
    fn both_ends_must_be_in_shared_memory() {
        let half = seen(&[(1, 2, Mode::Smcd), (2, 1, Mode::Tcp(0))]);
        assert!(judge(World::Both, &half, 1).is_err());
        let whole = seen(&[(1, 2, Mode::Smcd), (2, 1, Mode::Smcd), (3, 2, Mode::Tcp(0))]);
        assert!(judge(World::Both, &whole, 1).is_ok());
        assert!(judge(World::Both, &whole, 2).is_err());
        let declined = seen(&[(1, 2, Mode::Tcp(PEER_DECLINED)), (2, 1, Mode::Tcp(OPTION))]);
        assert!(judge(World::Both, &declined, 0).is_ok());
    }

    #[test]
    fn connections_are_counted_once() {
        let seen = seen(&[
            (1, 9, Mode::Smcd),
            (9, 1, Mode::Tcp(0)),
            (2, 9, Mode::Tcp(PEER_NO_SMC)),
            (9, 2, Mode::Tcp(0)),
            (9, 3, Mode::Tcp(0)),
        ]);
        let stayed = BTreeMap::from([(0, 1), (PEER_NO_SMC, 1)]);
        assert_eq!(count(&seen), Tally { seen: 3, moved: 1, stayed });
    }

    #[test]
    fn a_lone_side_stays_on_tcp_with_its_code() {
        let right = seen(&[(1, 2, Mode::Tcp(PEER_NO_SMC)), (3, 2, Mode::Tcp(0))]);
        assert!(judge(World::ClientOnly, &right, 1).is_ok());
        assert!(judge(World::ClientOnly, &right, 2).is_err());
        for wrong in [Mode::Smcd, Mode::Tcp(0x0101_0000)] {
            let seen = seen(&[(1, 2, Mode::Tcp(PEER_NO_SMC)), (3, 2, wrong)]);
            assert!(judge(World::ServerOnly, &seen, 1).is_err());
        }
    }
}
