//! `benches/compare`: etcd and Urd side by side, on this machine, under the same load; single
//! servers, or clusters (`--members`).
//!
//! One kind of server runs at a time, each trial on a fresh one with fresh data on the same file system.
//! Rounds alternate their order (A B, B A, ...), so that what changes slowly on the machine
//! favours nobody. All loads have a fixed number of requests, so that both servers end up with the
//! same data and their memory can be compared. Figures are medians over the rounds, with the least
//! and the greatest beside them.
//!
//! The load generator shares the cores with the servers; what it costs is printed, so that it can
//! be seen whether it, and not the server, is measured.

use clap::{Parser, ValueEnum};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use urd_benches::cargo;
use urd_benches::floor::Floor;
use urd_benches::server::Program;
use urd_benches::statistics::Sample;
use urd_benches::table::{Table, figure};
use urd_benches::trial::{self, Operation, Target, Trial, Workload};

/// Runs the same load on etcd and on Urd, and prints the ratios.
///
/// The load generator runs on the same machine. With --members so do all members, as a process
/// each: all of these share its cores and its disk, so the figures say what the kinds of servers
/// cost beside each other, not what a cluster of several machines reaches. CPU and memory are sums
/// over the members.
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Cli {
    /// The etcd to compare with: a path, or a name on the search path
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// A built Urd; built from the working tree (release) if not given
    #[arg(long)]
    urd: Option<PathBuf>,
    /// A built load generator; built if not given
    #[arg(long)]
    benchmark: Option<PathBuf>,
    /// Where data directories are made: the file system that is measured
    #[arg(long)]
    data_root: Option<PathBuf>,
    /// How often everything is run; 5, or 2 with --quick
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Only the loads whose names contain this
    #[arg(long)]
    only: Option<String>,
    /// Compare clusters of so many members, under loads for clusters
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=7))]
    members: u32,
    /// Fewer rounds, of a tenth of the requests
    #[arg(long)]
    quick: bool,
    #[arg(long, default_value = "markdown")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Markdown,
    Json,
}

/// What single servers are compared under.
const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "put, 1 connection, 1 client",
        operation: Operation::Put,
        target: Target::All,
        conns: 1,
        clients: 1,
        total: 5_000,
    },
    Workload {
        name: "put, 100 connections, 1000 clients",
        operation: Operation::Put,
        target: Target::All,
        conns: 100,
        clients: 1000,
        total: 200_000,
    },
    Workload {
        name: "linearizable get, 100 connections, 1000 clients",
        operation: Operation::LinearizableRange,
        target: Target::All,
        conns: 100,
        clients: 1000,
        total: 200_000,
    },
    Workload {
        name: "serializable get, 100 connections, 1000 clients",
        operation: Operation::SerializableRange,
        target: Target::All,
        conns: 100,
        clients: 1000,
        total: 200_000,
    },
];

/// What clusters are compared under.
const CLUSTER_WORKLOADS: [Workload; 4] = [
    Workload {
        name: "put to the leader, 1 connection, 1 client",
        operation: Operation::Put,
        target: Target::Leader,
        conns: 1,
        clients: 1,
        total: 2_000,
    },
    Workload {
        name: "put to the leader, 100 connections, 1000 clients",
        operation: Operation::Put,
        target: Target::Leader,
        conns: 100,
        clients: 1000,
        total: 100_000,
    },
    Workload {
        name: "put to all members, 100 connections, 1000 clients",
        operation: Operation::Put,
        target: Target::All,
        conns: 100,
        clients: 1000,
        total: 100_000,
    },
    Workload {
        name: "linearizable get from all members, 100 connections, 1000 clients",
        operation: Operation::LinearizableRange,
        target: Target::All,
        conns: 100,
        clients: 1000,
        total: 100_000,
    },
];

/// A metric's name, and how it is read.
type Metric = (&'static str, fn(&Trial) -> f64);

/// What is taken from a trial, in the order of printing.
const METRICS: [Metric; 7] = [
    ("requests/s", |trial| trial.requests_per_second),
    ("p50 us", |trial| trial.p50_us),
    ("p99 us", |trial| trial.p99_us),
    ("p99.9 us", |trial| trial.p99_9_us),
    ("server CPU us/request", |trial| trial.server_cpu_us_per_request),
    ("peak RSS MiB", |trial| trial.peak_resident_mib),
    ("load generator CPU us/request", |trial| trial.load_cpu_us_per_request),
];
const P50: &str = "p50 us";

/// Everything found, in the form of `--output json`.
#[derive(Debug, Serialize)]
struct Results {
    rounds: u32,
    members: u32,
    programs: Vec<String>,
    rows: Vec<Row>,
    /// Microseconds of one durable write, and of one loopback round trip, if a load of one client
    /// was among those run.
    durable_write_us: Option<Sample>,
    round_trip_us: Option<Sample>,
}

#[derive(Debug, Serialize)]
struct Row {
    workload: &'static str,
    clients: u32,
    /// By metric, in the programs' order.
    metrics: BTreeMap<&'static str, Vec<Sample>>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match compare(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(cli: &Cli) -> io::Result<()> {
    let programs = programs(cli)?;
    let target = cargo::target_directory();
    let benchmark = match &cli.benchmark {
        Some(path) => path.clone(),
        None => cargo::build(&cargo::repository(), &target, "urd-tools", "benchmark")?,
    };
    let root = cli.data_root.clone().unwrap_or_else(|| target.join("compare"));
    std::fs::create_dir_all(&root)?;
    let rounds = cli.rounds.unwrap_or(if cli.quick { 2 } else { 5 });
    let wanted = |workload: &Workload| {
        cli.only.as_ref().is_none_or(|part| workload.name.contains(part.as_str()))
    };
    let all = if cli.members == 1 { WORKLOADS } else { CLUSTER_WORKLOADS };
    let workloads: Vec<Workload> = all
        .into_iter()
        .filter(wanted)
        .map(|workload| if cli.quick { workload.shortened(10) } else { workload })
        .collect();
    if workloads.is_empty() {
        return Err(io::Error::other("--only: no load has a name that contains it"));
    }
    let results = measure(&programs, &benchmark, &root, &workloads, rounds, cli.members)?;
    match cli.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&results)?),
        Output::Markdown => print_markdown(&results),
    }
    Ok(())
}

