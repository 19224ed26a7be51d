//! The bytes of a raft entry: a batch of requests, in order.
//!
//! ```text
//! version    1        FORMAT_VERSION
//! then for each request:
//!   kind     1        1 put, 2 delete range, 3 transaction, 4 compaction, 5 lease grant, 6 lease revoke,
//!                     7 lease checkpoints, 8 lease expiry, 9 alarm, 10 member add, 11 member remove,
//!                     12 member promote, 13 member update, 14 member publish, 15 v2 request, 16 v2 expiry
//!   length   4        little-endian
//!   message  length   the client's protobuf bytes as they came; of 5, 7, 8, 10 and from 14 on a member's own
//! ```
//!
//! A change of raft's voters and learners (10 to 12) is the only request of its entry: [`Command::is_conf_change`].
//! Raft's own empty entries (a new leader's first) are batches without requests.
//!
//! A front shard appends a request's bytes once, from the socket's buffer; batches of several
//! shards are joined by their bodies. Decoding shares the entry's memory. The bytes come from a
//! peer or the disk, so [`Batch::decode`] trusts nothing: it yields requests or says what is wrong.
//!
//! What this file does not do: it does not judge requests; [`validate`](super::validate) did,
//! before they were proposed.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use thiserror::Error;
use urd_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseCheckpoint, LeaseGrantRequest,
    LeaseRevokeRequest, Member, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
    PutRequest, TxnRequest,
};

use super::v2;

/// The version of the layout above. Any other one is refused by its own error.
pub const FORMAT_VERSION: u8 = 1;

/// The entry's head.
const HEADER: [u8; 1] = [FORMAT_VERSION];
/// What stands before each message.
const REQUEST_HEAD_BYTES: usize = 1 + 4;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Put = 1,
    DeleteRange = 2,
    Txn = 3,
    Compaction = 4,
    LeaseGrant = 5,
    LeaseRevoke = 6,
    LeaseCheckpoints = 7,
    LeaseExpiry = 8,
    Alarm = 9,
    MemberAdd = 10,
    MemberRemove = 11,
    MemberPromote = 12,
    MemberUpdate = 13,
    MemberPublish = 14,
    V2 = 15,
    V2Expiry = 16,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Put,
            Self::DeleteRange,
            Self::Txn,
            Self::Compaction,
            Self::LeaseGrant,
            Self::LeaseRevoke,
            Self::LeaseCheckpoints,
            Self::LeaseExpiry,
            Self::Alarm,
            Self::MemberAdd,
            Self::MemberRemove,
            Self::MemberPromote,
            Self::MemberUpdate,
            Self::MemberPublish,
            Self::V2,
            Self::V2Expiry,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A request that changes the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compaction(CompactionRequest),
    /// Its id is chosen and its TTL not too short: whoever proposes it sees to both.
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseCheckpoints(LeaseCheckpoints),
    LeaseExpiry(LeaseExpiry),
    Alarm(AlarmRequest),
    MemberAdd(MemberAdd),
    MemberRemove(MemberRemoveRequest),
    MemberPromote(MemberPromoteRequest),
    MemberUpdate(MemberUpdateRequest),
    /// A member's name and client URLs, as it says them after its start; nothing else of the message counts.
    MemberPublish(Member),
    V2(v2::Request),
    V2Expiry(v2::Expiry),
}

/// A member to be added, as its proposer sees it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberAdd {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Sorted.
    #[prost(string, repeated, tag = "2")]
    pub peer_urls: Vec<String>,
    #[prost(bool, tag = "3")]
    pub is_learner: bool,
    /// Learners that the cluster may have with it: the proposer's flag, since members need not agree on it.
    #[prost(uint64, tag = "4")]
    pub learners_max: u64,
}

/// How much of their TTL leases have left, for a leader to come. 0 means all of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaseCheckpoints {
    /// The last entry that the leader had applied: a lease granted later by an id of these is another one.
    #[prost(uint64, tag = "1")]
    pub as_of: u64,
    #[prost(message, repeated, tag = "2")]
    pub checkpoints: Vec<LeaseCheckpoint>,
}

