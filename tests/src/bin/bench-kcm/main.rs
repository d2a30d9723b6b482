//! `cargo bench-kcm [--quick] [ROW...]`: reading and sending messages through a KCM socket under `kcm_run`, against plain
//! TCP programs that do the same by hand, run in turn, as medians and ratios with what they are to reach. The program that
//! does either is `tests/kcm-bench/kcm.c`; the other end of the connections is the same in both. `--smc`: KCM over
//! connections that have moved to shared memory, against KCM over TCP.
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
        .arg(Arg::new("smc").long("smc").action(ArgAction::SetTrue).help("KCM over shared memory against KCM over TCP"))
        .arg(Arg::new("row").action(ArgAction::Append).help("parts of rows' names"))
        .get_matches();
    let rounds =
        if matches.get_flag("quick") { 3 } else { *matches.get_one::<usize>("rounds").expect("has a default") };
    let chosen: Vec<_> = matches.get_many::<String>("row").into_iter().flatten().collect();
    if !matches.get_flag("as-built") {
        build::release()?;
    }
    let dir = tempfile::tempdir().context("a temporary directory")?;
    let ways = if matches.get_flag("smc") { [Way::Kcm, Way::KcmMoved] } else { [Way::ByHand, Way::Kcm] };
    let bench = Bench { program: dir.path().join("kcm"), ways };
    c::compile(&["kcm-bench"], "-O2", &bench.program)?;
    let [one, other] = ways.map(Way::name);
    let mut table = Table::new(&["KCM", "TCP by hand", "placement", "unit", one, other, "ratio", "CPU", "aim", ""]);
    let mut all_met = true;
    let rows = rows_of(ways);
    for row in rows.iter().filter(|row| chosen.is_empty() || chosen.iter().any(|part| row.name.contains(*part))) {
        eprintln!("{}, {} ...", row.name, row.placement);
        let figures = bench.measure(row, rounds)?;
        let ratio = figures.other[0] / figures.one[0];
        let met = row.aim.is_none_or(|aim| ratio >= aim);
        all_met &= met;
        table.row(&[
            row.name,
            row.by_hand,
            &row.placement.to_string(),
            row.unit(),
            &figure(figures.one[0]),
            &figure(figures.other[0]),
            &format!("{ratio:.2}"),
            &format!("{:.2}", figures.other[1] / figures.one[1]),
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

/// How messages are read and sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ByHand,
    Kcm,
    KcmMoved,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::ByHand => "TCP",
            Self::Kcm => "KCM",
            Self::KcmMoved => "KCM, moved",
        }
    }
}

/// What is measured: aims are those of KCM against TCP, and modes of TCP alone make no difference to KCM.
fn rows_of(ways: [Way; 2]) -> Vec<Row> {
    let mut rows = ROWS.to_vec();
    if ways[0] != Way::ByHand {
        rows.iter_mut().for_each(|row| (row.aim, row.by_hand) = (None, ""));
        rows.dedup_by(|one, other| (one.name, one.placement) == (other.name, other.placement));
    }
    rows
}

/// Medians: the figure, and nanoseconds of CPU time for a message.
struct Figures {
    one: [f64; 2],
    other: [f64; 2],
}

struct Bench {
    program: PathBuf,
    ways: [Way; 2],
}

impl Bench {
    fn measure(&self, row: &Row, rounds: usize) -> Result<Figures> {
        let mut runs = [const { [const { Vec::new() }; 2] }; 2];
        for _ in 0..rounds {
            for (way, runs) in self.ways.into_iter().zip(&mut runs) {
                let figures = self.run(row, way)?;
                runs.iter_mut().zip(figures).for_each(|(runs, figure)| runs.push(figure));
            }
        }
        let [one, other] = runs.map(|runs| runs.map(|runs| median(&runs)));
        Ok(Figures { one, other })
    }

    /// What one run prints.
    fn run(&self, row: &Row, way: Way) -> Result<[f64; 2]> {
        const LIMIT: Duration = Duration::from_secs(60);
        let scene = Scene::new(World::Tcp, LIMIT)?;
        let port = ports::free()?;
        let [first, second] = row.placement.cores()?;
        let (port_text, size) = (port.to_string(), row.size.to_string());
        let (with_kcm, artefacts) = (way != Way::ByHand, Artefacts::locate()?);
        let mut far = scene.client("env");
        if way == Way::KcmMoved {
            far = far.arg(artefacts.get("smc_run")?);
        }
        let far = far.arg(&self.program).args(["far", &port_text, row.far, &size]);
        let _far = far.on_core(first).listen(port)?;
        let mut near = scene.client("env");
        if with_kcm {
            near = near.arg(artefacts.get("kcm_run")?).args(["-p", PARSER]);
        }
        if way == Way::KcmMoved {
            near = near.arg("--smc");
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
