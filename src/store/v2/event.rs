//! What a request did to a node, or what a reader finds.

use bytes::Bytes;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Action {
    Get = 0,
    Set = 1,
    Create = 2,
    Update = 3,
    CompareAndSwap = 4,
    Delete = 5,
    CompareAndDelete = 6,
    Expire = 7,
}

impl Action {
    /// As etcd's bodies have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Create => "create",
            Self::Update => "update",
            Self::CompareAndSwap => "compareAndSwap",
            Self::Delete => "delete",
            Self::CompareAndDelete => "compareAndDelete",
            Self::Expire => "expire",
        }
    }
}

/// A node as readers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its path; `/` for the root, which bodies leave out.
    pub key: String,
    /// A file's. A node that an event removed has none.
    pub value: Option<Bytes>,
    pub dir: bool,
    /// When it expires, in nanoseconds of Unix time.
    pub expiration: Option<i64>,
    /// Seconds until then, rounded up. 0 where there is no expiration, and left out of bodies.
    pub ttl: i64,
    /// A directory's content, in order of names, where it was asked for.
    pub nodes: Vec<Node>,
    /// 0 for the root.
    pub modified_index: u64,
    /// 0 for the root.
    pub created_index: u64,
}

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub action: Action,
    pub node: Node,
    pub prev_node: Option<Node>,
    /// The index behind it, as `X-Etcd-Index` has it. Of an event that somebody waited for, its own.
    pub index: u64,
}

impl Event {
    /// Whether a node came to be that was not there before: HTTP's 201.
    #[must_use]
    pub fn is_created(&self) -> bool {
        match self.action {
            Action::Create => true,
            Action::Set => self.prev_node.is_none(),
            _ => false,
        }
    }
}

/// What is left at `now` until `expiration`, in whole seconds, rounded up as etcd does.
pub(super) fn ttl(expiration: i64, now: i64) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    let left = expiration.saturating_sub(now);
    left / SECOND + i64::from(left % SECOND > 0)
}
