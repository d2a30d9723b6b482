//! `cargo bench-kcm [--quick] [ROW...]`: reading and sending messages through a KCM socket under `kcm_run`, against plain
//! TCP programs that do the same by hand, run in turn, as medians and ratios with what they are to reach. The program that
//! does either is `tests/kcm-bench/kcm.c`; the other end of the connections is the same in both.
#![forbid(unsafe_code)]

mod rows;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::TypedValueParser;
use clap::{Arg, ArgAction, Command, value_parser};
use preloop_tests::artefacts::Artefacts;
use preloop_tests::scene::Scene;
use preloop_tests::stats::median;
use preloop_tests::table::Table;
use preloop_tests::world::World;
use preloop_tests::{build, c, ports};

use rows::{ROWS, Row};

/// Messages have a length of four bytes before them, which they do not count.
const PARSER: &str = "u32be@0+4";

fn main() -> Result<ExitCode> {
    let matches = Command::new("bench-kcm")
        .about("Measures a KCM socket under kcm_run against plain TCP programs, in turn")
        .arg(
            Arg::new("rounds")
                .long("rounds")
                .default_value("5")
                .value_parser(value_parser!(u16).range(1..).map(usize::from))
                .help("runs of each"),
        )
        .arg(Arg::new("quick").long("quick").action(ArgAction::SetTrue).help("three rounds"))
        .arg(Arg::new("as-built").long("as-built").action(ArgAction::SetTrue).help("build nothing before"))
        .arg(Arg::new("row").action(ArgAction::Append).help("parts of rows' names"))
        .get_matches();
    let rounds =
        if matches.get_flag("quick") { 3 } else { *matches.get_one::<usize>("rounds").expect("has a default") };
    let chosen: Vec<_> = matches.get_many::<String>("row").into_iter().flatten().collect();
    if !matches.get_flag("as-built") {
        build::release()?;
    }
    let dir = tempfile::tempdir().context("a temporary directory")?;
    let bench = Bench { program: dir.path().join("kcm") };
    c::compile("kcm-bench", "-O2", &bench.program)?;
    let mut table = Table::new(&["KCM", "TCP by hand", "placement", "unit", "TCP", "KCM", "ratio", "CPU", "aim", ""]);
    let mut all_met = true;
    for row in ROWS.iter().filter(|row| chosen.is_empty() || chosen.iter().any(|part| row.name.contains(*part))) {
        eprintln!("{}, {} ...", row.name, row.placement);
        let figures = bench.measure(row, rounds)?;
        let ratio = figures.kcm[0] / figures.tcp[0];
        let met = row.aim.is_none_or(|aim| ratio >= aim);
        all_met &= met;
        table.row(&[
            row.name,
            row.by_hand,
            &row.placement.to_string(),
            row.unit(),
            &figure(figures.tcp[0]),
            &figure(figures.kcm[0]),
            &format!("{ratio:.2}"),
            &format!("{:.2}", figures.kcm[1] / figures.tcp[1]),
            &row.aim.map_or_else(String::new, |aim| format!(">= {aim:.1}")),
            row.aim.map_or("", |_| if met { "met" } else { "not met" }),
        ]);
    }
    println!("{table}\nMedians of {rounds} runs each, in turn. CPU: how many times the CPU time for a message.");
    Ok(if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn figure(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Medians: the figure, and nanoseconds of CPU time for a message.
struct Figures {
    tcp: [f64; 2],
    kcm: [f64; 2],
}

struct Bench {
    program: PathBuf,
}

impl Bench {
    fn measure(&self, row: &Row, rounds: usize) -> Result<Figures> {
        let mut runs = [const { [const { Vec::new() }; 2] }; 2];
        for _ in 0..rounds {
            for (with_kcm, runs) in runs.iter_mut().enumerate() {
                let figures = self.run(row, with_kcm == 1)?;
                runs.iter_mut().zip(figures).for_each(|(runs, figure)| runs.push(figure));
            }
        }
        let [tcp, kcm] = runs.map(|runs| runs.map(|runs| median(&runs)));
        Ok(Figures { tcp, kcm })
    }

    /// What one run prints.
    fn run(&self, row: &Row, with_kcm: bool) -> Result<[f64; 2]> {
        const LIMIT: Duration = Duration::from_secs(60);
        let scene = Scene::new(World::Tcp, LIMIT)?;
        let port = ports::free()?;
        let [first, second] = row.placement.cores()?;
        let (port_text, size) = (port.to_string(), row.size.to_string());
        let far = scene.client("env").arg(&self.program).args(["far", &port_text, row.far, &size]);
        let _far = far.on_core(first).listen(port)?;
        let mut near = scene.client("env");
        if with_kcm {
            near = near.arg(Artefacts::locate()?.get("kcm_run")?).args(["-p", PARSER]);
        }
        let mode = if with_kcm { row.kcm } else { row.tcp };
        let ended = near.arg(&self.program).args([mode, &port_text, &size]).on_core(second).run()?;
        let mut figures = ended.stdout.split_whitespace().map(str::parse::<f64>);
        let mut next = || figures.next().context("it prints no figure")?.context("a figure");
        Ok([next()?, next()?])
    }
}

impl Row {
    fn unit(&self) -> &'static str {
        if self.far == "echo" { "us" } else { "messages/s" }
    }
}
