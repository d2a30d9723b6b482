//! The kinds of clients that use blocking calls. Each plays until its random time is over, and leaves in one of several
//! ways.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::talk::{Progress, Talk};

/// Longest message of a dialogue.
const MESSAGE: usize = 3000;

struct Client {
    port: u16,
    random: SmallRng,
    until: Instant,
    progress: Progress,
}

pub(crate) fn play(kind: &str, port: &str, seed: &str, file: &Path, count: &str) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(seed.parse()?);
    let until = Instant::now() + Duration::from_secs_f64(random.random_range(2.0..20.0));
    let mut client = Client { port: port.parse()?, random, until, progress: Progress::create(file)? };
    let count = count.parse()?;
    match kind {
        "dialogues" => client.again(Client::dialogue),
        "short" => client.again(Client::short),
        "bulk" => client.again(Client::bulk),
        "half" => client.again(Client::half),
        "crowd" => client.crowd(count),
        _ => bail!("no kind of client: {kind}"),
    }
    .with_context(|| format!("{kind}, seed {seed}"))
}

impl Client {
    fn again(&mut self, connection: fn(&mut SmallRng, &Talk<'_>) -> io::Result<()>) -> Result<()> {
        while Instant::now() < self.until {
            let talk = Talk::open(self.port, self.random.random(), self.random.random(), &self.progress)?;
            if let Err(error) = connection(&mut self.random, &talk)
                && !talk.allows(&error)
            {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Requests and replies. Sometimes the last reply is not awaited.
    fn dialogue(random: &mut SmallRng, talk: &Talk<'_>) -> io::Result<()> {
        for _ in 0..random.random_range(1..400) {
            talk.exchange(random.random_range(1..MESSAGE))?;
            if random.random_range(0..8) == 0 {
                std::thread::sleep(Duration::from_millis(random.random_range(0..10)));
            }
        }
        if random.random() { talk.say(random.random_range(1..MESSAGE)) } else { Ok(()) }
    }

    fn short(random: &mut SmallRng, talk: &Talk<'_>) -> io::Result<()> {
        for _ in 0..random.random_range(0..6) {
            talk.exchange(random.random_range(1..MESSAGE))?;
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..20)));
        Ok(())
    }

    /// Much, both ways at once, after some messages or none; up to the end or not.
    fn bulk(random: &mut SmallRng, talk: &Talk<'_>) -> io::Result<()> {
        for _ in 0..random.random_range(0..20) {
            talk.exchange(random.random_range(1..MESSAGE))?;
        }
        let sizes: Vec<_> = (0..random.random_range(1..60)).map(|_| random.random_range(1..100_000)).collect();
        let total = sizes.iter().map(|&size| size as u64).sum();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| sizes.into_iter().try_for_each(|size| talk.say(size)));
            let heard = talk.hear_all(total);
            let said = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            heard.and(said)
        })?;
        std::thread::sleep(Duration::from_millis(random.random_range(0..200)));
        if random.random() { talk.finish() } else { Ok(()) }
    }

    /// The end of this direction comes before the server has answered everything.
    fn half(random: &mut SmallRng, talk: &Talk<'_>) -> io::Result<()> {
        for _ in 0..random.random_range(0..20) {
            talk.exchange(random.random_range(1..MESSAGE))?;
        }
        talk.say(random.random_range(1..60_000))?;
        std::thread::sleep(Duration::from_millis(random.random_range(0..20)));
        talk.finish()
    }

    /// Many connections that are idle most of the time. They are all open when the process ends.
    fn crowd(&mut self, count: usize) -> Result<()> {
        let mut talks = Vec::with_capacity(count);
        let mut lost = None;
        while Instant::now() < self.until {
            if talks.len() < count {
                talks.push(Talk::open(self.port, self.random.random(), self.random.random(), &self.progress)?);
            }
            let at = lost.take().unwrap_or_else(|| self.random.random_range(0..talks.len()));
            if let Err(error) = talks[at].exchange(self.random.random_range(1..MESSAGE)) {
                if !talks[at].allows(&error) {
                    return Err(error.into());
                }
                talks[at] = Talk::open(self.port, self.random.random(), self.random.random(), &self.progress)?;
                lost = Some(at);
            } else if talks.len() == count {
                std::thread::sleep(Duration::from_millis(self.random.random_range(0..10)));
            }
        }
        // As a program that exits with open descriptors.
        std::process::exit(0)
    }
}
