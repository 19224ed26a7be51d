//! The ids of a cluster and of its members, computed from what they are started or added with.
//!
//! The recipe is etcd's, so a member has the id that etcd would have given it: a member's id is the first eight bytes
//! (big-endian) of the SHA-1 of its sorted peer URLs and the cluster token, joined without separators; the cluster's id is
//! that of the sorted member ids, eight bytes each. Members that start with the same flags thus agree on the ids before
//! they ever met, and clusters with different tokens cannot be mixed up. A member that is added later has the time of
//! that in place of the token. Nothing here is a secret: SHA-1 serves as a hash only.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::ids::{ClusterId, MemberId};

/// Who this member is, and of which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// This member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
}

/// A member that a cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstMember {
    /// See [`member_id`].
    pub id: u64,
    /// Its `--name`.
    pub name: String,
    /// Sorted.
    pub peer_urls: Vec<String>,
}

/// The id of a member of the initial cluster.
pub fn member_id(peer_urls: &[impl AsRef<str>], cluster_token: &str) -> MemberId {
    hashed(peer_urls, cluster_token)
}

/// The id of a member that is added to a running cluster, at so many seconds of Unix time.
pub fn added_member_id(peer_urls: &[impl AsRef<str>], seconds: u64) -> MemberId {
    hashed(peer_urls, seconds)
}

fn hashed(peer_urls: &[impl AsRef<str>], salt: impl Display) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(AsRef::as_ref).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(salt.to_string());
    MemberId(first_eight_bytes(hash))
}

/// The id of the cluster that starts with these members.
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut members = members.to_vec();
    members.sort_unstable();
    let mut hash = Sha1::new();
    for member in members {
        hash.update(member.0.to_be_bytes());
    }
    ClusterId(first_eight_bytes(hash))
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(bytes)
}
