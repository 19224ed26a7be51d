//! What is judged: what each client asked and heard, and when; and what really happened.

use std::fmt;

use bytes::Bytes;
use urd_proto::etcdserverpb::request_op::Request as Op;
use urd_proto::etcdserverpb::response_op::Response as OpResponse;
use urd_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use urd_proto::mvccpb::{Event, KeyValue};

use super::Violation;

/// The revision of a store that nothing was written to.
pub const FIRST_REVISION: i64 = 1;
/// Longest part of a key or value that is shown.
const SHOWN_BYTES: usize = 40;

/// One request of one client.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Whoever waits for an answer before asking again.
    pub client: u32,
    /// When it was sent, in nanoseconds of a clock that all operations of a history share.
    pub begun: u64,
    /// When its answer came. None: never.
    pub ended: Option<u64>,
    pub request: Request,
    pub answer: Answer,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compaction(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
}

/// What the client knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Done(Response),
    /// It was certainly not carried out, with the reason that the client was told.
    Refused(String),
    /// No answer, or one that leaves it open: it may be carried out any time later, once at most.
    Unknown,
}

impl Answer {
    /// Whether it was refused because there is no room, or an alarm says so; in etcd's words.
    pub fn is_refused_for_space(&self) -> bool {
        matches!(self, Answer::Refused(reason) if reason.contains("database space exceeded"))
    }
}

impl Operation {
    /// The answer's revision, if there is an answer.
    pub fn revision(&self) -> Option<i64> {
        match &self.answer {
            Answer::Done(response) => Some(response.revision()),
            Answer::Refused(_) | Answer::Unknown => None,
        }
    }

    /// What was answered, if it was.
    pub fn response(&self) -> Option<&Response> {
        match &self.answer {
            Answer::Done(response) => Some(response),
            Answer::Refused(_) | Answer::Unknown => None,
        }
    }
}

impl Request {
    /// Whether it can change a key.
    pub fn may_write(&self) -> bool {
        match self {
            Request::Put(_) | Request::DeleteRange(_) | Request::LeaseRevoke(_) => true,
            Request::Txn(txn) => txn_may_write(txn),
            Request::Range(_) | Request::Compaction(_) | Request::LeaseGrant(_) => false,
        }
    }

    /// Whether it may take room, and be refused where there is none.
    pub fn may_grow(&self) -> bool {
        match self {
            Request::Put(_) | Request::LeaseGrant(_) => true,
            Request::Txn(txn) => txn_may_put(txn),
            _ => false,
        }
    }

    /// Whether a member may answer it from what it has, however old that is. As in etcd that includes
    /// a transaction of nothing but serializable ranges, and so one of nothing.
    pub fn is_serializable(&self) -> bool {
        match self {
            Request::Range(range) => range.serializable,
            Request::Txn(txn) => txn.success.iter().chain(&txn.failure).all(
                |op| matches!(&op.request, Some(Op::RequestRange(range)) if range.serializable),
            ),
            _ => false,
        }
    }
}

/// Whether one of its operations, in either branch, is a put.
fn txn_may_put(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Op::RequestPut(_)) => true,
        Some(Op::RequestTxn(nested)) => txn_may_put(nested),
        _ => false,
    })
}

/// Whether one of its operations, in either branch, can change a key.
fn txn_may_write(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Op::RequestPut(_) | Op::RequestDeleteRange(_)) => true,
        Some(Op::RequestTxn(nested)) => txn_may_write(nested),
        Some(Op::RequestRange(_)) | None => false,
    })
}

impl Response {
    /// The revision in its header.
    pub fn revision(&self) -> i64 {
        let header = match self {
            Response::Range(response) => &response.header,
            Response::Put(response) => &response.header,
            Response::DeleteRange(response) => &response.header,
            Response::Txn(response) => &response.header,
            Response::Compaction(response) => &response.header,
            Response::LeaseGrant(response) => &response.header,
            Response::LeaseRevoke(response) => &response.header,
        };
        header.as_ref().map_or(0, |header| header.revision)
    }

