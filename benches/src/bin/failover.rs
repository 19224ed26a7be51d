//! `benches/failover`: how long nobody can write when the leader dies, for etcd and for Urd.
//!
//! A cluster of three on this machine, with puts going on at all members. The leader is killed
//! (SIGKILL); the time from there to the acknowledgement of a put that was sent afterwards is what
//! is measured. Then the killed member is started again, and when it has what the others have, the
//! next leader is killed. Both kinds run with the same ticks; an election takes between one and two
//! election timeouts, so the figures scatter by that much.
//!
//! With `--by removal` the leader is removed from the cluster instead, each time from a new one. Nothing dies then, so
//! what is measured is the longest time without any acknowledgement from there on.

use clap::{Parser, ValueEnum};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use urd_benches::cargo;
use urd_benches::cluster::Cluster;
use urd_benches::prober::Prober;
use urd_benches::server::Program;
use urd_benches::statistics::Sample;
use urd_benches::table::{Table, figure};

/// A cluster that serves nobody for so long after a kill is broken.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(60);
/// Before the next kill, so that what the last one caused is over.
const QUIET: Duration = Duration::from_millis(500);

/// After a removal, so much is looked at.
const AFTER_REMOVAL: Duration = Duration::from_secs(4);

/// What befalls the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// It is killed, and started again
    Kill,
    /// It is removed, each time from a new cluster
    Removal,
}

/// Kills the leader again and again, or removes it, and prints for how long nothing could be put.
///
/// All members and the client run on this machine and share its cores.
#[derive(Debug, Parser)]
#[command(name = "failover")]
struct Cli {
    /// What befalls the leader
    #[arg(long, value_enum, default_value_t = By::Kill)]
    by: By,
    /// How often, of each kind of server
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,
    /// Members of a cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=7))]
    members: u32,
    /// The members' --heartbeat-interval, in milliseconds
    #[arg(long, default_value_t = 100)]
    heartbeat_interval: u32,
    /// The members' --election-timeout, in milliseconds
    #[arg(long, default_value_t = 1000)]
    election_timeout: u32,
    /// Only the server of this name: etcd or Urd
    #[arg(long, value_parser = ["etcd", "Urd"])]
    only: Option<String>,
    /// The etcd to compare with: a path, or a name on the search path
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// A built Urd; built from the working tree (release) if not given
    #[arg(long)]
    urd: Option<PathBuf>,
    /// Where data directories are made
    #[arg(long)]
    data_root: Option<PathBuf>,
}

fn main() -> ExitCode {
    match failover(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failover: {error}");
            ExitCode::FAILURE
        }
    }
}

fn failover(cli: &Cli) -> io::Result<()> {
    if cli.by == By::Kill && cli.members < 3 {
        return Err(io::Error::other(
            "of two members none can be lost: use three, or --by removal",
        ));
    }
    let root = match &cli.data_root {
        Some(root) => root.clone(),
        None => cargo::target_directory().join("failover"),
    };
    let (times, members) = (cli.times, cli.members);
    let mut table = Table::new(["milliseconds without writes", "median", "worst", "least"]);
    for name in ["etcd", "Urd"] {
        if cli.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let program = match name {
            "etcd" => cargo::etcd(&cli.etcd)?,
            _ => cargo::urd(cli.urd.as_deref())?,
        };
        let outages = match cli.by {
            By::Kill => outages(cli, &program, &root)?,
            By::Removal => gaps(cli, &program, &root)?,
        };
        let milliseconds = outages.iter().map(|outage| outage.as_secs_f64() * 1e3).collect();
        if let Some(sample) = Sample::of(milliseconds) {
            let figures = [sample.median, sample.max, sample.min].map(figure);
            let [median, worst, least] = figures;
            table.row([name.into(), median, worst, least]);
        }
    }
    let (heartbeat, election) = (cli.heartbeat_interval, cli.election_timeout);
    let what = if cli.by == By::Kill { "killed" } else { "removed" };
    println!(
        "The leader of {members} members {what} {times} times; ticks {heartbeat}/{election} ms.\n\n{table}"
    );
    Ok(())
}

/// The longest time without an acknowledgement after each removal of a cluster's leader.
fn gaps(cli: &Cli, program: &Program, root: &Path) -> io::Result<Vec<Duration>> {
    let mut gaps = Vec::new();
    for nth in 1..=cli.times {
        let cluster = start(cli, program, root)?;
        let prober = Prober::start(&cluster.endpoints())?;
        thread::sleep(QUIET);
        let leader = cluster.leader()?;
        let asked = cluster.remove(leader)?;
        thread::sleep(AFTER_REMOVAL);
        gaps.push(prober.longest_gap(asked));
        tell(cli, program, nth, &gaps);
    }
    Ok(gaps)
}

fn tell(cli: &Cli, program: &Program, nth: u32, times: &[Duration]) {
    let milliseconds = times.last().map_or(0.0, |time| time.as_secs_f64() * 1e3);
    eprintln!("{}, {nth}/{}: {milliseconds:.0} ms", program.name, cli.times);
}

fn start(cli: &Cli, program: &Program, root: &Path) -> io::Result<Cluster> {
    let flags = [
        format!("--heartbeat-interval={}", cli.heartbeat_interval),
        format!("--election-timeout={}", cli.election_timeout),
    ];
    let flags = flags.each_ref().map(String::as_str);
    Cluster::start(program, root, cli.members as usize, &flags)
}

/// The time without writes after each kill of a cluster's leader.
fn outages(cli: &Cli, program: &Program, root: &Path) -> io::Result<Vec<Duration>> {
    let mut cluster = start(cli, program, root)?;
    let prober = Prober::start(&cluster.endpoints())?;
    let mut outages = Vec::new();
    for nth in 1..=cli.times {
        thread::sleep(QUIET);
        let leader = cluster.leader()?;
        prober.forget();
        let killed = cluster.kill(leader)?;
        let served = prober.first_after(killed, FAILOVER_TIMEOUT).map_err(|error| {
            io::Error::new(error.kind(), format!("{}, kill {nth}: {error}", program.name))
        })?;
        outages.push(served - killed);
        tell(cli, program, nth, &outages);
        cluster.restart(leader)?;
    }
    drop(prober);
    cluster.stop()?;
    Ok(outages)
}