fn programs(cli: &Cli) -> io::Result<[Program; 2]> {
    Ok([cargo::etcd(&cli.etcd)?, cargo::urd(cli.urd.as_deref())?])
}

fn measure(
    programs: &[Program],
    benchmark: &Path,
    root: &Path,
    workloads: &[Workload],
    rounds: u32,
    members: u32,
) -> io::Result<Results> {
    let mut trials: Vec<Vec<Vec<Trial>>> = vec![vec![Vec::new(); programs.len()]; workloads.len()];
    let (mut writes, mut round_trips) = (Vec::new(), Vec::new());
    let mut measure_floor = || -> io::Result<()> {
        let floor = Floor::measure(root)?;
        writes.push(floor.write_us);
        round_trips.push(floor.round_trip_us);
        Ok(())
    };
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..programs.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (workload, of_workload) in workloads.iter().zip(&mut trials) {
            for &nth in &order {
                let program = &programs[nth];
                // A shared disk has slow minutes: the floor is taken right before and after what
                // is compared with it.
                // It says nothing of a cluster, whose members write side by side.
                let beside_floor = workload.clients == 1 && members == 1;
                if beside_floor {
                    measure_floor()?;
                }
                let (trial, _) = trial::run(program, benchmark, workload, root, members as usize)?;
                if beside_floor {
                    measure_floor()?;
                }
                eprintln!(
                    "round {}/{rounds}, {}, {}: {:.0}/s, p50 {:.0} us, {:.1} us CPU",
                    round + 1,
                    workload.name,
                    program.name,
                    trial.requests_per_second,
                    trial.p50_us,
                    trial.server_cpu_us_per_request
                );
                of_workload[nth].push(trial);
            }
        }
    }
    let rows = workloads.iter().zip(&trials).map(|(workload, trials)| row(workload, trials));
    Ok(Results {
        rounds,
        members,
        programs: programs.iter().map(|program| program.name.clone()).collect(),
        rows: rows.collect(),
        durable_write_us: Sample::of(writes),
        round_trip_us: Sample::of(round_trips),
    })
}

fn row(workload: &Workload, of_programs: &[Vec<Trial>]) -> Row {
    let metrics = METRICS.iter().map(|(name, metric)| {
        let sample = |trials: &Vec<Trial>| Sample::of(trials.iter().map(metric).collect());
        (*name, of_programs.iter().filter_map(sample).collect())
    });
    Row { workload: workload.name, clients: workload.clients, metrics: metrics.collect() }
}

fn print_markdown(results: &Results) {
    let mut table = Table::new(["load", "metric", "etcd", "Urd", "Urd / etcd"]);
    for row in &results.rows {
        let mut workload = row.workload;
        for (name, _) in METRICS {
            if let Some([etcd, urd]) = row.metrics.get(name).map(Vec::as_slice) {
                let ratio = format!("{:.3}", urd.median / etcd.median);
                table.row([workload.into(), name.into(), spread(etcd), spread(urd), ratio]);
                // Named once, in the first of its rows.
                workload = "";
            }
        }
    }
    println!("Medians of {} rounds (least - greatest).", results.rounds);
    if results.members > 1 {
        let members = results.members;
        println!("Clusters of {members} members on one machine; CPU and memory are their sums.");
    }
    println!("\n{table}");
    print_floor(results);
}

fn spread(sample: &Sample) -> String {
    let (min, max) = (figure(sample.min), figure(sample.max));
    format!("{} ({min} - {max})", figure(sample.median))
}

/// How far one client is from what the hardware asks for.
fn print_floor(results: &Results) {
    let (Some(write), Some(round_trip)) = (&results.durable_write_us, &results.round_trip_us)
    else {
        return;
    };
    let floor = write.median + round_trip.median;
    println!("Beneath a put: one durable write (4 KiB, O_DIRECT | O_DSYNC) {} us,", spread(write));
    println!(
        "one loopback TCP round trip {} us, together {} us.",
        spread(round_trip),
        figure(floor)
    );
    for row in results.rows.iter().filter(|row| row.clients == 1) {
        for (program, p50) in results.programs.iter().zip(&row.metrics[P50]) {
            let distance = figure(p50.median - floor);
            println!("{}, {program}: p50 is {distance} us above that.", row.workload);
        }
    }
}
