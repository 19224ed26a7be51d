//! Random valid histories: the model carries requests out one by one, each somewhere between its begin and its end.

use bytes::Bytes;
use fastrand::Rng;
use urd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use urd_proto::etcdserverpb::request_op::Request as Op;
use urd_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::checkers::history::{Answer, Operation, Request, Timeline};
use crate::checkers::model::Model;

/// How a history is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taste {
    pub(super) operations: usize,
    pub(super) clients: u32,
    pub(super) keys: u32,
    /// Of a hundred operations, those that are never answered.
    pub(super) unanswered: u32,
    /// Leases and compactions, too, and ranges of many keys and of the past.
    pub(super) all_kinds: bool,
}

/// Few enough operations for the search.
pub(super) const SMALL: Taste =
    Taste { operations: 24, clients: 4, keys: 3, unanswered: 10, all_kinds: false };
pub(super) const LARGE: Taste =
    Taste { operations: 1_500, clients: 8, keys: 12, unanswered: 5, all_kinds: true };

pub(super) fn history(rng: &mut Rng, taste: Taste) -> (Vec<Operation>, Timeline) {
    let mut maker = Maker { model: Model::with_leases(), made: 0, leases: 0, taste };
    let mut timeline = Timeline::default();
    // When each client is free again.
    let mut free = vec![0_u64; taste.clients as usize];
    let mut operations = Vec::new();
    let mut points: Vec<(u64, usize)> = Vec::new();
    for nth in 0..taste.operations {
        let client = rng.usize(..free.len());
        let begun = free[client] + rng.u64(1..40);
        let point = begun + rng.u64(1..50);
        let ended = point + rng.u64(1..50);
        free[client] = ended;
        // The request is chosen when it is carried out, so that it meets what is there.
        let request = Request::Range(RangeRequest::default());
        let answer = Answer::Unknown;
        let client = client as u32;
        operations.push(Operation { client, begun, ended: Some(ended), request, answer });
        points.push((point, nth));
    }
    points.sort_unstable();
    for (_, nth) in points {
        let operation = &mut operations[nth];
        operation.request = maker.request(rng);
        let lost = rng.u32(..100) < taste.unanswered;
        if lost && rng.bool() {
            // It is lost on its way, and never carried out.
            (operation.ended, operation.answer) = (None, Answer::Unknown);
            continue;
        }
        match maker.model.run(&operation.request) {
            Ok(executed) => {
                if !executed.events.is_empty() {
                    timeline.push(maker.model.revision(), executed.events).unwrap();
                }
                operation.answer = Answer::Done(executed.response);
            }
            Err(refusal) => operation.answer = Answer::Refused(refusal.to_string()),
        }
        if lost {
            (operation.ended, operation.answer) = (None, Answer::Unknown);
        }
        if taste.all_kinds && rng.u32(..40) == 0 && maker.leases > 0 {
            let events = maker.model.expire(rng.i64(1..=maker.leases));
            if !events.is_empty() {
                timeline.push(maker.model.revision(), events).unwrap();
            }
        }
    }
    (operations, timeline)
}

struct Maker {
    model: Model,
    /// Values so far: each is put once.
    made: u64,
    leases: i64,
    taste: Taste,
}

pub(super) fn key(nth: u32) -> Bytes {
    Bytes::from(format!("k{nth:02}"))
}

impl Maker {
    fn key(&self, rng: &mut Rng) -> Bytes {
        key(rng.u32(..self.taste.keys))
    }

    fn range(&self, rng: &mut Rng) -> (Bytes, Bytes) {
        let end = if self.taste.all_kinds && rng.u32(..3) == 0 {
            if rng.bool() { Bytes::from_static(&[0]) } else { self.key(rng) }
        } else {
            Bytes::new()
        };
        (self.key(rng), end)
    }

    fn request(&mut self, rng: &mut Rng) -> Request {
        let kinds = if self.taste.all_kinds { 16 } else { 13 };
        match rng.u32(..kinds) {
            0..=3 => Request::Put(self.put(rng)),
            4..=7 => Request::Range(self.read(rng)),
            8..=9 => Request::DeleteRange(self.delete(rng)),
            10..=12 => Request::Txn(self.txn(rng)),
            13 => {
                self.leases += 1;
                Request::LeaseGrant(LeaseGrantRequest { ttl: 60, id: self.leases })
            }
            14 => Request::LeaseRevoke(LeaseRevokeRequest { id: rng.i64(0..=self.leases) }),
            _ => {
                let revision = self.model.revision() - rng.i64(-1..30);
                Request::Compaction(CompactionRequest { revision, physical: false })
            }
        }
    }

