//! Questions asked beside the load: who leads, compact, hash.

use std::time::{Duration, Instant};
use urd_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, HashKvRequest, HashKvResponse, RangeRequest,
    RangeResponse,
};
use urd_tools::grpc::endpoint::Endpoint;
use urd_tools::grpc::unary::{UnaryError, call};
use urd_tools::members;

/// How long a question may take; a hash over many keys takes its time.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
const COMPACT_TIMEOUT: Duration = Duration::from_secs(5);
const HASH_TIMEOUT: Duration = Duration::from_secs(60);

/// The leader among `endpoints`.
pub(crate) async fn leader(endpoints: &[Endpoint]) -> Result<Endpoint, String> {
    let answers = members::statuses(endpoints, STATUS_TIMEOUT).await;
    if let Some(nth) = members::leader(answers.iter().map(|answer| answer.as_ref().ok())) {
        return Ok(endpoints[nth].clone());
    }
    let unreached = answers.iter().filter_map(|answer| answer.as_ref().err());
    let unreached: String = unreached.map(|error| format!("\n{error}")).collect();
    Err(format!("--target-leader: none of the endpoints is the leader{unreached}"))
}

/// Compacts away all but the last `delta` revisions.
pub(crate) async fn compact(endpoint: &Endpoint, delta: i64) -> Result<(), UnaryError> {
    let range = RangeRequest { key: "foo".into(), ..RangeRequest::default() };
    let answer: RangeResponse =
        call(endpoint, "/etcdserverpb.KV/Range", &range, COMPACT_TIMEOUT).await?;
    let revision = answer.header.map_or(0, |header| header.revision).saturating_sub(delta);
    if revision <= 0 {
        return Ok(());
    }
    let compaction = CompactionRequest { revision, ..CompactionRequest::default() };
    let path = "/etcdserverpb.KV/Compact";
    call::<_, CompactionResponse>(endpoint, path, &compaction, COMPACT_TIMEOUT).await?;
    Ok(())
}

/// A server's hash over its keys.
pub(crate) struct HashKv {
    pub(crate) endpoint: String,
    pub(crate) hash: u32,
    pub(crate) took: Duration,
    pub(crate) database_bytes: i64,
}

pub(crate) async fn hash_kv(endpoint: &Endpoint) -> Result<HashKv, UnaryError> {
    let begin = Instant::now();
    let path = "/etcdserverpb.Maintenance/HashKV";
    let answer: HashKvResponse =
        call(endpoint, path, &HashKvRequest::default(), HASH_TIMEOUT).await?;
    let took = begin.elapsed();
    let database_bytes = members::status(endpoint, STATUS_TIMEOUT).await?.db_size;
    Ok(HashKv { endpoint: endpoint.authority.clone(), hash: answer.hash, took, database_bytes })
}
