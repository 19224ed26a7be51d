//! `check perf`, and what it shares with `check datascale`: is the cluster fast enough, and lean enough?

use std::time::Duration;

use clap::{Args, Subcommand};
use urd_proto::etcdserverpb as pb;

use super::client::{Client, prefix_end};
use super::datascale;
use super::global::Global;
use super::interrupts::Interrupts;
use super::load::{Load, Outcome};
use super::methods::{COMPACT, DEFRAGMENT, DELETE_RANGE, RANGE};
use super::print::put_text;
use crate::failure::Failure;
use crate::go;

/// For the deletion, compaction and defragmentation behind a check.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub(crate) enum CheckCommand {
    /// Put at a fixed rate for a minute, and judge throughput and latency
    Perf(PerfArgs),
    /// Put a number of pairs, and say how much memory the first endpoint took for them
    Datascale(datascale::DatascaleArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PerfArgs {
    /// How much: s(small), m(medium), l(large) or xl(xLarge)
    #[arg(long, default_value = "s")]
    load: String,
    /// The prefix of the keys that are put
    #[arg(long, default_value = "/etcdctl-check-perf/")]
    prefix: String,
    /// For how long; etcdctl's check takes 60s
    #[arg(long, default_value = "60s", value_parser = go::duration, value_name = "TIME")]
    duration: Duration,
    #[command(flatten)]
    after: After,
}

/// What to do when the check is over and its keys are deleted.
#[derive(Debug, Args)]
pub(crate) struct After {
    /// Compact up to the last revision afterwards
    #[arg(long)]
    pub auto_compact: bool,
    /// Defragment all endpoints afterwards
    #[arg(long)]
    pub auto_defrag: bool,
}

/// A size of load, of those that `--load` names.
pub(crate) fn size_of(name: &str) -> Result<usize, Failure> {
    match name {
        "s" | "small" => Ok(0),
        "m" | "medium" => Ok(1),
        "l" | "large" => Ok(2),
        "xl" | "xLarge" => Ok(3),
        _ => Err(Failure::bad_feature(format!(
            "unknown load option {name}; there are s, m, l and xl"
        ))),
    }
}

pub(crate) async fn run(global: &Global, command: CheckCommand) -> Result<(), Failure> {
    global.printer()?;
    match command {
        CheckCommand::Perf(args) => perf(global, args).await,
        CheckCommand::Datascale(args) => datascale::run(global, args).await,
    }
}

async fn perf(global: &Global, args: PerfArgs) -> Result<(), Failure> {
    let sizes = [(150, 50), (1000, 200), (8000, 500), (15000, 1000)];
    let (rate, clients) = sizes.get(size_of(&args.load)?).copied().unwrap_or_default();
    let client = Client::new(global)?;
    expect_empty(&client, &args.prefix).await?;
    let load = Load {
        clients,
        prefix: args.prefix.clone(),
        key_bytes: 256,
        value_bytes: 1024,
        rate: Some(rate),
        duration: Some(args.duration),
        count: u64::MAX,
    };
    let outcome = Interrupts::new()?.unless(load.run(global)).await;
    clean_up(&client, &args.prefix, &args.after).await?;
    let Some(outcome) = outcome else {
        return Err(Failure::interrupted("interrupted; the keys of the check are deleted"));
    };
    judge(&outcome?, rate)
}

fn judge(outcome: &Outcome, rate: u32) -> Result<(), Failure> {
    let mut passed = outcome.print_errors()?;
    let throughput = outcome.rate();
    if throughput / f64::from(rate) <= 0.9 {
        passed = false;
        put_text(&format!("FAIL: Throughput too low: {} writes/s\n", throughput as u64 + 1))?;
    } else {
        put_text(&format!("PASS: Throughput is {} writes/s\n", throughput as u64 + 1))?;
    }
    let slowest = outcome.slowest();
    if slowest > 0.5 {
        passed = false;
        put_text(&format!("Slowest request took too long: {slowest:.6}s\n"))?;
    } else {
        put_text(&format!("PASS: Slowest request took {slowest:.6}s\n"))?;
    }
    let deviation = outcome.standard_deviation();
    if deviation > 0.1 {
        passed = false;
        put_text(&format!("Stddev too high: {deviation:.6}s\n"))?;
    } else {
        put_text(&format!("PASS: Stddev is {deviation:.6}s\n"))?;
    }
    put_text(if passed { "PASS\n" } else { "FAIL\n" })?;
    if passed { Ok(()) } else { Err(Failure::silent(1)) }
}

/// A check deletes all below its prefix when it is over: nothing of anybody else's may be there.
pub(crate) async fn expect_empty(client: &Client, prefix: &str) -> Result<(), Failure> {
    let request = pb::RangeRequest {
        key: prefix.to_owned().into(),
        range_end: prefix_end(prefix.as_bytes()),
        limit: 1,
        ..Default::default()
    };
    if client.call(&RANGE, &request).await?.kvs.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid_input(format!(
        "prefix {} has keys. Delete with 'urdctl del --prefix {prefix}' first",
        go::quote(prefix.as_bytes())
    )))
}

/// Deletes the check's keys.
pub(crate) async fn clean_up(client: &Client, prefix: &str, after: &After) -> Result<(), Failure> {
    let request = pb::DeleteRangeRequest {
        key: prefix.to_owned().into(),
        range_end: prefix_end(prefix.as_bytes()),
        prev_kv: false,
    };
    let timeout = Some(CLEANUP_TIMEOUT);
    let deleted = client.call_within(timeout, &DELETE_RANGE, &request).await;
    let deleted =
        deleted.map_err(|failure| failure.context("Cleanup failed during key deletion"))?;
    if after.auto_compact {
        let revision = deleted.header.unwrap_or_default().revision;
        put_text(&format!("Compacting with revision {revision}\n"))?;
        let request = pb::CompactionRequest { revision, physical: true };
        client.call_within(timeout, &COMPACT, &request).await?;
        put_text(&format!("Compacted with revision {revision}\n"))?;
    }
    if after.auto_defrag {
        for endpoint in client.endpoints() {
            let quoted = go::quote(endpoint.as_bytes());
            put_text(&format!("Defragmenting {quoted}\n"))?;
            let client = client.only(endpoint)?;
            client.call_within(timeout, &DEFRAGMENT, &pb::DefragmentRequest {}).await?;
            put_text(&format!("Defragmented {quoted}\n"))?;
        }
    }
    Ok(())
}
