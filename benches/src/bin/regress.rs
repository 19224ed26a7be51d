//! `benches/regress BASE`: is the working tree slower than commit BASE?
//!
//! Builds both in release mode, BASE in a git worktree under `target/regress/`, and runs put and
//! get loads on both in pairs of trials, each on a fresh server. The rule by which a metric got
//! worse is `urd_benches::judge`'s, and `--help` states it. If anything looks worse, as many
//! rounds are run again, and all of them judged together: chance seldom strikes twice.
//!
//! The load generator is the working tree's for both sides. The whole report of every trial, with
//! its histogram, stays in `target/regress/trials/`.
//!
//! Exit codes: 0, nothing got worse; 1, something did; 2, it could not be measured.

use clap::Parser;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use urd_benches::cargo;
use urd_benches::judge::{Verdict, judge};
use urd_benches::server::Program;
use urd_benches::statistics::Sample;
use urd_benches::table::{Table, figure};
use urd_benches::trial::{self, Operation, Target, Trial, Workload};

const RULE: &str = "\
The rule: base and head are run in pairs, right after each other, and what is judged is the ratio
of head to base within each pair. A metric (p50, p99, p99.9, server CPU per request; less is
better) got worse when both hold:
  1. the median of the ratios exceeds 1 by more than the larger of
       - its floor: 5 % for p50 and CPU, 10 % for p99, 20 % for p99.9, and
       - 2 standard errors of that median (1.2533 x 1.4826 x the median absolute deviation of the
         ratios / the square root of their number);
  2. head was worse than base in at least 4 of 5 pairs.
When something got worse, as many rounds are run again and all are judged together.

Exit codes: 0, nothing got worse; 1, something did; 2, it could not be measured.";

/// Compares the latency and the CPU per request of the working tree with those of a commit.
#[derive(Debug, Parser)]
#[command(name = "regress", after_help = RULE)]
struct Cli {
    /// The commit to compare with
    #[arg(required_unless_present = "base")]
    commit: Option<String>,
    /// A built Urd to compare with, instead of a commit
    #[arg(long, conflicts_with = "commit")]
    base: Option<PathBuf>,
    /// A built Urd to judge, instead of the working tree's
    #[arg(long)]
    head: Option<PathBuf>,
    /// A built load generator; built if not given
    #[arg(long)]
    benchmark: Option<PathBuf>,
    /// Where data directories are made: the file system that is measured
    #[arg(long)]
    data_root: Option<PathBuf>,
    /// Pairs of trials of each load; 7, or 5 with --quick
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Only the loads whose names contain this
    #[arg(long)]
    only: Option<String>,
    /// A tenth of the requests, and fewer rounds
    #[arg(long)]
    quick: bool,
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "put-1",
        operation: Operation::Put,
        target: Target::All,
        conns: 1,
        clients: 1,
        total: 5_000,
    },
    Workload {
        name: "put-1000",
        operation: Operation::Put,
        target: Target::All,
        conns: 100,
        clients: 1000,
        total: 200_000,
    },
    Workload {
        name: "get-1",
        operation: Operation::LinearizableRange,
        target: Target::All,
        conns: 1,
        clients: 1,
        total: 10_000,
    },
    Workload {
        name: "get-1000",
        operation: Operation::LinearizableRange,
        target: Target::All,
        conns: 100,
        clients: 1000,
        total: 200_000,
    },
];

