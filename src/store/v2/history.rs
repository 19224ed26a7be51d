//! Events, for those who wait for them: the newest so many, each in a record named by its index.
//!
//! Every change of the index is one event, so they follow each other without a gap; the first index of a cluster has none.
//! What is beyond the bound that came with the request goes as new ones come: the oldest first, by number and by bytes. A
//! bound that shrinks is not reached at once, so that no request has much to do: some events more go with each.

use bytes::Bytes;
use prost::Message;

use super::error::{Error, ErrorCode};
use super::event::{Action, Event, Node};
use super::keys;
use super::meta::Numbers;
use super::path::{Path, is_hidden_below};
use crate::limits;
use crate::store::View;
use crate::tree::{Counted, Cursor, Read, Tree};

/// Events that go with one that comes, if the bound on their number has shrunk.
const DROPPED_PER_EVENT: u64 = 16;

/// What of an event is read to see whom it concerns.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(enumeration = "Action", tag = "1")]
    action: i32,
    /// Its value was set again only to let it live on: nobody who waits hears of it.
    #[prost(bool, tag = "2")]
    refresh: bool,
    #[prost(string, tag = "3")]
    key: String,
    #[prost(bool, tag = "4")]
    was_dir: bool,
}

/// The rest.
#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(message, optional, tag = "5")]
    node: Option<StoredNode>,
    #[prost(message, optional, tag = "6")]
    prev_node: Option<StoredNode>,
}

/// A node of an event, without its key and what is in it.
#[derive(Clone, PartialEq, Message)]
struct StoredNode {
    #[prost(bytes = "bytes", optional, tag = "1")]
    value: Option<Bytes>,
    #[prost(bool, tag = "2")]
    dir: bool,
    #[prost(sint64, optional, tag = "3")]
    expiration: Option<i64>,
    #[prost(sint64, tag = "4")]
    ttl: i64,
    #[prost(uint64, tag = "5")]
    modified: u64,
    #[prost(uint64, tag = "6")]
    created: u64,
}

impl StoredNode {
    fn of(node: &Node) -> Self {
        Self {
            value: node.value.clone(),
            dir: node.dir,
            expiration: node.expiration,
            ttl: node.ttl,
            modified: node.modified_index,
            created: node.created_index,
        }
    }

    fn node(self, key: &str) -> Node {
        let Self { value, dir, expiration, ttl, modified, created } = self;
        Node {
            key: key.to_owned(),
            value,
            dir,
            expiration,
            ttl,
            nodes: Vec::new(),
            modified_index: modified,
            created_index: created,
        }
    }
}

/// Keeps an event, and `bound` of them. `refresh`: nobody hears of it.
pub(super) fn add(
    tree: &mut Tree,
    numbers: &mut Numbers,
    event: &Event,
    refresh: bool,
    bound: u64,
) {
    let head = Head {
        action: event.action.into(),
        refresh,
        key: event.node.key.clone(),
        was_dir: event.prev_node.as_ref().is_some_and(|node| node.dir),
    };
    let body = Body {
        node: Some(StoredNode::of(&event.node)),
        prev_node: event.prev_node.as_ref().map(StoredNode::of),
    };
    let mut record = Vec::with_capacity(head.encoded_len() + body.encoded_len());
    head.encode(&mut record).expect("invariant: a Vec grows as needed");
    body.encode(&mut record).expect("invariant: a Vec grows as needed");
    let mut key = Vec::new();
    keys::history(&mut key, event.index);
    tree.insert(&key, &record, Counted::No);
    numbers.bytes = numbers.bytes.saturating_add((key.len() + record.len()) as u64);
    trim(tree, numbers, bound.clamp(1, limits::V2_HISTORY_EVENTS_MAX));
}

fn trim(tree: &mut Tree, numbers: &mut Numbers, bound: u64) {
    let mut key = Vec::new();
    let mut dropped = 0;
    // The newest stays whatever its size.
    while numbers.first < numbers.index {
        let is_over = numbers.index - numbers.first >= bound && dropped < DROPPED_PER_EVENT;
        if !is_over && numbers.bytes <= limits::V2_HISTORY_BYTES_MAX {
            return;
        }
        keys::history(&mut key, numbers.first);
        if let Some(record) = tree.get(&key) {
            numbers.bytes = numbers.bytes.saturating_sub((key.len() + record.len()) as u64);
            tree.remove(&key);
        }
        numbers.first += 1;
        dropped += 1;
    }
}