/// Leases that the leader found expired. One that is gone is passed over.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaseExpiry {
    /// As of [`LeaseCheckpoints`].
    #[prost(uint64, tag = "1")]
    pub as_of: u64,
    #[prost(int64, repeated, tag = "2")]
    pub leases: Vec<i64>,
}

impl Command {
    /// Whether it changes who votes or learns, and so must come in raft's own kind of entry.
    #[must_use]
    pub fn is_conf_change(&self) -> bool {
        matches!(self, Self::MemberAdd(_) | Self::MemberRemove(_) | Self::MemberPromote(_))
    }

    fn decode(kind: Kind, message: Bytes) -> Result<Self, prost::DecodeError> {
        Ok(match kind {
            Kind::Put => Self::Put(PutRequest::decode(message)?),
            Kind::DeleteRange => Self::DeleteRange(DeleteRangeRequest::decode(message)?),
            Kind::Txn => Self::Txn(TxnRequest::decode(message)?),
            Kind::Compaction => Self::Compaction(CompactionRequest::decode(message)?),
            Kind::LeaseGrant => Self::LeaseGrant(LeaseGrantRequest::decode(message)?),
            Kind::LeaseRevoke => Self::LeaseRevoke(LeaseRevokeRequest::decode(message)?),
            Kind::LeaseCheckpoints => Self::LeaseCheckpoints(LeaseCheckpoints::decode(message)?),
            Kind::LeaseExpiry => Self::LeaseExpiry(LeaseExpiry::decode(message)?),
            Kind::Alarm => Self::Alarm(AlarmRequest::decode(message)?),
            Kind::MemberAdd => Self::MemberAdd(MemberAdd::decode(message)?),
            Kind::MemberRemove => Self::MemberRemove(MemberRemoveRequest::decode(message)?),
            Kind::MemberPromote => Self::MemberPromote(MemberPromoteRequest::decode(message)?),
            Kind::MemberUpdate => Self::MemberUpdate(MemberUpdateRequest::decode(message)?),
            Kind::MemberPublish => Self::MemberPublish(Member::decode(message)?),
            Kind::V2 => Self::V2(v2::Request::decode(message)?),
            Kind::V2Expiry => Self::V2Expiry(v2::Expiry::decode(message)?),
        })
    }
}

