//! `cargo demo`: an unmodified client and server on TCP and under `smc_run`, side by side.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::Result;
use preloop_tests::placement::Placement;
use preloop_tests::scene::Scene;
use preloop_tests::stats::median;
use preloop_tests::table::Table;
use preloop_tests::tools::{iperf3, sockperf, tcp_pair};
use preloop_tests::world::World;
use preloop_tests::{build, ports, programs};

/// Runs of each program in each world.
const ROUNDS: usize = 3;
/// No run takes longer than a few seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a server and a client on these cores, once, and returns what the client measured.
type Measure = fn(&Scene, u16, [Option<usize>; 2]) -> Result<f64>;

/// One row of the table.
struct Figure {
    name: &'static str,
    program: &'static str,
    placement: Placement,
    measure: Measure,
    /// Whether more is better.
    rising: bool,
}

fn main() -> Result<()> {
    println!("Building the library and its tools ...");
    build::release()?;
    let figures = figures();
    println!("Running each program {ROUNDS} times on TCP and {ROUNDS} times under smc_run, in turn ...\n");
    let mut table = Table::new(&["", "TCP", "smc_run", "ratio", "program", "placement"]);
    for figure in &figures {
        let [tcp, smc] = alternate(figure)?;
        let ratio = if figure.rising { format!("{:.1}", smc / tcp) } else { format!("1/{:.1}", tcp / smc) };
        let [tcp, smc] = [tcp, smc].map(|value| format!("{value:.2}"));
        table.row(&[figure.name, &tcp, &smc, &ratio, figure.program, &figure.placement.to_string()]);
    }
    println!("{table}\nMedians of {ROUNDS} runs. Latency is half a round trip of 14 bytes.");
    for figure in &figures {
        confirm(figure)?;
    }
    println!("smcss confirms: under smc_run both ends of these connections were SMCD, in shared memory.");
    Ok(())
}

fn figures() -> Vec<Figure> {
    let choose = |wanted, by_wanted: Measure, by_bundled: Measure| {
        if programs::installed(wanted) {
            return (wanted, by_wanted);
        }
        println!("{wanted} is not installed: tcp-pair, an ordinary TCP program that comes with this, takes its place.");
        ("tcp-pair", by_bundled)
    };
    let (program, measure) = choose("iperf3", by_iperf3, by_stream);
    let throughput = Figure { name: "throughput, Gbit/s", program, placement: Placement::Free, measure, rising: true };
    let (program, measure) = choose("sockperf", by_sockperf, by_ping_pong);
    let latency = |placement| Figure { name: "latency, us", program, placement, measure, rising: false };
    let mut figures = vec![throughput];
    if programs::installed("taskset") && Placement::Apart.cores().is_ok() {
        figures.extend([Placement::Apart, Placement::Together].map(latency));
    } else {
        figures.push(latency(Placement::Free));
    }
    figures
}

/// Medians on TCP and under `smc_run`.
fn alternate(figure: &Figure) -> Result<[f64; 2]> {
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (runs, world) in runs.iter_mut().zip([World::Tcp, World::Both]) {
            let scene = Scene::new(world, LIMIT)?;
            runs.push((figure.measure)(&scene, ports::free()?, figure.placement.cores()?)?);
        }
    }
    Ok(runs.map(|runs| median(&runs)))
}

/// One more run under the eyes of smcss, apart from the others because looking costs time.
fn confirm(figure: &Figure) -> Result<()> {
    let scene = Scene::new(World::Both, LIMIT)?;
    let port = ports::free()?;
    let observer = scene.observe(port)?;
    (figure.measure)(&scene, port, figure.placement.cores()?)?;
    observer.expect(1)
}

fn by_iperf3(scene: &Scene, port: u16, [first, second]: [Option<usize>; 2]) -> Result<f64> {
    let server = iperf3::server(scene, port).on_core(first).listen(port)?;
    let client = iperf3::client(scene, port, "-t 1").on_core(second).run()?;
    server.success()?;
    iperf3::Report::parse(&client)?.gigabits_per_second()
}

fn by_stream(scene: &Scene, port: u16, [first, second]: [Option<usize>; 2]) -> Result<f64> {
    let server = tcp_pair::server(scene, port, true).on_core(first).listen(port)?;
    let client = tcp_pair::client(scene, port, "stream", "--seconds 1").on_core(second).run()?;
    server.success()?;
    tcp_pair::gigabits_per_second(&client)
}

fn by_sockperf(scene: &Scene, port: u16, [first, second]: [Option<usize>; 2]) -> Result<f64> {
    let _server = sockperf::server(scene, port).on_core(first).listen(port)?;
    sockperf::latency(&sockperf::ping_pong(scene, port, 1, 14).on_core(second).run()?)
}

fn by_ping_pong(scene: &Scene, port: u16, [first, second]: [Option<usize>; 2]) -> Result<f64> {
    let server = tcp_pair::server(scene, port, true).on_core(first).listen(port)?;
    let client = tcp_pair::client(scene, port, "pingpong", "--seconds 1").on_core(second).run()?;
    server.success()?;
    tcp_pair::latency(&client)
}