/// Which events somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    pub path: Path,
    /// What is in the directory, too.
    pub recursive: bool,
    /// Also what is hidden from those who look at `path`: below it, with a name that begins with `_`. etcd shows it of
    /// the past, and not of what is to come.
    pub hidden: bool,
}

impl Interest {
    /// Whether an event on `key` is meant. `removed_dir`: it is the removal of a directory, and so of all that is in it.
    #[must_use]
    pub fn concerns(&self, key: &str, removed_dir: bool) -> bool {
        let path = self.path.as_str();
        if key == path || (removed_dir && self.path.is_within(key)) {
            return true;
        }
        let is_below = || Path::is_text_within(key, path);
        self.recursive && is_below() && (self.hidden || !is_hidden_below(path, key))
    }
}

/// How a search for an event ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought {
    /// The first of them.
    Found(Box<Event>),
    /// It is yet to come.
    NotYet,
    /// So many were looked at: to be continued from this index.
    More(u64),
}

impl View {
    /// The index of the newest change.
    #[must_use]
    pub fn v2_index(&self) -> u64 {
        self.v2().index
    }

    /// The first event that is meant, of those from index `since` on, among `events_max` of them.
    ///
    /// # Errors
    /// [`ErrorCode::EventIndexCleared`] when some of them are not kept any more.
    pub fn v2_event_since(
        &self,
        interest: &Interest,
        since: u64,
        events_max: usize,
    ) -> Result<Sought, Error> {
        let mut sought = Sought::NotYet;
        let next = self.v2_for_each_event(since, events_max, |seen| {
            if seen.concerns(interest) {
                sought = Sought::Found(Box::new(seen.event()));
            }
            sought == Sought::NotYet
        })?;
        match sought {
            Sought::NotYet if next <= self.v2_index() => Ok(Sought::More(next)),
            sought => Ok(sought),
        }
    }

    /// Shows the events from index `since` on to whoever has many waiting, until `show` says that it is enough, or
    /// `events_max` were shown. Says which index comes next.
    ///
    /// # Errors
    /// As [`View::v2_event_since`].
    pub fn v2_for_each_event(
        &self,
        since: u64,
        events_max: usize,
        mut show: impl FnMut(Seen<'_>) -> bool,
    ) -> Result<u64, Error> {
        let Numbers { index, first, .. } = *self.v2();
        if since < first {
            let cause = format!("the requested history has been cleared [{first}/{since}]");
            return Err(Error::new(ErrorCode::EventIndexCleared, cause, index));
        }
        let mut key = Vec::new();
        keys::history(&mut key, since);
        let mut cursor = self.snapshot().cursor();
        cursor.seek(&key);
        let mut shown = 0;
        while cursor.valid()
            && let Some(at) = keys::history_key(cursor.key())
        {
            if shown == events_max {
                return Ok(at);
            }
            shown += 1;
            let Ok(head) = Head::decode(cursor.value()) else {
                unreachable!("invariant: an event's record was encoded here")
            };
            if !show(Seen { index: at, head, record: cursor.value() }) {
                return Ok(at + 1);
            }
            cursor.next();
        }
        Ok(since.max(index + 1))
    }
}

/// An event, as far as it was looked at.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    index: u64,
    head: Head,
    record: &'a [u8],
}

impl Seen<'_> {
    /// Its index.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The node's path.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.head.key
    }

    /// Whether nobody who waits is to hear of it.
    #[must_use]
    pub fn is_refresh(&self) -> bool {
        self.head.refresh
    }

    /// Whether it removed a directory, and so all that was in it: who waits for anything there hears of it.
    #[must_use]
    pub fn has_removed_dir(&self) -> bool {
        let removes = matches!(self.head.action(), Action::Delete | Action::Expire);
        removes && self.head.was_dir
    }

    /// Whether it is meant.
    #[must_use]
    pub fn concerns(&self, interest: &Interest) -> bool {
        !self.head.refresh && interest.concerns(&self.head.key, self.has_removed_dir())
    }

    /// All of it.
    #[must_use]
    pub fn event(&self) -> Event {
        event(self.index, self.record).expect("invariant: an event's record was encoded here")
    }
}

/// The event of a record; `None` when it is none's.
pub(super) fn event(index: u64, record: &[u8]) -> Option<Event> {
    let head = Head::decode(record).ok()?;
    let body = Body::decode(record).ok()?;
    let action = Action::try_from(head.action).ok()?;
    let node = body.node?.node(&head.key);
    let prev_node = body.prev_node.map(|node| node.node(&head.key));
    Some(Event { action, node, prev_node, index })
}
