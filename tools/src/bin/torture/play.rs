//! The run itself, on the stage that was set for it.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use urd_tools::lab::network::Network;

use crate::Cli;
use crate::cluster::{Cluster, SETTLE_TIMEOUT};
use crate::faults::Breaker;
use crate::load;
use crate::record::Record;
use crate::verdict;

/// Load before the first fault and after the last.
const CALM: Duration = Duration::from_secs(2);
/// What the stage takes for "something is wrong".
const WRONG: u8 = 1;
const CANNOT: u8 = 3;

pub(crate) fn run(cli: &Cli, seed: u64, stage: &Path) -> ExitCode {
    let executor = match LocalExecutorBuilder::new(Placement::Unbound).name("torture").make() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("torture: cannot set up io_uring: {error}");
            return ExitCode::from(CANNOT);
        }
    };
    match executor.run(perform(cli, seed, stage)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("WRONG: {error}\nthe seed was {seed}");
            ExitCode::from(WRONG)
        }
    }
}

async fn perform(cli: &Cli, seed: u64, stage: &Path) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let urd = match &cli.urd {
        Some(urd) => std::fs::canonicalize(urd).map_err(|error| error.to_string())?,
        None => beside_us()?,
    };
    let members = usize::from(cli.members);
    let network = cli.network.as_ref().map(|prefix| Network::new(prefix, members));
    // Few entries between checkpoints: then those behind are sent a state, and not the log.
    let entries = [200, 2_000, 20_000][rng.usize(..3)];
    let arguments =
        vec![format!("--snapshot-count={entries}"), "--corrupt-check-time=5s".to_owned()];
    println!("seed {seed}, {members} members of {} with {}", urd.display(), arguments.join(" "));
    let mut cluster = Cluster::new(urd, members, stage, network, arguments)?;
    cluster.launch_all()?;
    cluster.wait_until_whole(SETTLE_TIMEOUT).await?;

    let record = Arc::new(Record::new());
    let clients = load::start(&cluster.endpoints, &record, seed)?;
    let came = torture(cli, &mut cluster, &record, rng).await;
    record.end_load();
    let came = match came {
        Ok(()) => verdict::settle(&mut cluster, &record).await,
        Err(error) => Err(error),
    };
    record.end_watches();
    wait_for(clients).await;
    if came.is_err() {
        println!("the end of the record is missing; what follows may be wrong for want of it");
    }
    let judged = verdict::judge(record.collect(), seed);
    came.and(judged)
}

async fn torture(
    cli: &Cli,
    cluster: &mut Cluster,
    record: &Arc<Record>,
    rng: Rng,
) -> Result<(), String> {
    Timer::new(CALM).await;
    Breaker::new(cluster, record, rng, &cli.only).run(cli.duration()).await?;
    let mended = Instant::now();
    cluster.wait_until_whole(SETTLE_TIMEOUT).await?;
    let took = mended.elapsed().as_secs_f64();
    println!(
        "whole again {took:.1} s after the last mending; {} requests so far",
        record.operations()
    );
    Timer::new(CALM).await;
    Ok(())
}

/// Waits for a thread without holding up this one's tasks.
async fn wait_for(thread: std::thread::JoinHandle<()>) {
    while !thread.is_finished() {
        Timer::new(Duration::from_millis(20)).await;
    }
    thread.join().expect("the clients' thread does not panic");
}

fn beside_us() -> Result<std::path::PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let urd = own.with_file_name("urd");
    if urd.is_file() {
        return Ok(urd);
    }
    Err(format!("there is no {}; build it, or name another with --urd", urd.display()))
}
