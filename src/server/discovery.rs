//! What a first start asks of members that run already: who is in the cluster.

use std::time::Duration;

use bytes::Bytes;

use super::bootstrap::{self, Known};
use super::log_shard::question::Kind;
use super::start::RunError;
use crate::config::Config;
use crate::ids::MemberId;
use crate::raft::transport::{Address, Peer, ask_address};
use crate::url::Url;

/// How long one address may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The members of a running cluster, as the first of the other members of `--initial-cluster` says that answers.
///
/// # Errors
/// None answers; why not, address by address.
pub fn members(config: &Config) -> Result<Known, RunError> {
    let others = config.initial_cluster.members.iter().filter(|(name, _)| **name != config.name);
    let addresses: Vec<Address> = others.flat_map(|(_, urls)| urls).map(address).collect();
    let executor = glommio::LocalExecutorBuilder::default()
        .make()
        .map_err(|error| RunError::Executor { what: error.to_string() })?;
    let mut reasons = Vec::new();
    for address in addresses {
        let question = Bytes::from_static(bootstrap::QUESTION);
        let asked = ask_address(&address, Kind::Members as u8, question, PATIENCE);
        let answer = executor.run(asked).map_err(|error| error.to_string());
        match answer.and_then(|bytes| Known::decode(&bytes).map_err(|error| error.to_string())) {
            Ok(known) => return Ok(known),
            Err(reason) => reasons.push(format!("{address}: {reason}")),
        }
    }
    Err(RunError::NothingToJoin { reasons: reasons.join("; ") })
}

/// The others of them, as the transport wants them.
pub fn peers<'a>(
    members: impl Iterator<Item = &'a urd_proto::etcdserverpb::Member>,
    own: MemberId,
) -> Vec<Peer> {
    let parsed = |url: &String| Url::parse(url).ok().map(|url| address(&url));
    members
        .filter(|member| member.id != own.0)
        .map(|member| Peer {
            id: MemberId(member.id),
            addresses: member.peer_ur_ls.iter().filter_map(parsed).collect(),
        })
        .collect()
}

fn address(url: &Url) -> Address {
    Address { host: url.host().to_owned(), port: url.port() }
}
