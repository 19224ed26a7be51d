//! One load on one fresh server, or cluster.

use crate::children::Guarded;
use crate::cluster::Cluster;
use crate::server::Program;
use glommio::LocalExecutorBuilder;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use urd_proto::etcdserverpb::{PutRequest, PutResponse};
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::grpc::unary;
use urd_tools::report::Report;

/// The key that ranges read, and the sizes of issue and README: 8-byte keys, 256-byte values.
const KEY: &str = "benchkey";
const KEY_BYTES: usize = 8;
const VALUE_BYTES: usize = 256;
const _: () = assert!(KEY.len() == KEY_BYTES);

/// Puts go to this many keys at random.
const KEY_SPACE: usize = 100_000;
/// A load that takes longer than this is broken.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);
const PUT_TIMEOUT: Duration = Duration::from_secs(5);
/// The share of a load that is run before it unmeasured, one in so many.
const WARM_UP_SHARE: u64 = 20;

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Put,
    LinearizableRange,
    SerializableRange,
}

/// Where the connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Leader,
    /// Spread over all members.
    All,
}

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// A short name, also of files.
    pub name: &'static str,
    pub operation: Operation,
    pub target: Target,
    pub conns: u32,
    pub clients: u32,
    pub total: u64,
}

/// What a trial showed.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    pub requests_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub server_cpu_us_per_request: f64,
    pub load_cpu_us_per_request: f64,
    pub peak_resident_mib: f64,
}

impl Workload {
    fn arguments(&self, endpoints: &str, total: u64) -> Vec<String> {
        let mut arguments = vec![
            format!("--endpoints={endpoints}"),
            format!("--conns={}", self.conns),
            format!("--clients={}", self.clients),
            "--output=json".into(),
        ];
        if self.target == Target::Leader {
            arguments.push("--target-leader".into());
        }
        let consistency = match self.operation {
            Operation::Put => {
                arguments.extend([
                    "put".into(),
                    format!("--key-size={KEY_BYTES}"),
                    format!("--val-size={VALUE_BYTES}"),
                    format!("--key-space-size={KEY_SPACE}"),
                ]);
                None
            }
            Operation::LinearizableRange => Some("l"),
            Operation::SerializableRange => Some("s"),
        };
        if let Some(consistency) = consistency {
            arguments.extend(["range".into(), KEY.into(), format!("--consistency={consistency}")]);
        }
        arguments.push(format!("--total={total}"));
        arguments
    }

    /// The same with fewer requests.
    pub fn shortened(self, divisor: u64) -> Workload {
        Workload { total: (self.total / divisor).max(1), ..self }
    }
}

/// Starts so many members of `program` on fresh data under `root`, loads them with `benchmark`,
/// ends them. CPU and memory are the members' sums.
///
/// A failed request fails the trial: a server that refuses some is not comparable.
pub fn run(
    program: &Program,
    benchmark: &Path,
    workload: &Workload,
    root: &Path,
    members: usize,
) -> io::Result<(Trial, Report)> {
    let in_context = |error: io::Error| {
        io::Error::new(error.kind(), format!("{} of {}: {error}", workload.name, program.name))
    };
    let server = Cluster::start(program, root, members, &[])?;
    put_key(&server.endpoints()[0]).map_err(in_context)?;
    load(benchmark, workload, &server, workload.total / WARM_UP_SHARE).map_err(in_context)?;
    let cpu_begin = server.cpu_time()?;
    let report = load(benchmark, workload, &server, workload.total).map_err(in_context)?;
    let cpu = server.cpu_time()?.saturating_sub(cpu_begin);
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
    let trial = Trial {
        requests_per_second: report.requests_per_second,
        p50_us: microseconds(report.latency.p50),
        p99_us: microseconds(report.latency.p99),
        p99_9_us: microseconds(report.latency.p99_9),
        server_cpu_us_per_request: cpu.as_secs_f64() * 1e6 / report.requests as f64,
        load_cpu_us_per_request: report.cpu_us_per_request,
        peak_resident_mib: server.peak_resident_bytes()? as f64 / f64::from(1 << 20),
    };
    server.stop()?;
    Ok((trial, report))
}

/// Puts the key that ranges read.
fn put_key(endpoint: &str) -> io::Result<()> {
    let endpoint: Endpoint = endpoint.parse().map_err(io::Error::other)?;
    let request = PutRequest {
        key: KEY.into(),
        value: vec![b'v'; VALUE_BYTES].into(),
        ..PutRequest::default()
    };
    let executor = LocalExecutorBuilder::default().make().map_err(io::Error::from)?;
    let path = "/etcdserverpb.KV/Put";
    let put = unary::call::<_, PutResponse>(&endpoint, path, &request, PUT_TIMEOUT);
    executor.run(put).map_err(io::Error::other)?;
    Ok(())
}

/// Runs the load generator to its end.
fn load(benchmark: &Path, workload: &Workload, server: &Cluster, total: u64) -> io::Result<Report> {
    // Files and not pipes: nobody has to read them meanwhile.
    let directory = tempfile::tempdir()?;
    let (output, errors) = (directory.path().join("output"), directory.path().join("errors"));
    let mut command = Command::new(benchmark);
    command
        .args(workload.arguments(&server.endpoints().join(","), total.max(1)))
        .stdin(Stdio::null())
        .stdout(fs::File::create(&output)?)
        .stderr(fs::File::create(&errors)?);
    let mut child = Guarded::spawn(&mut command)?;
    match child.wait(LOAD_TIMEOUT)? {
        Some(status) if status.success() => {}
        Some(status) => {
            let mut what = fs::read_to_string(&errors)?;
            // What failed stands in the report, if it came to one.
            if let Ok(report) = serde_json::from_slice::<Report>(&fs::read(&output)?) {
                what = format!("{what}{:?}", report.error_counts);
            }
            return Err(io::Error::other(format!("the load generator failed ({status}): {what}")));
        }
        None => {
            let late = format!("the load is not done after {LOAD_TIMEOUT:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, late));
        }
    }
    serde_json::from_slice(&fs::read(&output)?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_the_load_generators() {
        let workload = Workload {
            name: "get",
            operation: Operation::SerializableRange,
            target: Target::All,
            conns: 2,
            clients: 3,
            total: 100,
        };
        let expected = "--endpoints=a:1 --conns=2 --clients=3 --output=json range benchkey \
                        --consistency=s --total=5";
        assert_eq!(workload.arguments("a:1", 5).join(" "), expected);
        assert_eq!(workload.shortened(10).total, 10);
        let leader = Workload { target: Target::Leader, ..workload };
        assert!(leader.arguments("a:1,b:1", 5).join(" ").contains("json --target-leader range"));
    }
}