    fn put(&mut self, rng: &mut Rng) -> PutRequest {
        self.made += 1;
        let mut put = PutRequest {
            key: self.key(rng),
            value: Bytes::from(format!("v{}", self.made)),
            prev_kv: rng.bool(),
            ..PutRequest::default()
        };
        if self.taste.all_kinds && rng.u32(..3) == 0 {
            put.lease = rng.i64(0..=self.leases);
            put.ignore_lease = put.lease == 0;
        }
        put
    }

    fn read(&self, rng: &mut Rng) -> RangeRequest {
        let (key, range_end) = self.range(rng);
        let mut range = RangeRequest { key, range_end, ..RangeRequest::default() };
        if self.taste.all_kinds {
            range.revision =
                if rng.u32(..5) == 0 { self.model.revision() - rng.i64(0..9) } else { 0 };
            range.limit = rng.i64(0..4);
            range.sort_order = rng.i32(0..3);
            range.sort_target = rng.i32(0..5);
            range.keys_only = rng.u32(..5) == 0;
            range.count_only = rng.u32(..5) == 0;
            range.min_mod_revision = if rng.u32(..9) == 0 { rng.i64(0..20) } else { 0 };
            range.serializable = rng.u32(..4) == 0;
        }
        range
    }

    fn delete(&self, rng: &mut Rng) -> DeleteRangeRequest {
        let (key, range_end) = self.range(rng);
        DeleteRangeRequest { key, range_end, prev_kv: rng.bool() }
    }

    /// In small histories a transaction is about one key.
    fn txn(&mut self, rng: &mut Rng) -> TxnRequest {
        let key = self.key(rng);
        let compare = self.compare(rng, &key);
        let op = |request| RequestOp { request: Some(request) };
        let put = op(Op::RequestPut(PutRequest { key: key.clone(), lease: 0, ..self.put(rng) }));
        let get =
            op(Op::RequestRange(RangeRequest { key: key.clone(), ..RangeRequest::default() }));
        let delete =
            DeleteRangeRequest { key: key.clone(), range_end: Bytes::new(), prev_kv: true };
        let delete = op(Op::RequestDeleteRange(delete));
        let mut success = vec![get.clone(), put];
        if self.taste.all_kinds && rng.u32(..3) == 0 {
            // Another key in the same revision, and one in a nested transaction.
            let mut others = (0..self.taste.keys).map(super::generator::key).filter(|k| *k != key);
            let (Some(one), Some(other)) = (others.next(), others.next()) else {
                unreachable!("large histories have many keys")
            };
            success.push(op(Op::RequestPut(PutRequest { key: one, lease: 0, ..self.put(rng) })));
            let nested = PutRequest { key: other.clone(), lease: 0, ..self.put(rng) };
            let nested = TxnRequest {
                compare: vec![self.compare(rng, &other)],
                success: vec![op(Op::RequestPut(nested))],
                failure: Vec::new(),
            };
            success.push(op(Op::RequestTxn(nested)));
        }
        let failure = if rng.bool() { vec![get] } else { vec![delete] };
        TxnRequest { compare: vec![compare], success, failure }
    }

    fn compare(&self, rng: &mut Rng, key: &Bytes) -> Compare {
        let (target, union) = match rng.u32(..if self.taste.all_kinds { 5 } else { 2 }) {
            0 => (CompareTarget::Version, TargetUnion::Version(rng.i64(0..3))),
            1 => {
                let value = Bytes::from(format!("v{}", self.made.saturating_sub(rng.u64(..6))));
                (CompareTarget::Value, TargetUnion::Value(value))
            }
            2 => (CompareTarget::Create, TargetUnion::CreateRevision(rng.i64(0..2))),
            3 => (CompareTarget::Lease, TargetUnion::Lease(rng.i64(0..=self.leases))),
            _ => {
                let revision = self.model.revision() - rng.i64(0..9);
                (CompareTarget::Mod, TargetUnion::ModRevision(revision))
            }
        };
        let result = *rng
            .choice(&[
                CompareResult::Equal,
                CompareResult::NotEqual,
                CompareResult::Less,
                CompareResult::Greater,
            ])
            .unwrap();
        Compare {
            result: result.into(),
            target: target.into(),
            key: key.clone(),
            target_union: Some(union),
            range_end: Bytes::new(),
        }
    }
}
