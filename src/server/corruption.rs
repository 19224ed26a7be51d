//! Whether the members hold the same: the leader compares its hash of the keys' history with the others', now and then,
//! and raises the CORRUPT alarm for one that differs. From then on the cluster refuses what would spread it.
//!
//! Two checks, as in etcd: of the newest revision (`--corrupt-check-time`), and of the last compacted one
//! (`--compact-hash-check-time`), where hashes are comparable however far a member has come. A member that has not come to
//! the revision, or does not answer, is asked again the next time.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::yield_now;
use prost::Message as _;
use urd_proto::etcdserverpb::alarm_request::AlarmAction;
use urd_proto::etcdserverpb::{AlarmRequest, AlarmType};

use super::log_shard::question::{HashAnswer, Kind as QuestionKind};
use super::shard::Shard;
use super::told::Told;
use crate::api::node::{Node, linearizable};
use crate::ids::MemberId;
use crate::limits;
use crate::raft::transport::Transport;
use crate::store::command::Kind;
use crate::store::{HashScan, View};

/// When to compare; zero for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// `--corrupt-check-time`.
    pub newest: Duration,
    /// `--compact-hash-check-time`.
    pub compacted: Duration,
}

/// Which revision is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Newest,
    Compacted,
}

/// Starts the checks that are wanted.
pub fn start(shard: &Rc<Shard>, transport: &Rc<Transport>, checks: Checks) {
    for (which, interval) in [(Which::Newest, checks.newest), (Which::Compacted, checks.compacted)]
    {
        if !interval.is_zero() {
            let (shard, transport) = (Rc::clone(shard), Rc::clone(transport));
            glommio::spawn_local(run(shard, transport, which, interval)).detach();
        }
    }
}

async fn run(shard: Rc<Shard>, transport: Rc<Transport>, which: Which, interval: Duration) {
    let mut compared = 0;
    loop {
        glommio::timer::sleep(interval).await;
        if shard.published().leader != Some(shard.identity().member)
            || linearizable(&shard).await.is_err()
        {
            continue;
        }
        let view = shard.published().view.clone();
        let revision = match which {
            Which::Newest => view.revision().0,
            Which::Compacted => view.compacted().0,
        };
        // What was compared once does not change. Before the first compaction there is nothing to compare.
        if revision <= compared {
            continue;
        }
        if compare(&shard, &transport, &view, revision).await {
            compared = revision;
        }
    }
}

/// Compares all members; true when each has answered.
async fn compare(shard: &Rc<Shard>, transport: &Transport, view: &View, revision: i64) -> bool {
    let Some(own) = hash(view, revision).await else { return false };
    let mut all = true;
    for member in view.members().iter().map(|member| MemberId(member.id)) {
        if member == shard.identity().member {
            continue;
        }
        let body = Bytes::copy_from_slice(&revision.to_le_bytes());
        let timeout = limits::REQUEST_TIMEOUT;
        let answer = match transport.ask(member, QuestionKind::Hash as u8, body, timeout).await {
            Ok(answer) => HashAnswer::decode(&answer),
            Err(error) => {
                tracing::debug!(%member, revision, "no hash to compare with: {error}");
                None
            }
        };
        let Some(answer) = answer else {
            all = false;
            continue;
        };
        if answer.revision != own.revision || answer.compacted != own.compacted {
            // It has compacted more, or less: nothing can be said.
            all = false;
        } else if answer.hash != own.hash {
            tracing::error!(
                %member,
                revision,
                own = own.hash,
                other = answer.hash,
                "a member holds other data than this one, which leads: raising the alarm CORRUPT"
            );
            raise(shard, member);
        }
    }
    all
}

async fn hash(view: &View, revision: i64) -> Option<HashAnswer> {
    let mut scan = HashScan::new(view.clone(), revision).ok()?;
    loop {
        if let Some(hash) = scan.step(limits::HASH_SLICE_BYTES) {
            let (compacted, revision) = (hash.compact_revision, hash.revision);
            return Some(HashAnswer { hash: hash.hash, compacted, revision });
        }
        yield_now().await;
    }
}

fn raise(shard: &Rc<Shard>, member: MemberId) {
    let request = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: member.0,
        alarm: AlarmType::Corrupt.into(),
    };
    let reply = Box::new(Told { what: "raise the alarm CORRUPT" });
    shard.propose(Kind::Alarm, &request.encode_to_vec().into(), reply);
}