    /// Whether it says that keys were changed. The answer to a lease's revocation does not say.
    pub fn says_it_wrote(&self) -> bool {
        match self {
            Response::Put(_) => true,
            Response::DeleteRange(response) => response.deleted > 0,
            Response::Txn(response) => txn_wrote(response),
            _ => false,
        }
    }

    /// Shows all headers, those within transactions, too.
    pub fn for_each_header(&mut self, show: &mut impl FnMut(&mut ResponseHeader)) {
        let own = match self {
            Response::Range(response) => &mut response.header,
            Response::Put(response) => &mut response.header,
            Response::DeleteRange(response) => &mut response.header,
            Response::Compaction(response) => &mut response.header,
            Response::LeaseGrant(response) => &mut response.header,
            Response::LeaseRevoke(response) => &mut response.header,
            Response::Txn(response) => return txn_headers(response, show),
        };
        own.iter_mut().for_each(show);
    }

    /// Shows all key-values, in order.
    pub fn for_each_key_value(&mut self, show: &mut impl FnMut(&mut KeyValue)) {
        match self {
            Response::Range(response) => response.kvs.iter_mut().for_each(show),
            Response::Put(response) => response.prev_kv.iter_mut().for_each(show),
            Response::DeleteRange(response) => response.prev_kvs.iter_mut().for_each(show),
            Response::Txn(response) => txn_key_values(response, show),
            Response::Compaction(_) | Response::LeaseGrant(_) | Response::LeaseRevoke(_) => {}
        }
    }
}

fn txn_wrote(response: &TxnResponse) -> bool {
    response.responses.iter().any(|op| match &op.response {
        Some(OpResponse::ResponsePut(_)) => true,
        Some(OpResponse::ResponseDeleteRange(response)) => response.deleted > 0,
        Some(OpResponse::ResponseTxn(nested)) => txn_wrote(nested),
        Some(OpResponse::ResponseRange(_)) | None => false,
    })
}

fn txn_headers(response: &mut TxnResponse, show: &mut impl FnMut(&mut ResponseHeader)) {
    response.header.iter_mut().for_each(&mut *show);
    for op in &mut response.responses {
        match &mut op.response {
            Some(OpResponse::ResponseRange(range)) => range.header.iter_mut().for_each(&mut *show),
            Some(OpResponse::ResponsePut(put)) => put.header.iter_mut().for_each(&mut *show),
            Some(OpResponse::ResponseDeleteRange(delete)) => {
                delete.header.iter_mut().for_each(&mut *show);
            }
            Some(OpResponse::ResponseTxn(nested)) => txn_headers(nested, show),
            None => {}
        }
    }
}

fn txn_key_values(response: &mut TxnResponse, show: &mut impl FnMut(&mut KeyValue)) {
    for op in &mut response.responses {
        match &mut op.response {
            Some(OpResponse::ResponseRange(range)) => range.kvs.iter_mut().for_each(&mut *show),
            Some(OpResponse::ResponsePut(put)) => put.prev_kv.iter_mut().for_each(&mut *show),
            Some(OpResponse::ResponseDeleteRange(delete)) => {
                delete.prev_kvs.iter_mut().for_each(&mut *show);
            }
            Some(OpResponse::ResponseTxn(nested)) => txn_key_values(nested, show),
            None => {}
        }
    }
}

/// The truth: all events, revision by revision, without a gap from the first write on.
///
/// A simulator takes it from what was applied; a test of processes from a watch on every key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// Invariant: the nth has the events of revision `FIRST_REVISION + 1 + nth`, at least one.
    revisions: Vec<Vec<Event>>,
}

impl Timeline {
    /// Fails if a revision is missing, comes out of order, is empty or has an event of another.
    pub fn new(
        revisions: impl IntoIterator<Item = (i64, Vec<Event>)>,
    ) -> Result<Timeline, Violation> {
        let mut timeline = Timeline::default();
        for (revision, events) in revisions {
            timeline.push(revision, events)?;
        }
        Ok(timeline)
    }

    /// The same of single events, as a watch delivers them.
    pub fn of_events(events: impl IntoIterator<Item = Event>) -> Result<Timeline, Violation> {
        let mut revisions: Vec<(i64, Vec<Event>)> = Vec::new();
        for event in events {
            let revision = revision_of(&event);
            match revisions.last_mut() {
                Some((last, events)) if *last == revision => events.push(event),
                _ => revisions.push((revision, vec![event])),
            }
        }
        Timeline::new(revisions)
    }

