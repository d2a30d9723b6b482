//! Pseudo-random bytes both ways at once. Both ends compute the same streams from the seed, so each knows at every
//! offset what must arrive.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

/// Longest write and read. Sizes are spread evenly over their logarithm, so that bytes and kilobytes are common.
const LARGEST_BITS: f64 = 18.0;
/// Longest message of the dialogue.
const LARGEST_MESSAGE: u64 = 3000;

/// Which end of the connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Client,
    Server,
}

/// What both ends do: first requests and replies of random sizes, then bulk each way, then the end of both streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// Bytes of bulk each way.
    pub(crate) bytes: u64,
    /// What contents and sizes follow from.
    pub(crate) seed: u64,
    /// Requests and replies before.
    pub(crate) dialogue: u64,
}

/// Carries out the plan. Once all bytes have arrived, `before_end` is called; where there is none, the stream to the
/// other end is shut down as soon as everything is sent.
pub(crate) fn exchange(
    stream: &TcpStream,
    role: Role,
    plan: Plan,
    before_end: Option<fn() -> Result<()>>,
) -> Result<()> {
    let Plan { bytes, seed, .. } = plan;
    let [mut out, mut into] = converse(stream, role, plan)?;
    let shut_down = || stream.shutdown(Shutdown::Write).context("shutting down");
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            send(stream, &mut out, bytes, &mut sizes_of_writes(Some(seed ^ role as u64))).context("sending")?;
            if before_end.is_none() { shut_down() } else { Ok(()) }
        });
        let received = receive(stream, &mut into, bytes, &mut sizes_of_writes(Some(!seed ^ role as u64)));
        if received.is_err() {
            // The other end would wait for ever for what this thread no longer reads.
            let _ = stream.shutdown(Shutdown::Both);
        }
        received?;
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    if let Some(before_end) = before_end {
        before_end()?;
        shut_down()?;
    }
    let mut stream = stream;
    ensure!(stream.read(&mut [0])? == 0, "bytes after the end");
    Ok(())
}

/// The requests and replies; returns what follows in the stream from this end and in the stream to it.
fn converse(stream: &TcpStream, role: Role, plan: Plan) -> Result<[Pattern; 2]> {
    let [mut to_server, mut to_client] = [0, 1].map(|direction| Pattern::new(plan.seed, direction));
    let mut sizes = SmallRng::seed_from_u64(plan.seed);
    for round in 0..plan.dialogue {
        let [request, reply] = [(); 2].map(|()| sizes.random_range(1..=LARGEST_MESSAGE));
        let message = || format!("message {round}");
        match role {
            Role::Client => {
                send(stream, &mut to_server, request, &mut sizes_of_writes(None)).with_context(message)?;
                receive(stream, &mut to_client, reply, &mut sizes_of_writes(None)).with_context(message)?;
            }
            Role::Server => {
                receive(stream, &mut to_server, request, &mut sizes_of_writes(None)).with_context(message)?;
                send(stream, &mut to_client, reply, &mut sizes_of_writes(None)).with_context(message)?;
            }
        }
    }
    Ok(match role {
        Role::Client => [to_server, to_client],
        Role::Server => [to_client, to_server],
    })
}

/// Sizes of the chunks: random from the seed, or as large as possible without one.
fn sizes_of_writes(seed: Option<u64>) -> impl FnMut() -> usize {
    let mut generator = seed.map(SmallRng::seed_from_u64);
    move || match &mut generator {
        Some(generator) => generator.random_range(0.0..LARGEST_BITS).exp2() as usize,
        None => 1 << LARGEST_BITS as usize,
    }
}

fn send(mut to: &TcpStream, pattern: &mut Pattern, bytes: u64, size: &mut impl FnMut() -> usize) -> Result<()> {
    let mut buffer = vec![0; 1 << LARGEST_BITS as usize];
    let mut left = bytes;
    while left > 0 {
        let chunk = &mut buffer[..left.min(size() as u64) as usize];
        pattern.fill(chunk);
        to.write_all(chunk).with_context(|| format!("after {} of {bytes} bytes", bytes - left))?;
        left -= chunk.len() as u64;
    }
    Ok(())
}

fn receive(mut from: &TcpStream, pattern: &mut Pattern, bytes: u64, size: &mut impl FnMut() -> usize) -> Result<()> {
    let [mut buffer, mut expected] = [(); 2].map(|()| vec![0; 1 << LARGEST_BITS as usize]);
    let mut done = 0;
    while done < bytes {
        let wanted = (bytes - done).min(size() as u64) as usize;
        let count = from.read(&mut buffer[..wanted]).with_context(|| format!("after {done} of {bytes} bytes"))?;
        ensure!(count > 0, "the stream ended after {done} of {bytes} bytes");
        pattern.fill(&mut expected[..count]);
        if buffer[..count] != expected[..count] {
            let at = (0..count).find(|&at| buffer[at] != expected[at]).unwrap_or_default();
            bail!("byte {} of {bytes} is {:#04x}, not {:#04x}", done + at as u64, buffer[at], expected[at]);
        }
        done += count as u64;
    }
    Ok(())
}

/// A pseudo-random stream that is the same however it is cut.
struct Pattern {
    generator: SmallRng,
    block: [u8; 4096],
    used: usize,
}

impl Pattern {
    fn new(seed: u64, direction: u64) -> Self {
        let generator = SmallRng::seed_from_u64(seed.wrapping_mul(2).wrapping_add(direction));
        let block = [0; 4096];
        Self { generator, used: block.len(), block }
    }

    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used == self.block.len() {
                self.generator.fill_bytes(&mut self.block);
                self.used = 0;
            }
            let count = out.len().min(self.block.len() - self.used);
            let (part, rest) = out.split_at_mut(count);
            part.copy_from_slice(&self.block[self.used..][..count]);
            self.used += count;
            out = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_pattern_is_the_same_however_it_is_cut() {
        let mut whole = vec![0; 20_000];
        Pattern::new(7, 0).fill(&mut whole);
        let mut cut = vec![0; whole.len()];
        let mut pattern = Pattern::new(7, 0);
        for part in cut.chunks_mut(777) {
            pattern.fill(part);
        }
        assert!(whole == cut);
        let mut other = vec![0; whole.len()];
        Pattern::new(7, 1).fill(&mut other);
        assert!(whole != other);
    }
}
