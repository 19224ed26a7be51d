//! The command line: etcd's own tool's flags and defaults, and what goes beyond it.
//!
//! Flags that exist there and cannot be served here yet (TLS, users) are known and refused with
//! a sentence, so that a script written for etcd's tool fails understandably.

use crate::scenarios::kubernetes::KubernetesArgs;
use crate::scenarios::lease_keepalive::LeaseKeepaliveArgs;
use crate::scenarios::stm::StmArgs;
use crate::scenarios::txn_mixed::TxnMixedArgs;
use crate::scenarios::txn_put::TxnPutArgs;
use crate::scenarios::watch::WatchArgs;
use crate::scenarios::watch_get::WatchGetArgs;
use crate::scenarios::watch_latency::WatchLatencyArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::time::Duration;
use urd_tools::grpc::endpoint::Endpoint;

/// Measures an etcd-compatible server.
///
/// Latency without --rate is from sending to answer, at as many requests under way as there are
/// clients. With --rate it is from the moment at which the request was due: what a stalled server
/// delays counts fully, although it was not sent meanwhile.
#[derive(Debug, Parser)]
#[command(name = "benchmark", version, args_override_self = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) workload: WorkloadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Servers, separated by commas; connections are spread over them
    #[arg(long, global = true, value_delimiter = ',', default_value = "127.0.0.1:2379")]
    pub(crate) endpoints: Vec<String>,
    /// Total number of connections
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) conns: u32,
    /// Total number of clients, spread over the connections; each has one request under way
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) clients: u32,
    /// Print full floating point precision
    #[arg(long, global = true)]
    pub(crate) precise: bool,
    /// Print a line of figures for every second, as comma-separated values
    #[arg(long, global = true)]
    pub(crate) sample: bool,
    /// Connect only to the leader, asking each endpoint who that is
    #[arg(long, global = true)]
    pub(crate) target_leader: bool,
    /// Go on when members fail: requests that fail with an error that means "try elsewhere" are
    /// asked again, over a connection made anew (with --target-leader to the new leader, otherwise
    /// to the next endpoint). Such errors are counted apart. Only for put and range
    #[arg(long, global = true)]
    pub(crate) survive_failover: bool,
    /// How long connecting (and connecting again) may take; 0 means 5s
    #[arg(long, global = true, default_value = "0", value_parser = parse_duration)]
    dial_timeout: Duration,
    /// How results are printed
    #[arg(long, global = true, default_value = "text")]
    pub(crate) output: Output,
    /// Threads to generate load with; one suffices for some hundred thousand requests a second
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: u32,
    /// Poll this long before sleeping: saves wake-up latency, burns CPU that the server may need
    #[arg(long, global = true, default_value = "0", value_parser = parse_duration)]
    pub(crate) spin: Duration,
    /// Seed of random keys and values
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Stop starting requests after this time, even if --total is not reached; 0 is no limit
    #[arg(long, global = true, default_value = "0", value_parser = parse_duration)]
    pub(crate) duration: Duration,

    /// Not supported yet
    #[arg(long, global = true, hide = true)]
    user: Option<String>,
    /// Not supported yet
    #[arg(long, global = true, hide = true)]
    cert: Option<String>,
    /// Not supported yet
    #[arg(long, global = true, hide = true)]
    key: Option<String>,
    /// Not supported yet
    #[arg(long, global = true, hide = true)]
    cacert: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum WorkloadArgs {
    /// Benchmark put
    Put(PutArgs),
    /// Benchmark range; a request, all pages of a range, or a stream
    Range(RangeArgs),
    /// Benchmark watch: creates watchers, then puts what they watch
    ///
    /// Reported are the creations, one after the other on each stream; the puts; the events: their
    /// delay is from the put's acknowledgement to the event's arrival, 0 if the event came first;
    /// and the same from the moment the put was due (event-from-put). Every watcher must get every
    /// event once, in order.
    Watch(WatchArgs),
    /// Benchmark watch latency: one put at a time, until all watchers have its event
    ///
    /// Reported is what watch reports.
    WatchLatency(WatchLatencyArgs),
    /// Benchmark serializable gets while watchers catch up from an old revision
    WatchGet(WatchGetArgs),
    /// Benchmark keeping leases alive, over one stream a client
    LeaseKeepalive(LeaseKeepaliveArgs),
    /// Benchmark transactions of puts
    TxnPut(TxnPutArgs),
    /// Benchmark a mixed load of transactions: one range or one put each
    TxnMixed(TxnMixedArgs),
    /// Benchmark software transactional memory: reads, then a transaction that checks them
    ///
    /// An attempt whose check fails is retried; the latency is that of all attempts together.
    Stm(StmArgs),
    /// Benchmark the calls of Kubernetes' API servers, in a mix
    ///
    /// Objects are created, updated and deleted by transactions that compare one mod revision, and
    /// read it when that fails. Lists are pages pinned to the first one's revision. Watchers with
    /// previous values and progress notifications follow the prefix, and must get every event once,
    /// in order. Event objects share leases of an hour.
    Kubernetes(KubernetesArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    pub(crate) amount: Amount,
    /// Bytes of a key
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) key_size: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 8)]
    pub(crate) val_size: u32,
    /// Number of different keys
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    pub(crate) key_space_size: u64,
    /// Use the keys in their order, not random ones
    #[arg(long)]
    pub(crate) sequential_keys: bool,
    /// Compact at this interval (e.g. 30s, 5m); 0 never
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    pub(crate) compact_interval: Duration,
    /// Revisions that a compaction leaves
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) compact_index_delta: i64,
    /// Print the server's hash over all keys afterwards, and the time it took
    #[arg(long)]
    pub(crate) check_hashkv: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RangeArgs {
    /// First key, or the only one
    #[arg(id = "range-key", value_name = "KEY")]
    pub(crate) key: String,
    /// End of the range, exclusive
    #[arg(value_name = "END")]
    pub(crate) end: Option<String>,
    #[command(flatten)]
    pub(crate) amount: Amount,
    /// Most keys in an answer (with --paginate, in a page); 0 is no limit
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) limit: i64,
    /// Ask for all pages of --limit keys, at the first page's revision; they are one request
    #[arg(long, requires = "limit", conflicts_with = "stream")]
    pub(crate) paginate: bool,
    /// Ask over RangeStream, which etcd has since 3.7
    #[arg(long)]
    pub(crate) stream: bool,
    /// Linearizable (l) or serializable (s)
    #[arg(long, default_value = "l")]
    pub(crate) consistency: Consistency,
    /// Ask for the number of keys only
    #[arg(long)]
    pub(crate) count_only: bool,
    /// Ask for keys without their values
    #[arg(long)]
    pub(crate) keys_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Consistency {
    /// Linearizable
    #[value(name = "l")]
    Linearizable,
    /// Serializable
    #[value(name = "s")]
    Serializable,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Amount {
    /// Requests per second, scheduled ahead; 0 starts each when the one before is answered
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u64,
    /// Total number of requests; 10000 unless --duration ends the run
    #[arg(long)]
    pub(crate) total: Option<u64>,
}

impl Amount {
    const TOTAL_DEFAULT: u64 = 10_000;

    fn limits(&self) -> Limits {
        Limits { rate: self.rate, total: self.total, total_default: Some(Amount::TOTAL_DEFAULT) }
    }
}

/// How much is to be done, and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) rate: u64,
    pub(crate) total: Option<u64>,
    /// If neither the total nor the time is limited.
    pub(crate) total_default: Option<u64>,
}