    /// Adds the next revision.
    pub fn push(&mut self, revision: i64, events: Vec<Event>) -> Result<(), Violation> {
        let next = self.last() + 1;
        if revision != next {
            return Err(Violation::new(format!(
                "the truth has revision {revision} after {}",
                next - 1
            )));
        }
        if events.is_empty() || events.iter().any(|event| revision_of(event) != revision) {
            let text = format!("the truth's revision {revision} has the events {events:?}");
            return Err(Violation::new(text));
        }
        self.revisions.push(events);
        Ok(())
    }

    /// The newest revision.
    pub fn last(&self) -> i64 {
        FIRST_REVISION + self.revisions.len() as i64
    }

    /// The events of a revision; none of one that never was.
    pub fn events(&self, revision: i64) -> &[Event] {
        let nth = usize::try_from(revision - FIRST_REVISION - 1).ok();
        nth.and_then(|nth| self.revisions.get(nth)).map_or(&[], Vec::as_slice)
    }

    /// All revisions from `from` on, each with its events.
    pub fn since(&self, from: i64) -> impl Iterator<Item = (i64, &[Event])> {
        (from.max(FIRST_REVISION + 1)..=self.last())
            .map(|revision| (revision, self.events(revision)))
    }
}

/// The revision that made an event.
pub fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// The key that an event is about.
pub fn key_of(event: &Event) -> &[u8] {
    event.kv.as_ref().map_or(&[], |kv| &kv.key)
}

/// Whether a key lies in a range as requests write it.
pub fn in_range(key: &[u8], from: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == from,
        [0] => key >= from,
        end => key >= from && key < end,
    }
}

/// A key or value as texts show it.
pub fn shown(bytes: &[u8]) -> String {
    let part = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
    let more = if part.len() < bytes.len() { "..." } else { "" };
    format!("{}{more}", part.escape_ascii())
}

/// A range as texts show it.
pub fn shown_range(key: &Bytes, end: &Bytes) -> String {
    if end.is_empty() { shown(key) } else { format!("[{}, {})", shown(key), shown(end)) }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Range(range) => {
                let kind = if range.serializable { "serializable range" } else { "range" };
                write!(f, "{kind} {}", shown_range(&range.key, &range.range_end))?;
                if range.revision > 0 { write!(f, " at {}", range.revision) } else { Ok(()) }
            }
            Request::Put(put) => {
                write!(f, "put {} = {}", shown(&put.key), shown(&put.value))?;
                if put.lease == 0 { Ok(()) } else { write!(f, " with lease {:x}", put.lease) }
            }
            Request::DeleteRange(delete) => {
                write!(f, "delete {}", shown_range(&delete.key, &delete.range_end))
            }
            Request::Txn(txn) => {
                let (compares, then, otherwise) =
                    (txn.compare.len(), txn.success.len(), txn.failure.len());
                write!(f, "txn of {compares} compares, {then} or {otherwise} operations")?;
                match txn.compare.first() {
                    Some(compare) => write!(f, ", on {}", shown(&compare.key)),
                    None => Ok(()),
                }
            }
            Request::Compaction(compaction) => write!(f, "compaction to {}", compaction.revision),
            Request::LeaseGrant(grant) => write!(f, "grant of lease {:x}", grant.id),
            Request::LeaseRevoke(revoke) => write!(f, "revocation of lease {:x}", revoke.id),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}'s {} begun at {}", self.client, self.request, millis(self.begun))?;
        if let Some(ended) = self.ended {
            write!(f, ", ended at {}", millis(ended))?;
        }
        match &self.answer {
            Answer::Done(response) => write!(f, ", done at revision {}", response.revision()),
            Answer::Refused(reason) => write!(f, ", refused: {reason}"),
            Answer::Unknown => f.write_str(", not answered"),
        }
    }
}

fn millis(nanos: u64) -> String {
    format!("{}.{:03} ms", nanos / 1_000_000, nanos / 1_000 % 1_000)
}
