//! How a member comes to its identity and to its first state.
//!
//! | start | identity | first state |
//! |---|---|---|
//! | of a new cluster | from the flags: all first members compute the same | the first members, as behind a snapshot at index 1 |
//! | of one that joins | from the members of the running cluster, asked at their peer URLs | nothing: a snapshot will come |
//! | again | `identity.json` | the newest checkpoint; without one, as at the first start |
//!
//! Questions and answers between a member that starts and those that run:
//!
//! ```text
//! question   1        ASK_FORMAT
//! answer     1        ASK_FORMAT
//!            ..       a `MemberListResponse`; of its header the cluster's id counts
//! ```
//!
//! Answers are foreign bytes: [`Known::decode`] bounds and checks them. Everything here is a plain function; whoever
//! starts the member asks, waits and retries.

use std::collections::BTreeSet;
use std::fmt;

use bytes::{BufMut, Bytes};
use prost::Message;
use thiserror::Error;
use urd_proto::etcdserverpb::{Member, MemberListResponse, ResponseHeader};
use urd_wal::Entries;
use urd_wal::disk::ReadDisk;

use super::data_dir::StoredIdentity;
use crate::config::Config;
use crate::identity::FirstMember;
use crate::ids::{ClusterId, Index, MemberId};
use crate::limits;
use crate::store::Store;
use crate::store::members::Members;
use crate::url::{self, Url};

/// The version of question and answer.
const ASK_FORMAT: u8 = 1;
/// The question: who are the members?
pub const QUESTION: &[u8] = &[ASK_FORMAT];

/// Begins a store that has no checkpoint with a new cluster's members, and gives members to one of a version that knew
/// none. `entries` is the log that will be applied to it.
pub fn begin<D: ReadDisk>(store: &mut Store, stored: &StoredIdentity, entries: &Entries<'_, D>) {
    let first: Vec<Member> = stored.first_members.iter().map(record).collect();
    if first.is_empty() || !store.members().is_empty() {
        return;
    }
    // A log from 1 on was begun by a version that knew no members.
    let is_older = entries.first() == 1 && entries.last() > 0;
    if store.applied() == Index(0) && !is_older {
        store.bootstrap(&first);
    } else {
        store.adopt(&first);
    }
}

fn record(first: &FirstMember) -> Member {
    Member {
        id: first.id,
        name: first.name.clone(),
        peer_ur_ls: first.peer_urls.clone(),
        ..Member::default()
    }
}

/// The identity of a first member.
#[must_use]
pub fn of_new_cluster(config: &Config) -> StoredIdentity {
    let identity = config.identity();
    StoredIdentity::new(identity.cluster.0, identity.member.0, config.first_members())
}

/// What a running member says of its cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its id.
    pub cluster: ClusterId,
    /// Its members.
    pub members: Vec<Member>,
}

/// Why an answer is not one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not a list of members: {0}")]
pub struct MalformedAnswer(String);

/// Whether bytes that somebody sent are the question that this version answers.
#[must_use]
pub fn is_question(bytes: &[u8]) -> bool {
    bytes == QUESTION
}

/// The answer to [`QUESTION`].
#[must_use]
pub fn answer(cluster: ClusterId, members: &Members) -> Bytes {
    let header = Some(ResponseHeader { cluster_id: cluster.0, ..ResponseHeader::default() });
    let message = MemberListResponse { header, members: members.to_vec() };
    let mut bytes = vec![ASK_FORMAT];
    bytes.put_slice(&message.encode_to_vec());
    bytes.into()
}

