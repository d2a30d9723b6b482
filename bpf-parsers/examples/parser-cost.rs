//! What one call of a parser costs: `cargo run --release -p preloop-parsers --example parser-cost [PARSER...]`.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use preloop_parsers::{Fields, registry};

const CALLS: u32 = 100_000;
const ROUNDS: usize = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut parsers: Vec<String> = std::env::args().skip(1).collect();
    if parsers.is_empty() {
        parsers = ["u32be@0+4", "u24le@0+4"].map(String::from).to_vec();
        parsers.extend(registry::KNOWN.map(|known| known.name.to_owned()));
    }
    // A whole record of ONC RPC, and a length for the others.
    let message = [0x80, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    for text in parsers {
        let program = registry::find(&text, |path| std::fs::read(path))?.load()?;
        let fields = Fields::default();
        let mut costs: Vec<Duration> = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..CALLS {
                let _ = black_box(program.run(black_box(&message[..]), &fields));
            }
            costs.push(start.elapsed() / CALLS);
        }
        // The fastest round is the one in which nothing else ran.
        println!("{text:12} {:3} ns", costs.iter().min().map_or(0, Duration::as_nanos));
    }
    Ok(())
}