/// An entry under construction.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Header and requests: what [`BatchBuilder::finish`] returns.
    bytes: BytesMut,
    len: usize,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl BatchBuilder {
    /// A batch without requests and room for `bytes` of them.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(HEADER.len() + bytes);
        buffer.put_slice(&HEADER);
        Self { bytes: buffer, len: 0 }
    }

    /// Appends a request by its protobuf bytes. They must be those of a message that was decoded
    /// and validated: every member stops at an entry that it cannot read.
    pub fn append(&mut self, kind: Kind, message: &[u8]) {
        self.bytes.reserve(REQUEST_HEAD_BYTES + message.len());
        self.append_head(kind, message.len());
        self.bytes.put_slice(message);
    }

    /// Appends a request that is not at hand as bytes.
    pub fn append_command(&mut self, command: &Command) {
        match command {
            Command::Put(message) => self.append_message(Kind::Put, message),
            Command::DeleteRange(message) => self.append_message(Kind::DeleteRange, message),
            Command::Txn(message) => self.append_message(Kind::Txn, message),
            Command::Compaction(message) => self.append_message(Kind::Compaction, message),
            Command::LeaseGrant(message) => self.append_message(Kind::LeaseGrant, message),
            Command::LeaseRevoke(message) => self.append_message(Kind::LeaseRevoke, message),
            Command::LeaseCheckpoints(message) => {
                self.append_message(Kind::LeaseCheckpoints, message);
            }
            Command::LeaseExpiry(message) => self.append_message(Kind::LeaseExpiry, message),
            Command::Alarm(message) => self.append_message(Kind::Alarm, message),
            Command::MemberAdd(message) => self.append_message(Kind::MemberAdd, message),
            Command::MemberRemove(message) => self.append_message(Kind::MemberRemove, message),
            Command::MemberPromote(message) => self.append_message(Kind::MemberPromote, message),
            Command::MemberUpdate(message) => self.append_message(Kind::MemberUpdate, message),
            Command::MemberPublish(message) => self.append_message(Kind::MemberPublish, message),
            Command::V2(message) => self.append_v2(message),
            Command::V2Expiry(message) => self.append_message(Kind::V2Expiry, message),
        }
    }

    /// Appends a request about v2's keys.
    pub fn append_v2(&mut self, request: &v2::Request) {
        self.append_message(Kind::V2, request);
    }

    fn append_message(&mut self, kind: Kind, message: &impl Message) {
        self.append_head(kind, message.encoded_len());
        message.encode(&mut self.bytes).expect("invariant: a BytesMut grows as needed");
    }

    fn append_head(&mut self, kind: Kind, message_bytes: usize) {
        let length = u32::try_from(message_bytes)
            .expect("invariant: a request is at most limits::REQUEST_BYTES_MAX");
        self.bytes.put_u8(kind as u8);
        self.bytes.put_u32_le(length);
        self.len += 1;
    }

    /// Appends all requests of another batch.
    pub fn join(&mut self, other: &Self) {
        let mut body = other.bytes.as_ref();
        body.advance(HEADER.len());
        self.bytes.put_slice(body);
        self.len += other.len;
    }

    /// How many requests it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How large the entry has become.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The entry.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// A decoded entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    commands: Vec<Command>,
}

/// Why an entry cannot be read. `at` is the offset of the request within the entry.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DecodeError {
    #[error("entry has format version {found}, this build reads {FORMAT_VERSION}")]
    Version { found: u8 },
    #[error("request at byte {at} of the entry is cut short: {missing} bytes are missing")]
    Truncated { at: usize, missing: usize },
    #[error("request at byte {at} of the entry is of kind {found}, which does not exist")]
    Kind { at: usize, found: u8 },
    #[error("request at byte {at} of the entry is not a valid message: {source}")]
    Message { at: usize, source: prost::DecodeError },
    #[error("request at byte {at} of the entry has v2 action {found}, which does not exist")]
    V2Action { at: usize, found: i32 },
}

impl Batch {
    /// Reads an entry. The requests' keys and values share its memory.
    pub fn decode(mut entry: Bytes) -> Result<Self, DecodeError> {
        let entry_bytes = entry.len();
        if entry.is_empty() {
            return Ok(Self::default());
        }
        let found = entry.get_u8();
        if found != FORMAT_VERSION {
            return Err(DecodeError::Version { found });
        }
        let mut commands = Vec::new();
        while entry.has_remaining() {
            let at = entry_bytes - entry.remaining();
            commands.push(Self::decode_request(at, &mut entry)?);
        }
        Ok(Self { commands })
    }

    fn decode_request(at: usize, entry: &mut Bytes) -> Result<Command, DecodeError> {
        require(at, entry, REQUEST_HEAD_BYTES)?;
        let found = entry.get_u8();
        let kind = Kind::from_byte(found).ok_or(DecodeError::Kind { at, found })?;
        let length = entry.get_u32_le() as usize;
        require(at, entry, length)?;
        let message = entry.split_to(length);
        let command = Command::decode(kind, message);
        let command = command.map_err(|source| DecodeError::Message { at, source })?;
        match command {
            Command::V2(v2::Request { action: found, .. }) if !v2::Action::is_valid(found) => {
                Err(DecodeError::V2Action { at, found })
            }
            command => Ok(command),
        }
    }

    #[must_use]
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

fn require(at: usize, entry: &Bytes, bytes: usize) -> Result<(), DecodeError> {
    match bytes.saturating_sub(entry.remaining()) {
        0 => Ok(()),
        missing => Err(DecodeError::Truncated { at, missing }),
    }
}