/// A metric's name, how it is read, and the growth that is always allowed.
type Metric = (&'static str, fn(&Trial) -> f64, f64);

const METRICS: [Metric; 4] = [
    ("p50 us", |trial| trial.p50_us, 0.05),
    ("p99 us", |trial| trial.p99_us, 0.10),
    ("p99.9 us", |trial| trial.p99_9_us, 0.20),
    ("server CPU us/request", |trial| trial.server_cpu_us_per_request, 0.05),
];

/// The trials of one load, paired by their places.
#[derive(Clone, Debug, Default)]
struct Pairs {
    base: Vec<Trial>,
    head: Vec<Trial>,
}

/// What is run on what.
struct Bench {
    base: Program,
    head: Program,
    benchmark: PathBuf,
    data_root: PathBuf,
    trials_kept: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match regress(&cli) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("regress: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether anything got worse.
fn regress(cli: &Cli) -> io::Result<bool> {
    let bench = prepare(cli)?;
    let rounds = cli.rounds.unwrap_or(if cli.quick { 5 } else { 7 });
    let wanted = |workload: &Workload| {
        cli.only.as_ref().is_none_or(|part| workload.name.contains(part.as_str()))
    };
    let workloads: Vec<Workload> = WORKLOADS
        .into_iter()
        .filter(wanted)
        .map(|workload| if cli.quick { workload.shortened(10) } else { workload })
        .collect();
    if workloads.is_empty() {
        return Err(io::Error::other("--only: no load has a name that contains it"));
    }
    let mut pairs = vec![Pairs::default(); workloads.len()];
    for (workload, pairs) in workloads.iter().zip(&mut pairs) {
        bench.run(workload, rounds, pairs)?;
    }
    let suspect = |pairs: &Pairs| verdicts(pairs).iter().any(|(_, verdict)| verdict.worse);
    for (workload, pairs) in workloads.iter().zip(&mut pairs).filter(|(_, pairs)| suspect(pairs)) {
        eprintln!("{} looks worse; looking again", workload.name);
        bench.run(workload, rounds, pairs)?;
    }
    print(&workloads, &pairs);
    println!("Histograms of all trials: {}", bench.trials_kept.display());
    Ok(pairs.iter().any(suspect))
}

fn prepare(cli: &Cli) -> io::Result<Bench> {
    let (repository, target) = (cargo::repository(), cargo::target_directory());
    let own = target.join("regress");
    let trials_kept = own.join("trials");
    fs::create_dir_all(&trials_kept)?;
    let base = match (&cli.base, &cli.commit) {
        (Some(path), _) => path.clone(),
        (None, Some(commit)) => build_commit(&repository, &own, commit)?,
        (None, None) => return Err(io::Error::other("neither a commit nor --base is given")),
    };
    let head = match &cli.head {
        Some(path) => path.clone(),
        None => cargo::build(&repository, &target, "urd", "urd")?,
    };
    let benchmark = match &cli.benchmark {
        Some(path) => path.clone(),
        None => cargo::build(&repository, &target, "urd-tools", "benchmark")?,
    };
    Ok(Bench {
        base: Program { name: "base".into(), path: base },
        head: Program { name: "head".into(), path: head },
        benchmark,
        data_root: cli.data_root.clone().unwrap_or_else(|| own.join("data")),
        trials_kept,
    })
}

/// Builds `commit` in a worktree of its own. The worktree stays, so that the next build of another
/// commit there has less to do.
fn build_commit(repository: &Path, own: &Path, commit: &str) -> io::Result<PathBuf> {
    const GIT_TIMEOUT: Duration = Duration::from_secs(300);
    let worktree = own.join("base");
    let hash = resolve(repository, commit)?;
    let mut git = Command::new("git");
    if worktree.join(".git").exists() {
        git.current_dir(&worktree).args(["checkout", "--quiet", "--force", "--detach", &hash]);
    } else {
        // A registration whose directory was removed would be in the way.
        cargo::run(
            Command::new("git").current_dir(repository).args(["worktree", "prune"]),
            GIT_TIMEOUT,
        )?;
        git.current_dir(repository).args(["worktree", "add", "--quiet", "--force", "--detach"]);
        git.arg(&worktree).arg(&hash);
    }
    cargo::run(&mut git, GIT_TIMEOUT)?;
    cargo::build(&worktree, &own.join("base-target"), "urd", "urd")
}

fn resolve(repository: &Path, commit: &str) -> io::Result<String> {
    let output = Command::new("git")
        .current_dir(repository)
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
        .arg(format!("{commit}^{{commit}}"))
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("there is no commit {commit:?}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Bench {
    /// Runs pairs of trials, alternating who is first.
    fn run(&self, workload: &Workload, rounds: u32, pairs: &mut Pairs) -> io::Result<()> {
        for round in 1..=rounds {
            let nth = pairs.base.len() + 1;
            if round % 2 == 1 {
                pairs.base.push(self.trial(&self.base, workload, nth)?);
                pairs.head.push(self.trial(&self.head, workload, nth)?);
            } else {
                pairs.head.push(self.trial(&self.head, workload, nth)?);
                pairs.base.push(self.trial(&self.base, workload, nth)?);
            }
        }
        Ok(())
    }

    fn trial(&self, program: &Program, workload: &Workload, nth: usize) -> io::Result<Trial> {
        let (trial, report) = trial::run(program, &self.benchmark, workload, &self.data_root, 1)?;
        let kept = format!("{}-{}-{nth}.json", workload.name, program.name);
        fs::write(self.trials_kept.join(kept), serde_json::to_vec(&report)?)?;
        eprintln!(
            "{} {} {nth}: p50 {:.0} us, p99 {:.0} us, {:.1} us CPU",
            workload.name,
            program.name,
            trial.p50_us,
            trial.p99_us,
            trial.server_cpu_us_per_request
        );
        Ok(trial)
    }
}

fn verdicts(pairs: &Pairs) -> Vec<(&'static str, Verdict)> {
    let verdict = |(name, metric, floor): Metric| {
        let values = |trials: &[Trial]| trials.iter().map(metric).collect();
        Some((name, judge(values(&pairs.base), values(&pairs.head), floor)?))
    };
    METRICS.into_iter().filter_map(verdict).collect()
}

fn print(workloads: &[Workload], pairs: &[Pairs]) {
    let heading = ["load", "metric", "base", "head", "ratio", "allowed", "pairs worse", "verdict"];
    let mut table = Table::new(heading);
    for (workload, pairs) in workloads.iter().zip(pairs) {
        for (metric, verdict) in verdicts(pairs) {
            table.row([
                workload.name.to_owned(),
                metric.to_owned(),
                spread(&verdict.base),
                spread(&verdict.head),
                format!("{:.3}", verdict.ratios.median),
                format!("{:.3}", 1.0 + verdict.allowance),
                format!("{:.0} %", verdict.pairs_worse * 100.0),
                if verdict.worse { "WORSE".into() } else { "ok".to_owned() },
            ]);
        }
    }
    println!("Medians over the rounds, +- the median absolute deviation.\n\n{table}");
}

fn spread(sample: &Sample) -> String {
    format!("{} +- {}", figure(sample.median), figure(sample.median_deviation))
}
