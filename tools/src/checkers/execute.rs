//! etcd's key-value semantics, written as plainly as can be: what a request does at some state.
//!
//! Nothing is changed here: a request is carried out on a [`State`] that stays as it is, and what comes of it is its
//! response and its events. So the same code serves a model that keeps all its states, and a search that
//! tries one request after the other.
//!
//! What a server refuses whatever its state is (an empty key, one put twice in a transaction) is not looked for.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use urd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use urd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use urd_proto::etcdserverpb::request_op::Request as Op;
use urd_proto::etcdserverpb::response_op::Response as OpResponse;
use urd_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantResponse, LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use urd_proto::mvccpb::event::EventType;
use urd_proto::mvccpb::{Event, KeyValue};

use super::history::{Request, Response, in_range};

/// What requests are carried out on.
pub trait State {
    /// The key-value of a live key as of a revision.
    fn find(&self, key: &[u8], revision: i64) -> Option<&KeyValue>;

    /// Those of all live keys of a range as of a revision, in the order of the keys.
    fn select(&self, key: &[u8], end: &[u8], revision: i64) -> Vec<&KeyValue>;

    /// Whether there is such a lease, if that is known.
    fn has_lease(&self, id: i64) -> Option<bool>;
}

/// Where in time a request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The newest revision before it.
    pub newest: i64,
    /// The revision that it makes if it changes anything.
    pub next: i64,
    /// Revisions before this one are not there any more.
    pub compacted: i64,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Executed {
    pub response: Response,
    /// What it changed, in order, all at one revision.
    pub events: Vec<Event>,
}

/// Why a state refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Compacted,
    FutureRevision,
    KeyNotFound,
    LeaseExists,
    LeaseNotFound,
}

impl fmt::Display for Refusal {
    /// etcd's texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Compacted => "etcdserver: mvcc: required revision has been compacted",
            Refusal::FutureRevision => "etcdserver: mvcc: required revision is a future revision",
            Refusal::KeyNotFound => "etcdserver: key not found",
            Refusal::LeaseExists => "etcdserver: lease already exists",
            Refusal::LeaseNotFound => "etcdserver: requested lease not found",
        })
    }
}

/// Carries out a request.
pub fn execute<S: State>(state: &S, point: Point, request: &Request) -> Result<Executed, Refusal> {
    let mut work = Work { state, point, changed: BTreeMap::new(), events: Vec::new() };
    let response = match request {
        Request::Range(range) => Response::Range(work.lone_range(range)?),
        Request::Put(put) => {
            work.check_lease(put)?;
            work.check_previous(put)?;
            Response::Put(work.put(put))
        }
        Request::DeleteRange(delete) => Response::DeleteRange(work.delete_range(delete)),
        Request::Txn(txn) => Response::Txn(work.txn(txn)?),
        Request::Compaction(compaction) => Response::Compaction(work.compact(compaction)?),
        Request::LeaseGrant(grant) if state.has_lease(grant.id) == Some(true) => {
            return Err(Refusal::LeaseExists);
        }
        Request::LeaseGrant(grant) => Response::LeaseGrant(LeaseGrantResponse {
            header: work.header(),
            id: grant.id,
            ttl: grant.ttl,
            error: String::new(),
        }),
        Request::LeaseRevoke(revoke) if state.has_lease(revoke.id) == Some(false) => {
            return Err(Refusal::LeaseNotFound);
        }
        Request::LeaseRevoke(revoke) => {
            work.delete_attached(revoke.id);
            Response::LeaseRevoke(LeaseRevokeResponse { header: work.header() })
        }
    };
    Ok(Executed { response, events: work.events })
}

/// What the end of a lease does: its keys are deleted, in their order.
pub fn end_lease<S: State>(state: &S, point: Point, id: i64) -> Vec<Event> {
    let mut work = Work { state, point, changed: BTreeMap::new(), events: Vec::new() };
    work.delete_attached(id);
    work.events
}

/// A request under way.
struct Work<'a, S> {
    state: &'a S,
    point: Point,
    /// What it has changed so far; none: deleted.
    changed: BTreeMap<Bytes, Option<KeyValue>>,
    events: Vec<Event>,
}

