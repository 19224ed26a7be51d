//! `endpoint health`, `status` and `hashkv`: each endpoint is asked by itself.

use std::time::Instant;

use clap::{Args, Subcommand};
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::alarm_request::AlarmAction;

use super::client::Client;
use super::global::Global;
use super::methods::{ALARM_LIST, HASH_KV, MEMBER_LIST, RANGE, STATUS};
use crate::failure::Failure;
use crate::go;

#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// All members that the cluster knows, not only --endpoints
    #[arg(long, global = true)]
    cluster: bool,
    #[command(subcommand)]
    command: EndpointCommand,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// Whether each endpoint answers a linearizable read and has no alarm
    Health,
    /// What each endpoint says of itself
    ///
    /// Simple output has, separated by commas: endpoint, member id, version, storage version, size, size in use, what of it
    /// is not in use, quota, is it the leader, is it a learner, raft's term, index and applied index, errors, the version of a
    /// downgrade, and whether one is under way.
    Status,
    /// A hash of each endpoint's keys with their history
    Hashkv {
        /// The greatest revision to take in; 0 means the newest
        #[arg(long, default_value = "0", value_parser = go::flag_number)]
        rev: i64,
    },
}

/// How an endpoint is.
#[derive(Debug)]
pub(crate) struct Health {
    pub endpoint: String,
    pub took: String,
    /// Nothing if it is well.
    pub error: Option<String>,
}

#[derive(Debug)]
pub(crate) struct EndpointStatus {
    pub endpoint: String,
    pub status: pb::StatusResponse,
}

#[derive(Debug)]
pub(crate) struct EndpointHash {
    pub endpoint: String,
    pub hash: pb::HashKvResponse,
}

pub(crate) async fn run(global: &Global, args: EndpointArgs) -> Result<(), Failure> {
    global.printer()?;
    let client = Client::new(global)?;
    let endpoints = endpoints(&client, args.cluster).await?;
    match args.command {
        EndpointCommand::Health => health(global, client, endpoints).await,
        EndpointCommand::Status => status(global, &client, endpoints).await,
        EndpointCommand::Hashkv { rev } => hash(global, &client, endpoints, rev).await,
    }
}

/// The endpoints to ask: those that were given, or those that the cluster's members advertise.
pub(crate) async fn endpoints(client: &Client, cluster: bool) -> Result<Vec<String>, Failure> {
    if !cluster {
        return Ok(client.endpoints().to_vec());
    }
    let members = client.call(&MEMBER_LIST, &pb::MemberListRequest { linearizable: true }).await;
    let members = members.map_err(|failure| {
        failure.context("failed to fetch endpoints from etcd cluster member list")
    })?;
    Ok(members.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

async fn health(global: &Global, client: Client, endpoints: Vec<String>) -> Result<(), Failure> {
    // All at once: those that do not answer take their whole time.
    let mut asked = Vec::new();
    for endpoint in endpoints {
        let client = client.only(&endpoint)?;
        asked.push(tokio::task::spawn_local(async move { ask_health(&client, endpoint).await }));
    }
    let mut healths = Vec::new();
    for task in asked {
        healths.push(task.await.map_err(|error| Failure::error(format!("{error}")))?);
    }
    global.printer()?.health(&healths)?;
    if healths.iter().any(|health| health.error.is_some()) {
        return Err(Failure::error("unhealthy cluster"));
    }
    Ok(())
}

async fn ask_health(client: &Client, endpoint: String) -> Health {
    let begin = Instant::now();
    let request = pb::RangeRequest { key: "health".into(), ..Default::default() };
    let read = client.call(&RANGE, &request).await;
    let took = go::show_duration(begin.elapsed());
    let denied = "etcdserver: permission denied";
    let error = match read {
        // Whoever is not permitted to read has been answered by a majority.
        Err(failure) if failure.text() != Some(denied) => {
            Some(failure.text().unwrap_or_default().to_owned())
        }
        _ => alarms(client).await,
    };
    Health { endpoint, took, error }
}

async fn alarms(client: &Client) -> Option<String> {
    let all = pb::AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() };
    match client.call(&ALARM_LIST, &all).await {
        Err(_) => Some("Unable to fetch the alarm list".to_owned()),
        Ok(answer) if answer.alarms.is_empty() => None,
        Ok(answer) => {
            let name = |alarm: &pb::AlarmMember| match alarm.alarm() {
                pb::AlarmType::None => "UNKNOWN ".to_owned(),
                kind => format!("{} ", kind.as_str_name()),
            };
            let names = answer.alarms.iter().map(name).collect::<String>();
            Some(format!("Active Alarm(s): {names}"))
        }
    }
}

async fn status(global: &Global, client: &Client, endpoints: Vec<String>) -> Result<(), Failure> {
    let (mut statuses, mut has_failed) = (Vec::new(), false);
    for endpoint in endpoints {
        match client.only(&endpoint)?.call(&STATUS, &pb::StatusRequest {}).await {
            Ok(status) => statuses.push(EndpointStatus { endpoint, status }),
            Err(failure) => {
                has_failed = true;
                let text = failure.text().unwrap_or_default();
                eprintln!("Failed to get the status of endpoint {endpoint} ({text})");
            }
        }
    }
    global.printer()?.statuses(&statuses)?;
    if has_failed { Err(Failure::silent(1)) } else { Ok(()) }
}

async fn hash(
    global: &Global,
    client: &Client,
    endpoints: Vec<String>,
    revision: i64,
) -> Result<(), Failure> {
    let (mut hashes, mut failed) = (Vec::new(), None);
    for endpoint in endpoints {
        match client.only(&endpoint)?.call(&HASH_KV, &pb::HashKvRequest { revision }).await {
            Ok(hash) => hashes.push(EndpointHash { endpoint, hash }),
            Err(failure) => {
                let text = failure.text().unwrap_or_default();
                eprintln!("Failed to get the hash of endpoint {endpoint} ({text})");
                failed = Some(failure);
            }
        }
    }
    global.printer()?.hashes(&hashes)?;
    failed.map_or(Ok(()), Err)
}
