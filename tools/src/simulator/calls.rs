//! What clients ask members for, and what they hear.

use urd_proto::etcdserverpb::{RangeRequest, RangeResponse};

use urd::store::Response;
use urd::store::command::Command;

/// Names a call for good.
pub(super) type CallId = u64;

/// What a client wants.
#[derive(Clone, Debug)]
pub(super) enum Call {
    /// A range; linearizable unless it says that it is serializable.
    Read(RangeRequest),
    /// A change.
    Write(Command),
    /// A lease is renewed; by the leader alone.
    KeepAlive(i64),
}

/// What it hears.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Read(RangeResponse),
    Written(Response),
    /// The TTL it begins anew with; `None` when there is no such lease.
    KeptAlive(Option<i64>),
    /// It was not carried out, and will not be.
    Refused(String),
    /// Nobody knows.
    Unknown,
}