impl<S: State> Work<'_, S> {
    /// The newest revision, with the changes so far.
    fn revision(&self) -> i64 {
        if self.events.is_empty() { self.point.newest } else { self.point.next }
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.revision(), ..ResponseHeader::default() })
    }

    fn find(&self, key: &[u8]) -> Option<&KeyValue> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.state.find(key, self.point.newest),
        }
    }

    fn select(&self, key: &[u8], end: &[u8]) -> Vec<KeyValue> {
        let before = self.state.select(key, end, self.point.newest);
        let mut selected: BTreeMap<&Bytes, &KeyValue> =
            before.into_iter().map(|kv| (&kv.key, kv)).collect();
        for (changed, kv) in self.changed.iter().filter(|(at, _)| in_range(at, key, end)) {
            match kv {
                Some(kv) => selected.insert(changed, kv),
                None => selected.remove(changed),
            };
        }
        selected.into_values().cloned().collect()
    }

    /// What a key held when the request began: events tell that, whatever the request did before.
    fn before(&self, key: &[u8]) -> Option<KeyValue> {
        self.state.find(key, self.point.newest).cloned()
    }

    fn change(&mut self, kind: EventType, kv: KeyValue) {
        let prev_kv = self.before(&kv.key);
        let now = (kind == EventType::Put).then(|| kv.clone());
        self.changed.insert(kv.key.clone(), now);
        self.events.push(Event { r#type: kind.into(), kv: Some(kv), prev_kv });
    }

    fn delete(&mut self, key: &Bytes) {
        let mod_revision = self.point.next;
        let kv = KeyValue { key: key.clone(), mod_revision, ..KeyValue::default() };
        self.change(EventType::Delete, kv);
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let previous = self.find(&request.key).cloned();
        let mut kv = KeyValue {
            key: request.key.clone(),
            create_revision: self.point.next,
            mod_revision: self.point.next,
            version: 1,
            value: request.value.clone(),
            lease: request.lease,
        };
        if let Some(previous) = &previous {
            kv.create_revision = previous.create_revision;
            kv.version = previous.version + 1;
            if request.ignore_value {
                kv.value = previous.value.clone();
            }
            if request.ignore_lease {
                kv.lease = previous.lease;
            }
        }
        self.change(EventType::Put, kv);
        PutResponse { header: self.header(), prev_kv: previous.filter(|_| request.prev_kv) }
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let victims = self.select(&request.key, &request.range_end);
        for victim in &victims {
            self.delete(&victim.key);
        }
        DeleteRangeResponse {
            header: self.header(),
            deleted: victims.len() as i64,
            prev_kvs: if request.prev_kv { victims } else { Vec::new() },
        }
    }

    fn delete_attached(&mut self, id: i64) {
        let all = self.select(&[], &[0]);
        for victim in all.iter().filter(|kv| kv.lease == id) {
            self.delete(&victim.key);
        }
    }

    fn check_lease(&self, put: &PutRequest) -> Result<(), Refusal> {
        let is_missing = put.lease != 0 && self.state.has_lease(put.lease) == Some(false);
        if is_missing { Err(Refusal::LeaseNotFound) } else { Ok(()) }
    }

    fn check_previous(&self, put: &PutRequest) -> Result<(), Refusal> {
        let needs = put.ignore_value || put.ignore_lease;
        if needs && self.find(&put.key).is_none() { Err(Refusal::KeyNotFound) } else { Ok(()) }
    }

    fn compact(&self, request: &CompactionRequest) -> Result<CompactionResponse, Refusal> {
        if request.revision <= self.point.compacted {
            return Err(Refusal::Compacted);
        }
        if request.revision > self.point.newest {
            return Err(Refusal::FutureRevision);
        }
        Ok(CompactionResponse { header: self.header() })
    }

    /// A range of its own: any revision that is not positive means the newest.
    fn lone_range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        if request.revision > self.point.newest {
            return Err(Refusal::FutureRevision);
        }
        if request.revision > 0 && request.revision < self.point.compacted {
            return Err(Refusal::Compacted);
        }
        Ok(self.range(request))
    }

    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let (key, end) = (&request.key, &request.range_end);
        let selected = if request.revision > 0 {
            self.state.select(key, end, request.revision).into_iter().cloned().collect()
        } else {
            self.select(key, end)
        };
        let (kvs, count, more) = shape(request, selected);
        RangeResponse { header: self.header(), kvs, more, count }
    }
}

