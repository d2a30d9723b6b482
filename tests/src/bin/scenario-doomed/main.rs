//! `scenario-doomed`: two ends of a conversation, one of which somebody kills. An ordinary program that knows nothing of
//! the library.
//!
//! ```text
//! scenario-doomed die connect|listen PORT SEED REPORT      plays one conversation, and stores in the file REPORT,
//!                                                          after each write that returned, how much it has written
//! scenario-doomed survive connect|listen PORT              plays one conversation for each line of its input, PORT SEED,
//!                                                          and says how each ended and what is left of it
//! ```
#![forbid(unsafe_code)]

mod talk;

use std::fs::{self, File};
use std::io::{BufRead, stdin};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use talk::{Role, talk};

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["die", how, port, seed, report] => die(how, port.parse()?, seed.parse()?, report),
        ["survive", how, port] => survive(how, port.parse()?),
        _ => bail!("usage: scenario-doomed die connect|listen PORT SEED REPORT | survive connect|listen PORT"),
    }
}

fn open(listener: Option<&TcpListener>, port: u16) -> Result<(TcpStream, Role)> {
    let (stream, role) = match listener {
        Some(listener) => (listener.accept().context("accepting")?.0, Role::Server),
        None => (TcpStream::connect(("127.0.0.1", port)).context("connecting")?, Role::Client),
    };
    stream.set_nodelay(true)?;
    Ok((stream, role))
}

fn listener(how: &str, port: u16) -> Result<Option<TcpListener>> {
    Ok(match how {
        "listen" => Some(TcpListener::bind(("127.0.0.1", port)).context("listening")?),
        _ => None,
    })
}

fn die(how: &str, port: u16, seed: u64, report: &str) -> Result<()> {
    let listener = listener(how, port)?;
    // That the file is there says that the other end can connect, or is connected.
    let early = listener.as_ref().map(|_| File::create(report)).transpose()?;
    let (stream, role) = open(listener.as_ref(), port)?;
    let file = early.map_or_else(|| File::create(report), Ok)?;
    // One write of eight bytes, which a kill does not cut in two.
    let store = |written: u64| file.write_all_at(&written.to_le_bytes(), 0).context("the report");
    talk(&stream, role, seed, &store);
    Ok(())
}

fn survive(how: &str, port: u16) -> Result<()> {
    let listener = listener(how, port)?;
    println!("ready");
    for line in stdin().lock().lines() {
        let line = line?;
        let (port, seed) = line.split_once(' ').context("PORT SEED")?;
        let Ok((stream, role)) = open(listener.as_ref(), port.parse()?) else {
            println!("round {seed}: received 0, then nobody; {}", leftovers()?);
            continue;
        };
        let outcome = talk(&stream, role, seed.parse()?, &|_| Ok(()));
        drop(stream);
        println!("round {seed}: {outcome}; {}", leftovers()?);
    }
    Ok(())
}

/// What a connection that is over may have left in this process.
fn leftovers() -> Result<String> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mapped = maps.lines().filter(|line| line.contains("/memfd:preloop-group")).count();
    let links = fs::read_dir("/proc/self/fd")?.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let links: Vec<_> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let memfds = links.iter().filter(|link| link.contains("memfd:preloop-group")).count();
    Ok(format!("{mapped} groups mapped, {memfds} open, {} descriptors", links.len()))
}
