//! What is measured, where it runs, and what it must reach.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use preloop_tests::placement::Placement::{self, Apart, Free, Together};
use preloop_tests::programs;
use preloop_tests::scene::Scene;
use preloop_tests::tools::nginx::Nginx;
use preloop_tests::tools::{iperf3, redis, sockperf, wrk};

/// One row of the table.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) placement: Placement,
    pub(crate) unit: &'static str,
    pub(crate) floor: Floor,
    /// Connections that must be seen in shared memory.
    pub(crate) connections: usize,
    /// Runs in each round: more where the differences are small.
    pub(crate) repeats: usize,
    pub(crate) run: fn(&Scene, u16) -> Result<f64>,
}

/// What the figure under `smc_run` must reach.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Floor {
    /// At least so many times TCP's.
    AtLeast(f64),
    /// At most so many times TCP's.
    AtMost(f64),
    /// Nothing at all.
    Zero,
}

impl Floor {
    /// A ratio of `smc_run` to TCP as this floor states it.
    pub(crate) fn show(self, ratio: f64) -> String {
        match self {
            Self::Zero => "-".to_owned(),
            Self::AtMost(ceiling) if ceiling < 1.0 => format!("1/{:.2}", ratio.recip()),
            Self::AtLeast(_) | Self::AtMost(_) => format!("{ratio:.3}"),
        }
    }

    pub(crate) fn met(self, tcp: f64, smc: f64) -> bool {
        match self {
            Self::AtLeast(floor) => smc >= floor * tcp,
            Self::AtMost(ceiling) => smc <= ceiling * tcp,
            Self::Zero => smc == 0.0,
        }
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(floor) => write!(f, ">= {floor:.2}"),
            Self::AtMost(ceiling) if *ceiling < 1.0 => write!(f, "<= 1/{:.1}", ceiling.recip()),
            Self::AtMost(ceiling) => write!(f, "<= {ceiling:.2}"),
            Self::Zero => f.write_str("0"),
        }
    }
}

const RATE: Workload = Workload {
    name: "",
    placement: Free,
    unit: "req/s",
    floor: Floor::AtLeast(1.0),
    connections: 0,
    repeats: 1,
    run: local_work,
};

pub(crate) const WORKLOADS: [Workload; 10] = [
    Workload {
        name: "iperf3, 1 stream",
        placement: Apart,
        unit: "Gbit/s",
        floor: Floor::AtLeast(2.5),
        connections: 1,
        run: one_stream,
        ..RATE
    },
    Workload {
        name: "sockperf tp, 64000 B",
        placement: Apart,
        unit: "MB/s",
        floor: Floor::AtLeast(2.0),
        connections: 1,
        run: throughput,
        ..RATE
    },
    Workload {
        name: "sockperf pp, 14 B",
        placement: Apart,
        unit: "us",
        floor: Floor::AtMost(1.0 / 20.0),
        connections: 1,
        run: |scene, port| ping_pong(scene, port, Apart),
        ..RATE
    },
    Workload {
        name: "sockperf pp, 14 B",
        placement: Together,
        unit: "us",
        floor: Floor::AtMost(1.0 / 1.3),
        connections: 1,
        run: |scene, port| ping_pong(scene, port, Together),
        ..RATE
    },
    Workload {
        name: "nginx, wrk -t8 -c500",
        floor: Floor::AtLeast(1.3),
        // Eight threads share them evenly.
        connections: 500 / 8 * 8,
        run: |scene, port| web(scene, port, "-t8 -c500 -d2s", false),
        ..RATE
    },
    Workload {
        name: "nginx, wrk -t1 -c50, close",
        floor: Floor::AtLeast(0.95),
        run: |scene, port| web(scene, port, "-t1 -c50 -d2s", true),
        ..RATE
    },
    Workload {
        name: "redis SET -c 200 -d 1024",
        floor: Floor::AtLeast(1.5),
        connections: 200,
        run: |scene, port| key_value(scene, port, "SET"),
        ..RATE
    },
    Workload {
        name: "redis GET -c 200 -d 1024",
        floor: Floor::AtLeast(1.5),
        connections: 200,
        run: |scene, port| key_value(scene, port, "GET"),
        ..RATE
    },
    Workload {
        name: "no connections: files, pipes",
        placement: Together,
        unit: "s",
        floor: Floor::AtMost(1.01),
        repeats: 5,
        run: local_work,
        ..RATE
    },
    Workload {
        name: "500 idle connections",
        unit: "CPU ms in 3 s",
        floor: Floor::Zero,
        connections: 500,
        run: idle,
        ..RATE
    },
];

fn one_stream(scene: &Scene, port: u16) -> Result<f64> {
    let [first, second] = Apart.cores()?;
    let server = iperf3::server(scene, port).on_core(first).listen(port)?;
    let client = iperf3::client(scene, port, "-t 2").on_core(second).run()?;
    server.success()?;
    iperf3::Report::parse(&client)?.gigabits_per_second()
}

fn throughput(scene: &Scene, port: u16) -> Result<f64> {
    let [first, second] = Apart.cores()?;
    let _server = sockperf::server(scene, port).on_core(first).listen(port)?;
    sockperf::bandwidth(&sockperf::throughput(scene, port, 2, 64_000).on_core(second).run()?)
}

fn ping_pong(scene: &Scene, port: u16, placement: Placement) -> Result<f64> {
    let [first, second] = placement.cores()?;
    let _server = sockperf::server(scene, port).on_core(first).listen(port)?;
    sockperf::latency(&sockperf::ping_pong(scene, port, 2, 14).on_core(second).run()?)
}

fn web(scene: &Scene, port: u16, options: &str, close: bool) -> Result<f64> {
    let nginx = Nginx::start(scene, port, 1)?;
    let client = wrk::client(scene, options, &format!("{}/page", nginx.url));
    let client = if close { wrk::closing(client) } else { client };
    wrk::rate(&client.run()?)
}

fn key_value(scene: &Scene, port: u16, test: &str) -> Result<f64> {
    let _server = redis::server(scene, port).listen(port)?;
    let options = format!("-c 200 -d 1024 -n 200000 -t {}", test.to_lowercase());
    redis::rate(&redis::benchmark(scene, port, &options).run()?, test)
}

/// Seconds for everything from start to end, so that what the launcher costs counts too.
fn local_work(scene: &Scene, _port: u16) -> Result<f64> {
    let program = scene.client("python3").arg(programs::script("local_work.py")).on_core(Together.cores()?[1]);
    let start = Instant::now();
    program.run()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Milliseconds of CPU that both sides use while nothing happens.
fn idle(scene: &Scene, port: u16) -> Result<f64> {
    /// Within it whoever still looks out for more must have gone to sleep.
    const SETTLE: Duration = Duration::from_secs(1);
    const PERIOD: Duration = Duration::from_secs(3);
    let nginx = Nginx::start(scene, port, 1)?;
    let script = programs::script("idle.py").into_os_string();
    let args = [script, port.to_string().into(), "500".into(), "/page".into()];
    let mut client = scene.client("python3").args(args).piped().start()?;
    client.wait_for_line("idle")?;
    sleep(SETTLE);
    let used = || nginx.process.cpu_time() + client.cpu_time();
    let before = used();
    sleep(PERIOD);
    let used = used() - before;
    client.end_input();
    client.success()?;
    Ok(used.as_secs_f64() * 1e3)
}