/// Transactions. All compares, those of nested transactions in the chosen branches too, see the state before; then all
/// operations are checked on that state; then they run, each seeing what those before it did.
impl<S: State> Work<'_, S> {
    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        let mut path = Vec::new();
        self.choose(request, &mut path);
        self.check_ops(request, &mut path.iter(), &mut None)?;
        let mut response = self.run(request, &mut path.iter());
        response.header = self.header();
        Ok(response)
    }

    fn choose(&self, request: &TxnRequest, path: &mut Vec<bool>) {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        path.push(succeeded);
        for op in branch(request, succeeded) {
            if let Some(Op::RequestTxn(nested)) = &op.request {
                self.choose(nested, path);
            }
        }
    }

    /// `deleted_from`: keys from there on are deleted by an operation before. Other deletions meet no put.
    fn check_ops<'r, 'p>(
        &self,
        request: &'r TxnRequest,
        path: &mut impl Iterator<Item = &'p bool>,
        deleted_from: &mut Option<&'r Bytes>,
    ) -> Result<(), Refusal> {
        let succeeded = path.next().copied().unwrap_or_default();
        for op in branch(request, succeeded) {
            match &op.request {
                Some(Op::RequestRange(range)) => match range.revision {
                    0 => {}
                    asked if asked > self.point.newest => return Err(Refusal::FutureRevision),
                    asked if asked < self.point.compacted => return Err(Refusal::Compacted),
                    _ => {}
                },
                Some(Op::RequestPut(put)) => {
                    self.check_previous(put)?;
                    let is_deleted = deleted_from.is_some_and(|from| *from <= put.key);
                    if is_deleted && (put.ignore_value || put.ignore_lease) {
                        return Err(Refusal::KeyNotFound);
                    }
                    self.check_lease(put)?;
                }
                Some(Op::RequestDeleteRange(delete)) if *delete.range_end == [0] => {
                    let from = deleted_from.map_or(&delete.key, |from| from.min(&delete.key));
                    *deleted_from = Some(from);
                }
                Some(Op::RequestTxn(nested)) => self.check_ops(nested, path, deleted_from)?,
                Some(Op::RequestDeleteRange(_)) | None => {}
            }
        }
        Ok(())
    }

    fn run<'p>(
        &mut self,
        request: &TxnRequest,
        path: &mut impl Iterator<Item = &'p bool>,
    ) -> TxnResponse {
        let succeeded = path.next().copied().unwrap_or_default();
        let mut responses = Vec::new();
        for op in branch(request, succeeded) {
            let response = match &op.request {
                Some(Op::RequestRange(range)) => Some(OpResponse::ResponseRange(self.range(range))),
                Some(Op::RequestPut(put)) => Some(OpResponse::ResponsePut(self.put(put))),
                Some(Op::RequestDeleteRange(delete)) => {
                    Some(OpResponse::ResponseDeleteRange(self.delete_range(delete)))
                }
                Some(Op::RequestTxn(nested)) => {
                    Some(OpResponse::ResponseTxn(self.run(nested, path)))
                }
                None => None,
            };
            responses.push(ResponseOp { response });
        }
        TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses }
    }

    /// Whether a compare holds for all keys of its range. Without a key values compare false, whatever the relation, and
    /// numbers as zero.
    fn holds(&self, compare: &Compare) -> bool {
        let selected = self.state.select(&compare.key, &compare.range_end, self.point.newest);
        if selected.is_empty() {
            let is_value = compare.target == CompareTarget::Value as i32;
            return !is_value && relation_holds(compare, order(compare, &KeyValue::default()));
        }
        selected.iter().all(|kv| relation_holds(compare, order(compare, kv)))
    }
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// How a key's field stands to the one that the compare names. One of another type counts as zero or empty.
fn order(compare: &Compare, kv: &KeyValue) -> Ordering {
    let given = compare.target_union.as_ref();
    match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => kv.version.cmp(&match given {
            Some(TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&match given {
            Some(TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&match given {
            Some(TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&match given {
            Some(TargetUnion::Lease(lease)) => *lease,
            _ => 0,
        }),
        Ok(CompareTarget::Value) => match given {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.cmp(&Bytes::new()),
        },
        Err(_) => Ordering::Equal,
    }
}

/// A relation outside the enumeration always holds, as in etcd.
fn relation_holds(compare: &Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

/// Makes a range's answer of all its keys: key-values, count, and whether the limit cut something off.
///
/// The count knows no limit and no filter. A target other than the key without an order sorts, ascending, but only the
/// first `limit + 1` keys: etcd's quirk.
fn shape(request: &RangeRequest, mut kvs: Vec<KeyValue>) -> (Vec<KeyValue>, i64, bool) {
    let count = kvs.len() as i64;
    if request.count_only {
        return (Vec::new(), count, false);
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let filters = bounds.iter().any(|bound| *bound != 0);
    let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
    let order = SortOrder::try_from(request.sort_order).unwrap_or_default();
    if let Some(limit) = limit
        && target != SortTarget::Key
        && order == SortOrder::None
        && !filters
    {
        kvs.truncate(limit.saturating_add(1));
    }
    let within = |at: i64, min: i64, max: i64| (min == 0 || at >= min) && (max == 0 || at <= max);
    kvs.retain(|kv| {
        within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
    });
    sort(&mut kvs, target, order);
    let more = limit.is_some_and(|limit| kvs.len() > limit);
    kvs.truncate(limit.unwrap_or(usize::MAX));
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    (kvs, count, more)
}

/// Equal ones stay in the order of their keys.
fn sort(kvs: &mut [KeyValue], target: SortTarget, order: SortOrder) {
    let number = |kv: &KeyValue| match target {
        SortTarget::Version => kv.version,
        SortTarget::Create => kv.create_revision,
        SortTarget::Mod => kv.mod_revision,
        SortTarget::Key | SortTarget::Value => 0,
    };
    match (target, order == SortOrder::Descend) {
        (SortTarget::Key, true) => kvs.reverse(),
        (SortTarget::Key, false) => {}
        (SortTarget::Value, true) => kvs.sort_by(|one, other| other.value.cmp(&one.value)),
        (SortTarget::Value, false) => kvs.sort_by(|one, other| one.value.cmp(&other.value)),
        (_, true) => kvs.sort_by_key(|kv| Reverse(number(kv))),
        (_, false) => kvs.sort_by_key(number),
    }
}
