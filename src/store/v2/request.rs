//! Requests that change v2's keys, as they stand in the log.

use super::path::Path;

/// What a request does. How HTTP's parameters choose one is the api's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Action {
    /// Writes a file, or makes a directory, in place of what was there, unless that is a directory.
    Set = 0,
    /// As [`Action::Set`], where nothing is.
    Create = 1,
    /// Makes a node of its own below `path`, named by the index.
    CreateInOrder = 2,
    /// Changes a node that is there. A directory's expiration can be changed.
    Update = 3,
    /// Changes a file that is as `prev_value` and `prev_index` say.
    CompareAndSwap = 4,
    /// Removes a node.
    Delete = 5,
    /// Removes a file that is as `prev_value` and `prev_index` say.
    CompareAndDelete = 6,
}

/// One change that a client asks for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    #[prost(enumeration = "Action", tag = "1")]
    pub action: i32,
    /// The node, as the client wrote it: [`Path::new`](super::Path::new) is made of it.
    #[prost(string, tag = "2")]
    pub path: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub value: bytes::Bytes,
    /// What is made is a directory; a directory may be deleted.
    #[prost(bool, tag = "4")]
    pub dir: bool,
    /// A directory is deleted with all that is in it.
    #[prost(bool, tag = "5")]
    pub recursive: bool,
    /// The value stays, the expiration is set, and nobody who waits hears of it.
    #[prost(bool, tag = "6")]
    pub refresh: bool,
    /// Empty: any.
    #[prost(bytes = "bytes", tag = "7")]
    pub prev_value: bytes::Bytes,
    /// 0: any.
    #[prost(uint64, tag = "8")]
    pub prev_index: u64,
    /// When it is to expire, in nanoseconds of Unix time: the time-to-live, added to `now`. Without, never.
    #[prost(sint64, optional, tag = "9")]
    pub expiration: Option<i64>,
    /// What time it is for whoever proposes this, likewise. What is left of a time-to-live is counted from here.
    #[prost(sint64, tag = "10")]
    pub now: i64,
    /// Events to keep, this one included: the proposer's `--v2-history`, since members need not agree on it.
    #[prost(uint64, tag = "11")]
    pub history: u64,
    /// The node is one of auth's, which clients' paths do not reach.
    #[prost(bool, tag = "12")]
    pub auth: bool,
}

impl Request {
    /// The node that it is about, if the next index is `next`.
    pub(super) fn target(&self, next: u64) -> Path {
        let path = if self.auth { Path::auth } else { Path::new };
        match self.action() {
            Action::CreateInOrder => path(&format!("{}/{next:020}", self.path)),
            _ => path(&self.path),
        }
    }

    /// Whether it may make the data grow. What deletes does by an event only, and what refreshes too.
    #[must_use]
    pub fn may_grow(&self) -> bool {
        let deletes = matches!(self.action(), Action::Delete | Action::CompareAndDelete);
        !deletes && !self.refresh
    }
}

/// Has nodes expire whose time is over. Only a leader proposes it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Expiry {
    /// The leader's time, in nanoseconds of Unix time. What expires later stays.
    #[prost(sint64, tag = "1")]
    pub cutoff: i64,
    /// No more than so many nodes, those in directories included, unless one directory has more by itself.
    #[prost(uint64, tag = "2")]
    pub nodes_max: u64,
    /// As in a [`Request`].
    #[prost(uint64, tag = "3")]
    pub history: u64,
}