impl Known {
    /// Reads an answer.
    ///
    /// # Errors
    /// It is not one: of another format, cut short, or what no cluster has.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedAnswer> {
        let malformed = |what: String| Err(MalformedAnswer(what));
        if bytes.len() > limits::MEMBER_LIST_BYTES_MAX {
            return malformed(format!("{} bytes are too many", bytes.len()));
        }
        let message = match bytes.split_first() {
            Some((&ASK_FORMAT, message)) => message,
            Some((format, _)) => return malformed(format!("format {format}, not {ASK_FORMAT}")),
            None => return malformed("it is empty".to_owned()),
        };
        let list = MemberListResponse::decode(message)
            .map_err(|error| MalformedAnswer(error.to_string()))?;
        let cluster = list.header.unwrap_or_default().cluster_id;
        let mut ids = BTreeSet::new();
        for member in &list.members {
            if member.id == 0 || !ids.insert(member.id) {
                return malformed(format!("id {:x} is none, or given twice", member.id));
            }
            if let Err(reason) = url::peer_urls(&member.peer_ur_ls) {
                return malformed(format!("member {:x}: {reason}", member.id));
            }
        }
        if cluster == 0 || ids.is_empty() {
            return malformed("no cluster, or no member".to_owned());
        }
        Ok(Self { cluster: ClusterId(cluster), members: list.members })
    }

    /// Who a member is that joins, by the peer URLs that `--initial-cluster` gives for its name. That flag must name all
    /// members of the cluster and nobody else.
    ///
    /// # Errors
    /// It does not, in etcd's words.
    pub fn join(&self, config: &Config) -> Result<StoredIdentity, JoinError> {
        let local = &config.initial_cluster.members;
        let invalid = |reason: String| JoinError { cluster: self.to_string(), reason };
        if self.members.len() != local.len() {
            return Err(invalid("member count is unequal".to_owned()));
        }
        let mut own = None;
        for member in &self.members {
            let found = local.iter().find(|(_, urls)| are_same(&member.peer_ur_ls, urls));
            let Some((name, _)) = found else {
                return Err(invalid(format!(
                    "unmatched member while checking PeerURLs: no match found for existing member \
                     ({:x}, {:?})",
                    member.id, member.peer_ur_ls
                )));
            };
            if *name == config.name {
                own = Some(member);
            }
        }
        let Some(own) = own else {
            return Err(invalid(format!("no member has the peer URLs of {:?}", config.name)));
        };
        let learners = self.members.iter().filter(|member| member.is_learner).count() as u64;
        if learners > config.max_learners {
            return Err(invalid("too many learner members in cluster".to_owned()));
        }
        Ok(StoredIdentity::new(self.cluster.0, own.id, Vec::new()))
    }

    /// Whether a first member was started before, so that it must not begin anew with nothing.
    #[must_use]
    pub fn has_started(&self, member: MemberId) -> bool {
        let mut members = self.members.iter();
        members.any(|known| known.id == member.0 && !known.client_ur_ls.is_empty())
    }
}

/// `{ClusterID:1 Members:[a=http://127.0.0.1:2380(2)] }`
impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ClusterID:{} Members:[", self.cluster)?;
        for (nth, Member { id, name, peer_ur_ls, .. }) in self.members.iter().enumerate() {
            let space = if nth == 0 { "" } else { " " };
            write!(f, "{space}{name}={}({id:x})", peer_ur_ls.join(","))?;
        }
        f.write_str("]}")
    }
}

/// Why a member does not join.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "error validating peerURLs {cluster}: {reason} (--initial-cluster must name all members of the running cluster with \
     their peer URLs, this one as it was added with `member add`)"
)]
pub struct JoinError {
    cluster: String,
    reason: String,
}

/// A member of a new cluster that is known there as started already, so its data are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "member {0} has already been bootstrapped (its data directory is gone: remove the member, add it again, and start it \
     with --initial-cluster-state=existing)"
)]
pub struct AlreadyBootstrapped(pub MemberId);

/// A member that finds itself removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the member has been permanently removed from the cluster: {0} will not be a member again (its data directory can be \
     deleted; to come back, add it as a new member)"
)]
pub struct PermanentlyRemoved(pub MemberId);

/// Whether a member's URLs are in the same places as those of the flag.
fn are_same(texts: &[String], urls: &[Url]) -> bool {
    let Ok(parsed) = texts.iter().map(|text| Url::parse(text)).collect::<Result<Vec<_>, _>>()
    else {
        return false;
    };
    let places = |urls: &[Url]| -> BTreeSet<_> {
        urls.iter().map(|url| format!("{:?}", url.place())).collect()
    };
    places(&parsed) == places(urls)
}
