//! `tcp-pair`: an ordinary TCP client and server, to be measured and checked by others. It uses nothing but the
//! standard library's sockets.
#![forbid(unsafe_code)]

mod client;
mod exchange;
mod protocol;
mod server;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use exchange::Plan;

fn main() -> Result<()> {
    let matches = arguments().get_matches();
    let (mode, options) = matches.subcommand().expect("clap requires a subcommand");
    let address = *get::<SocketAddr>(options, "address");
    match mode {
        "serve" => server::serve(address, options.get_flag("once")),
        "stream" => client::stream(address, duration(options), *get::<u32>(options, "chunk")),
        "pingpong" => client::ping_pong(address, duration(options), *get::<u32>(options, "size")),
        "exchange" => {
            let count = |name| *get::<u64>(options, name);
            let plan = Plan { bytes: count("bytes"), seed: count("seed"), dialogue: count("dialogue") };
            client::exchange(address, plan, options.get_flag("hold"))
        }
        _ => unreachable!("clap knows no other subcommand"),
    }
}

fn arguments() -> Command {
    let address =
        || Arg::new("address").required(true).value_parser(value_parser!(SocketAddr)).help("such as 127.0.0.1:7000");
    let option = |name: &'static str, default: &'static str| Arg::new(name).long(name).default_value(default);
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let seconds = || option("seconds", "2").value_parser(value_parser!(f64)).help("how long to measure");
    let count = |name, default| option(name, default).value_parser(value_parser!(u64));
    let size = |name, default| option(name, default).value_parser(value_parser!(u32).range(1..=1 << 26));
    Command::new("tcp-pair")
        .about("An ordinary TCP client and server")
        .subcommand_required(true)
        .subcommand(
            Command::new("serve")
                .about("Serve all the other modes")
                .arg(address())
                .arg(flag("once").help("end after the first connection")),
        )
        .subcommand(
            Command::new("stream")
                .about("Send as fast as possible and print GB/s")
                .arg(address())
                .arg(seconds())
                .arg(size("chunk", "131072").help("bytes of each write")),
        )
        .subcommand(
            Command::new("pingpong")
                .about("Send small messages to and fro and print the time of a round trip")
                .arg(address())
                .arg(seconds())
                .arg(size("size", "14").help("bytes of each message")),
        )
        .subcommand(
            Command::new("exchange")
                .about("Send pseudo-random bytes both ways at once, in chunks of random sizes, and verify them")
                .arg(address())
                .arg(count("bytes", "1048576").help("bytes each way"))
                .arg(count("seed", "1").help("what contents and sizes follow from"))
                .arg(count("dialogue", "0").help("requests and replies before"))
                .arg(flag("hold").help("keep the connection open until the standard input ends")),
        )
}

fn get<'a, T: Clone + Send + Sync + 'static>(options: &'a ArgMatches, name: &str) -> &'a T {
    options.get_one(name).expect("it is required or has a default")
}

fn duration(options: &ArgMatches) -> Duration {
    Duration::from_secs_f64(get::<f64>(options, "seconds").max(0.0))
}
