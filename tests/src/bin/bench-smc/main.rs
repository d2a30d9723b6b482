//! `cargo bench-smc`: TCP against `smc_run`, run in turn, as medians and ratios with the floors they must reach.
#![forbid(unsafe_code)]

mod workload;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::builder::TypedValueParser;
use clap::{Arg, ArgAction, Command, value_parser};
use preloop_tests::scene::Scene;
use preloop_tests::stats::median;
use preloop_tests::table::Table;
use preloop_tests::world::World;
use preloop_tests::{build, ports};

use workload::{Floor, WORKLOADS, Workload};

fn main() -> Result<ExitCode> {
    let matches = arguments().get_matches();
    let rounds =
        if matches.get_flag("quick") { 3 } else { *matches.get_one::<usize>("rounds").expect("has a default") };
    let chosen: Vec<_> = matches.get_many::<String>("workload").into_iter().flatten().collect();
    build::release()?;
    println!("{}\n", machine());
    let mut table = Table::new(&["workload", "placement", "unit", "TCP", "smc_run", "ratio", "of pairs", "floor", ""]);
    let mut all_met = true;
    for workload in WORKLOADS.iter().filter(|it| chosen.is_empty() || chosen.iter().any(|part| it.name.contains(*part)))
    {
        eprintln!("{}, {} ...", workload.name, workload.placement);
        let row = row(workload, rounds).unwrap_or_else(|error| {
            eprintln!("{error:#}");
            Row { verdict: "failed", ..Row::default() }
        });
        all_met &= row.verdict == "met";
        let Row { tcp, smc, ratio, range, verdict } = row;
        let floor = workload.floor.to_string();
        let placement = workload.placement.to_string();
        table.row(&[workload.name, &placement, workload.unit, &tcp, &smc, &ratio, &range, &floor, verdict]);
    }
    println!(
        "{table}\nMedians of {rounds} runs each, in turn; the ratio is of the medians, its range over pairs of runs."
    );
    Ok(if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn arguments() -> Command {
    let names = WORKLOADS.map(|workload| workload.name).join(", ");
    Command::new("bench-smc")
        .about("Measures programs on TCP and under smc_run, in turn")
        .arg(
            Arg::new("rounds")
                .long("rounds")
                .default_value("5")
                .value_parser(value_parser!(u16).range(1..).map(usize::from))
                .help("runs of each in each world"),
        )
        .arg(Arg::new("quick").long("quick").action(ArgAction::SetTrue).help("three rounds"))
        .arg(Arg::new("workload").action(ArgAction::Append).help(format!("parts of names: {names}")))
}

/// The figures of one workload, as printed.
#[derive(Default)]
struct Row {
    tcp: String,
    smc: String,
    ratio: String,
    range: String,
    verdict: &'static str,
}

fn row(workload: &Workload, rounds: usize) -> Result<Row> {
    // Looking costs time: the run that smcss watches is not measured.
    let moved = run(workload, World::Both, true);
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..rounds * workload.repeats {
        for (runs, world) in runs.iter_mut().zip([World::Tcp, World::Both]) {
            runs.push(run(workload, world, false)?);
        }
    }
    let pairs: Vec<_> = runs[0].iter().zip(&runs[1]).map(|(tcp, smc)| smc / tcp).collect();
    let [tcp, smc] = runs.map(|runs| median(&runs));
    let (least, most) = pairs.iter().fold((f64::MAX, f64::MIN), |(least, most), &it| (least.min(it), most.max(it)));
    let verdict = match moved {
        Err(error) => {
            eprintln!("{error:#}");
            "did not move to shared memory"
        }
        Ok(_) if workload.floor.met(tcp, smc) => "met",
        Ok(_) => "not met",
    };
    let figure = |value: f64| if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") };
    let ratio = |value| workload.floor.show(value);
    Ok(Row {
        tcp: figure(tcp),
        smc: figure(smc),
        ratio: ratio(smc / tcp),
        range: if workload.floor == Floor::Zero {
            "-".to_owned()
        } else {
            format!("{} to {}", ratio(least), ratio(most))
        },
        verdict,
    })
}

fn run(workload: &Workload, world: World, watched: bool) -> Result<f64> {
    const LIMIT: Duration = Duration::from_secs(60);
    let scene = Scene::new(world, LIMIT)?;
    let port = ports::free()?;
    if !watched {
        return (workload.run)(&scene, port);
    }
    let observer = scene.observe(port)?;
    let figure = (workload.run)(&scene, port)?;
    observer.expect(workload.connections)?;
    Ok(figure)
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |it| it.1);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, {model}, Linux {}", kernel.trim())
}
