//! The client's side of every mode; each prints one line with its result.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::exchange::{self, Plan, Role};
use crate::protocol::Request;

fn connect(address: SocketAddr, request: Request) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    request.send(&stream)?;
    Ok(stream)
}

/// Sends for so long, and counts only what the server says it has received, up to when it says so.
pub(crate) fn stream(address: SocketAddr, duration: Duration, chunk: u32) -> Result<()> {
    let mut stream = connect(address, Request::Stream)?;
    let data = vec![0x5a; chunk as usize];
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < duration {
        stream.write_all(&data)?;
        sent += u64::from(chunk);
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    let seconds = start.elapsed().as_secs_f64();
    let received = u64::from_le_bytes(answer);
    ensure!(received == sent, "sent {sent} bytes, but {received} were received");
    println!("stream: {:.3} GB/s, {sent} bytes in {seconds:.3} s, {chunk} bytes a write", sent as f64 / seconds / 1e9);
    Ok(())
}

/// Plays ping-pong for so long.
pub(crate) fn ping_pong(address: SocketAddr, duration: Duration, size: u32) -> Result<()> {
    let mut stream = connect(address, Request::PingPong { size: size.into() })?;
    let mut message = vec![0; size as usize];
    let mut trips = Vec::new();
    let start = Instant::now();
    while start.elapsed() < duration {
        let sent = Instant::now();
        message.fill(trips.len() as u8);
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        ensure!(message.iter().all(|&byte| byte == trips.len() as u8), "round trip {} came back changed", trips.len());
        trips.push(sent.elapsed());
    }
    ensure!(!trips.is_empty(), "no time for a round trip");
    trips.sort_unstable();
    let us = |trip: Duration| trip.as_secs_f64() * 1e6;
    let (median, late) = (us(trips[trips.len() / 2]), us(trips[trips.len() * 99 / 100]));
    println!("pingpong: {median:.3} us median, {late:.3} us 99 %, {} round trips of {size} bytes", trips.len());
    Ok(())
}

/// Exchanges pseudo-random bytes; with `hold` the connection stays open until the standard input ends.
pub(crate) fn exchange(address: SocketAddr, plan: Plan, hold: bool) -> Result<()> {
    let stream = connect(address, Request::Exchange(plan))?;
    let wait: fn() -> Result<()> = || {
        println!("verified");
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
        Ok(())
    };
    exchange::exchange(&stream, Role::Client, plan, hold.then_some(wait))?;
    println!("exchange: {} bytes verified each way after {} requests", plan.bytes, plan.dialogue);
    Ok(())
}
