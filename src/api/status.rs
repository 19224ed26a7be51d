//! The one table from our errors to gRPC code and etcd's exact text. Clients match these texts literally.
//!
//! The facts are those of etcd 3.7's `rpctypes`.

use super::call::{Code, Status};
use crate::error::{Error, Rejected, Unavailable};

/// A request over `--max-request-bytes`.
pub const REQUEST_TOO_LARGE: Status =
    fixed(Code::InvalidArgument, "etcdserver: request is too large");

const fn fixed(code: Code, message: &'static str) -> Status {
    Status { code, message: std::borrow::Cow::Borrowed(message) }
}

impl From<Rejected> for Status {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::EmptyKey => fixed(Code::InvalidArgument, "etcdserver: key is not provided"),
            Rejected::ValueProvided => {
                fixed(Code::InvalidArgument, "etcdserver: value is provided")
            }
            Rejected::LeaseProvided => {
                fixed(Code::InvalidArgument, "etcdserver: lease is provided")
            }
            Rejected::KeyNotFound => fixed(Code::InvalidArgument, "etcdserver: key not found"),
            Rejected::LeaseNotFound => {
                fixed(Code::NotFound, "etcdserver: requested lease not found")
            }
            Rejected::LeaseExists => {
                fixed(Code::FailedPrecondition, "etcdserver: lease already exists")
            }
            Rejected::LeaseTtlTooLarge => {
                fixed(Code::OutOfRange, "etcdserver: too large lease TTL")
            }
            Rejected::TooManyOps => {
                fixed(Code::InvalidArgument, "etcdserver: too many operations in txn request")
            }
            Rejected::DuplicateKey => {
                fixed(Code::InvalidArgument, "etcdserver: duplicate key given in txn request")
            }
            Rejected::InvalidSortOption => {
                fixed(Code::InvalidArgument, "etcdserver: invalid sort option")
            }
            Rejected::StreamSortOrder => {
                fixed(Code::Unimplemented, "RangeStream does not support custom sort orders")
            }
            Rejected::StreamRevisionFilter => {
                fixed(Code::Unimplemented, "RangeStream does not support revision filters")
            }
            Rejected::NoSpace => Unavailable::NoSpace.into(),
            Rejected::Corrupt => fixed(Code::DataLoss, "etcdserver: corrupt cluster"),
            Rejected::MemberExists => {
                fixed(Code::FailedPrecondition, "etcdserver: member ID already exist")
            }
            Rejected::PeerUrlExists => {
                fixed(Code::FailedPrecondition, "etcdserver: Peer URLs already exists")
            }
            Rejected::MemberBadUrls => {
                fixed(Code::InvalidArgument, "etcdserver: given member URLs are invalid")
            }
            Rejected::MemberNotFound => fixed(Code::NotFound, "etcdserver: member not found"),
            Rejected::MemberNotLearner => {
                fixed(Code::FailedPrecondition, "etcdserver: can only promote a learner member")
            }
            Rejected::LastVoter => Unavailable::NotEnoughStarted.into(),
            Rejected::TooManyLearners => {
                fixed(Code::FailedPrecondition, "etcdserver: too many learner members in cluster")
            }
            Rejected::Compacted => {
                fixed(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
            }
            Rejected::FutureRevision => {
                fixed(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
            }
            Rejected::NotLeader => fixed(Code::FailedPrecondition, "etcdserver: not leader"),
            Rejected::BadTransferee => {
                fixed(Code::FailedPrecondition, "etcdserver: bad leader transferee")
            }
        }
    }
}

impl From<Unavailable> for Status {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::NoLeader => fixed(Code::Unavailable, "etcdserver: no leader"),
            Unavailable::LeaderChanged => fixed(Code::Unavailable, "etcdserver: leader changed"),
            Unavailable::TimedOut => fixed(Code::Unavailable, "etcdserver: request timed out"),
            Unavailable::TransferTimedOut => fixed(
                Code::Unavailable,
                "etcdserver: request timed out, leader transfer took too long",
            ),
            Unavailable::TooManyRequests => {
                fixed(Code::ResourceExhausted, "etcdserver: too many requests")
            }
            Unavailable::NoSpace => {
                fixed(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")
            }
            // etcd forgets to give it the code that belongs to it, and clients see this one.
            Unavailable::NotEnoughStarted => fixed(
                Code::Unknown,
                "etcdserver: re-configuration failed due to not enough started members",
            ),
            Unavailable::Unhealthy => fixed(Code::Unavailable, "etcdserver: unhealthy cluster"),
            Unavailable::LearnerNotReady => fixed(
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            Unavailable::Learner => {
                fixed(Code::FailedPrecondition, "etcdserver: rpc not supported for learner")
            }
            Unavailable::Stopped => fixed(Code::Unavailable, "etcdserver: server stopped"),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected(rejected) => rejected.into(),
            Error::Unavailable(unavailable) => unavailable.into(),
        }
    }
}
