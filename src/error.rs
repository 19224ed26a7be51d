//! Errors, by what the caller must do.
//!
//! | kind | meaning | the caller |
//! |---|---|---|
//! | [`Rejected`] | the request is wrong, or does not fit the state; every member decides alike | corrects it |
//! | [`Unavailable`] | this member cannot serve it now | retries, perhaps elsewhere |
//! | corrupt | damaged log or tree ([`urd_wal`]'s errors carry file, offset, found, expected) | the member stops |
//! | bug | a broken invariant of ours | panics, and the process ends |
//!
//! The texts and gRPC codes that clients see stand in one table, `api::status`.

use thiserror::Error;

/// Deterministic refusals: part of a request's applied result, equal on every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    /// The key is empty.
    #[error("key is not provided")]
    EmptyKey,
    /// `ignore_value` together with a value.
    #[error("value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// A lease that was never granted, or is gone.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// A lease to be granted whose id is taken.
    #[error("lease already exists")]
    LeaseExists,
    /// A lease to be granted for longer than `limits::LEASE_TTL_MAX`.
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// More operations than `--max-txn-ops`.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// One key put twice, or put and deleted, in one transaction.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target outside the enumeration.
    #[error("invalid sort option")]
    InvalidSortOption,
    /// A streamed range in another order than that of its keys.
    #[error("RangeStream does not support custom sort orders")]
    StreamSortOrder,
    /// A streamed range with bounds on creation or modification.
    #[error("RangeStream does not support revision filters")]
    StreamRevisionFilter,
    /// An alarm says that the quota is used up.
    #[error("database space exceeded")]
    NoSpace,
    /// An alarm says that members differ.
    #[error("corrupt cluster")]
    Corrupt,
    /// A member to be added whose id a member has.
    #[error("member ID already exist")]
    MemberExists,
    /// A peer URL that another member has.
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    /// A member's URLs that are none.
    #[error("given member URLs are invalid")]
    MemberBadUrls,
    /// A member that is not there, or was removed.
    #[error("member not found")]
    MemberNotFound,
    /// A member to be promoted that is a voter.
    #[error("can only promote a learner member")]
    MemberNotLearner,
    /// The only voter is to be removed.
    #[error("re-configuration failed due to not enough started members")]
    LastVoter,
    /// More learners than `--max-learners`.
    #[error("too many learner members in cluster")]
    TooManyLearners,
    /// The revision asked for was compacted away.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision asked for is yet to come.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// Asked of a member that does not lead what only the leader can do.
    #[error("not leader")]
    NotLeader,
    /// Leadership cannot be handed to who is no voter.
    #[error("bad leader transferee")]
    BadTransferee,
}

/// This member cannot serve the request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// No leader is known.
    #[error("no leader")]
    NoLeader,
    /// Leadership moved while the request was under way; its outcome is unknown.
    #[error("leader changed")]
    LeaderChanged,
    /// The request outlived its time; its outcome is unknown.
    #[error("request timed out")]
    TimedOut,
    /// Leadership did not move in time.
    #[error("request timed out, leader transfer took too long")]
    TransferTimedOut,
    /// More requests are waiting than the member takes.
    #[error("too many requests")]
    TooManyRequests,
    /// The log's disk is full.
    #[error("no space")]
    NoSpace,
    /// A change of the members would leave fewer started ones than a quorum.
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// A change of the members while not all of them are connected.
    #[error("unhealthy cluster")]
    Unhealthy,
    /// A learner to be promoted that lags behind.
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// This member is a learner, which answers little.
    #[error("rpc not supported for learner")]
    Learner,
    /// The member is stopping.
    #[error("server stopped")]
    Stopped,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// See [`Rejected`].
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
