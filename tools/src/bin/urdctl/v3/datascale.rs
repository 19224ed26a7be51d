//! `check datascale`: how much memory does a server take for a number of pairs?

use clap::Args;

use super::check::{After, clean_up, expect_empty, size_of};
use super::client::Client;
use super::global::Global;
use super::interrupts::Interrupts;
use super::load::Load;
use super::print::put_text;
use crate::failure::Failure;
use crate::v2::http;

const METRIC: &str = "process_resident_memory_bytes ";
/// Of a pair: half of it key, half of it value.
const PAIR_BYTES: usize = 1024;

#[derive(Debug, Args)]
pub(crate) struct DatascaleArgs {
    /// How much: s(small), m(medium), l(large) or xl(xLarge)
    #[arg(long, default_value = "s")]
    load: String,
    /// The prefix of the keys that are put
    #[arg(long, default_value = "/etcdctl-check-datascale/")]
    prefix: String,
    #[command(flatten)]
    after: After,
}

pub(crate) async fn run(global: &Global, args: DatascaleArgs) -> Result<(), Failure> {
    let sizes = [(10_000, 50), (100_000, 200), (1_000_000, 500), (3_000_000, 1000)];
    let (count, clients) = sizes.get(size_of(&args.load)?).copied().unwrap_or_default();
    let client = Client::new(global)?;
    expect_empty(&client, &args.prefix).await?;
    let endpoint = client.endpoints().first().cloned().unwrap_or_default();
    let before = resident_bytes(&endpoint, "before")?;
    put_text(&format!(
        "Start data scale check for work load [{count} key-value pairs, {PAIR_BYTES} bytes per key-value, {clients} \
         concurrent clients].\n"
    ))?;
    let load = Load {
        clients,
        prefix: args.prefix.clone(),
        key_bytes: PAIR_BYTES / 2,
        value_bytes: PAIR_BYTES / 2,
        rate: None,
        duration: None,
        count,
    };
    let outcome = Interrupts::new()?.unless(load.run(global)).await;
    let after = resident_bytes(&endpoint, "after");
    clean_up(&client, &args.prefix, &args.after).await?;
    let Some(outcome) = outcome else {
        return Err(Failure::interrupted("interrupted; the keys of the check are deleted"));
    };
    let (outcome, after) = (outcome?, after?);
    if !outcome.print_errors()? {
        return Err(Failure::silent(1));
    }
    let mebibytes = (after - before) / f64::from(1 << 20);
    put_text(&format!("PASS: Approximate system memory used : {mebibytes:.2} MB.\n"))
}

fn resident_bytes(endpoint: &str, when: &str) -> Result<f64, Failure> {
    let answer = http::get(endpoint, "/metrics").map_err(|error| {
        Failure::error(format!("cannot read {endpoint}/metrics {when} the put operations: {error}"))
    })?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let number = body.lines().find_map(|line| line.strip_prefix(METRIC)?.trim().parse().ok());
    number.ok_or_else(|| {
        Failure::error(format!("{endpoint}/metrics has no {METRIC}{when} the put operations"))
    })
}