impl WorkloadArgs {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            WorkloadArgs::Put(_) => "put",
            WorkloadArgs::Range(_) => "range",
            WorkloadArgs::Watch(_) => "watch",
            WorkloadArgs::WatchLatency(_) => "watch-latency",
            WorkloadArgs::WatchGet(_) => "watch-get",
            WorkloadArgs::LeaseKeepalive(_) => "lease-keepalive",
            WorkloadArgs::TxnPut(_) => "txn-put",
            WorkloadArgs::TxnMixed(_) => "txn-mixed",
            WorkloadArgs::Stm(_) => "stm",
            WorkloadArgs::Kubernetes(_) => "kubernetes",
        }
    }

    /// Its requests are all alike, and each is complete in itself.
    pub(crate) fn is_alike(&self) -> bool {
        match self {
            WorkloadArgs::Put(_) => true,
            WorkloadArgs::Range(range) => !range.paginate && !range.stream,
            _ => false,
        }
    }

    fn limits(&self) -> Limits {
        match self {
            WorkloadArgs::Put(put) => put.amount.limits(),
            WorkloadArgs::Range(range) => range.amount.limits(),
            WorkloadArgs::Watch(watch) => watch.limits(),
            WorkloadArgs::WatchLatency(watch) => watch.limits(),
            WorkloadArgs::WatchGet(watch) => watch.limits(),
            WorkloadArgs::LeaseKeepalive(lease) => lease.amount.limits(),
            WorkloadArgs::TxnPut(txn) => txn.amount.limits(),
            WorkloadArgs::TxnMixed(txn) => txn.amount.limits(),
            WorkloadArgs::Stm(stm) => stm.amount.limits(),
            WorkloadArgs::Kubernetes(kubernetes) => kubernetes.amount.limits(),
        }
    }
}

