//! `benchmark`: a load generator for any etcd-compatible server.
//!
//! It takes etcd's own tool's flags, and differs from it in what it measures. That tool waits for
//! its rate limiter *before* it looks at the clock, and keeps a fixed number of calls under way:
//! while a server stalls, so does the load, and the stall is counted once per client. Here
//! `--rate` schedules requests ahead and measures from the scheduled moment.
//!
//! [`arrivals`] says which request is due when; [`record`] notes what became of them; [`run`] sets
//! all up on threads and adds up. Between these, requests that are all alike (put, range) are
//! carried by [`load`], one task a connection, which survives lost members ([`failover`]). What takes several steps or streams is a file of
//! its own in [`scenarios`], one task a client. Both stand on the lean client in `urd_tools::grpc`.
//!
//! Exit codes: 0, all requests were answered OK (after errors that `--survive-failover` survived, or
//! none), and all events arrived; 1, some did not, or the
//! load could not be set up; 2, the command line is wrong.
//!
//! Not here: TLS, authentication, and load from several machines.

mod args;
mod arrivals;
mod control;
mod failover;
mod load;
mod progress;
mod record;
mod run;
mod scenarios;
mod text;
mod workload;

use args::{Cli, Output, WorkloadArgs};
use clap::Parser;
use run::Task;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::report::Report;
// Linked for what it puts before glommio's making of rings.
use urd_rings as _;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let checked = cli.checked_endpoints().and_then(|endpoints| Ok((endpoints, Task::new(&cli)?)));
    let (endpoints, task) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    match benchmark(&cli, endpoints, task) {
        Ok(report) if report.errors == 0 => ExitCode::SUCCESS,
        Ok(report) => {
            let Report { errors, requests, .. } = report;
            complain(&format!("{errors} errors; {requests} requests were answered OK"));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn benchmark(cli: &Cli, endpoints: Vec<Endpoint>, task: Task) -> Result<Report, String> {
    let others = endpoints.clone();
    let endpoints = match cli.common.target_leader {
        true => vec![run::executor(Duration::ZERO)?.run(control::leader(&endpoints))?],
        false => endpoints,
    };
    let report = run::run(cli, &endpoints, &others, task)?;
    print(&match cli.common.output {
        Output::Json => {
            serde_json::to_string_pretty(&report).map_err(|error| error.to_string())? + "\n"
        }
        Output::Text => {
            let (precise, sample) = (cli.common.precise, cli.common.sample);
            text::Text { report: &report, precise, sample }.to_string()
        }
    })?;
    if let WorkloadArgs::Put(put) = &cli.workload
        && put.check_hashkv
    {
        hash_kv(cli, &endpoints[0])?;
    }
    Ok(report)
}

fn hash_kv(cli: &Cli, endpoint: &Endpoint) -> Result<(), String> {
    let hash_kv = run::executor(Duration::ZERO)?.run(control::hash_kv(endpoint));
    let hash_kv = hash_kv.map_err(|error| format!("--check-hashkv: {error}"))?;
    let summary = format!(
        "\nHashKV Summary:\n\tHashKV: {}\n\tEndpoint: {}\n\tTime taken to get hashkv: {:?}\n\tDB size: {} bytes\n",
        hash_kv.hash, hash_kv.endpoint, hash_kv.took, hash_kv.database_bytes
    );
    match cli.common.output {
        Output::Text => print(&summary),
        // Standard output is one JSON document.
        Output::Json => {
            complain(&summary);
            Ok(())
        }
    }
}

fn print(text: &str) -> Result<(), String> {
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|error| format!("cannot write the report: {error}"))
}

fn complain(text: &str) {
    // If even this fails there is nobody to tell; the exit code still says it.
    writeln!(io::stderr(), "benchmark: {text}").ok();
}