impl Cli {
    pub(crate) fn rate(&self) -> u64 {
        self.workload.limits().rate
    }

    /// How many requests; none if only the time is limited.
    pub(crate) fn total(&self) -> Option<u64> {
        let limits = self.workload.limits();
        let unlimited = self.common.duration.is_zero();
        limits.total.or(limits.total_default.filter(|_| unlimited))
    }

    /// The endpoints, and a sentence about what is asked for and cannot be served.
    pub(crate) fn checked_endpoints(&self) -> Result<Vec<Endpoint>, String> {
        let common = &self.common;
        for (flag, given) in [
            ("--cert", common.cert.is_some()),
            ("--key", common.key.is_some()),
            ("--cacert", common.cacert.is_some()),
        ] {
            if given {
                return Err(format!("{flag}: TLS is not supported yet"));
            }
        }
        if common.user.is_some() {
            return Err("--user: authentication is not supported yet".into());
        }
        if common.survive_failover && !self.workload.is_alike() {
            return Err("--survive-failover: only for put, and for range in one request".into());
        }
        common
            .endpoints
            .iter()
            .map(|text| text.parse::<Endpoint>().map_err(|error| format!("--endpoints: {error}")))
            .collect()
    }
}

impl Common {
    pub(crate) fn dial_timeout(&self) -> Duration {
        const DIAL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
        if self.dial_timeout.is_zero() { DIAL_TIMEOUT_DEFAULT } else { self.dial_timeout }
    }
}

/// A duration as Go writes it: `0`, `1.5s`, `300ms`, `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text:?} is not a duration like 300ms, 1.5s or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_begin = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, tail) = rest.split_at(unit_begin.ok_or_else(malformed)?);
        let number: f64 = number.parse().map_err(|_| malformed())?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        seconds += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(malformed()),
            };
        rest = tail;
    }
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| malformed())?;
    if text.is_empty() { Err(malformed()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split_whitespace()).unwrap()
    }

    #[test]
    fn command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_before_and_after_the_subcommand() {
        let cli =
            parse("benchmark --conns=100 --clients 1000 put --total=5 --endpoints=a:1,http://b:2");
        assert_eq!((cli.common.conns, cli.common.clients, cli.total()), (100, 1000, Some(5)));
        let endpoints = cli.checked_endpoints().unwrap();
        assert_eq!(endpoints[1].authority, "b:2");
    }

    #[test]
    fn defaults_are_those_of_etcds_tool() {
        let cli = parse("benchmark put");
        assert_eq!((cli.common.conns, cli.common.clients, cli.rate()), (1, 1, 0));
        assert_eq!((cli.total(), cli.common.endpoints.len()), (Some(10_000), 1));
        let WorkloadArgs::Put(put) = cli.workload else { panic!("not put") };
        assert_eq!((put.key_size, put.val_size, put.key_space_size), (8, 8, 1));
        assert_eq!((put.compact_index_delta, put.sequential_keys), (1000, false));
        assert_eq!(parse("benchmark put --duration=3s").total(), None);
    }

    #[test]
    fn unsupported_flags_are_refused_by_name() {
        let refusal = |line| parse(line).checked_endpoints().unwrap_err();
        assert!(refusal("benchmark put --cacert=x").contains("--cacert: TLS is not supported yet"));
        assert!(refusal("benchmark --survive-failover stm").contains("--survive-failover"));
        assert!(refusal("benchmark range a z --stream --survive-failover").contains("only"));
        assert!(refusal("benchmark --user=root:x put").contains("--user"));
        assert!(refusal("benchmark --endpoints=https://a:1 put").contains("TLS"));
        assert!(refusal("benchmark --key=k range a").contains("--key: TLS"));
        assert!(
            parse("benchmark range a b").checked_endpoints().is_ok(),
            "a range's key is another"
        );
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("300ms"), Ok(Duration::from_millis(300)));
        for text in ["", "5", "s", "1x", "-1s", "1..s", "1e99h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
