//! The clients: what each asks for next, and what it has heard.
//!
//! Values are never written twice, so that an event tells whose it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;
use urd::store::Response as Applied;
use urd::store::command::Command;
use urd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use urd_proto::etcdserverpb::request_op::Request as Op;
use urd_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::calls::{Call, CallId, Reply};
use super::settings::{SECOND, Time};
use crate::checkers::history::{Answer, Operation, Request, Response};

/// The operator, who makes room where it is used up.
pub(super) const OPERATOR: u32 = u32::MAX;
/// What begins each key.
const KEY: &str = "k";
/// A range that has all keys.
const ALL: (&str, &str) = ("k", "l");

/// A lease, as its holder knows it.
#[derive(Debug, Default)]
struct Held {
    ttl: Time,
    /// Its holder was told that it lives until then at least.
    lives_until: Time,
    /// Somebody may have revoked it.
    is_revoked: bool,
    /// It was found expired.
    expired: Option<Time>,
}

/// What is under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) client: u32,
    begun: Time,
    what: What,
}

#[derive(Debug)]
enum What {
    Operation(Request),
    KeepAlive(i64),
}

/// Somebody has heard an answer, or gives it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) client: u32,
    /// What it asked for was done.
    pub(super) is_done: bool,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Clients {
    keys: u32,
    /// Values are longer by fewer bytes than this.
    padding: usize,
    /// What was asked and heard.
    pub(super) history: Vec<Operation>,
    pub(super) under_way: BTreeMap<CallId, UnderWay>,
    next: CallId,
    values: u64,
    /// The newest revision that any client has heard of.
    newest: i64,
    leases: BTreeMap<i64, Held>,
    next_lease: i64,
    /// Compactions that were asked for reach this far.
    pub(super) compacted: i64,
    /// Requests that were refused because an alarm says that the quota is used up, or there is no room for them.
    pub(super) refused_for_space: u64,
}

impl Clients {
    pub(super) fn new(keys: u32, padding: usize) -> Self {
        Self {
            keys,
            padding,
            history: Vec::new(),
            under_way: BTreeMap::new(),
            next: 1,
            values: 0,
            newest: 1,
            leases: BTreeMap::new(),
            next_lease: 1,
            compacted: 0,
            refused_for_space: 0,
        }
    }

    /// What a client asks for next.
    pub(super) fn ask(&mut self, client: u32, now: Time, rng: &mut Rng) -> (CallId, Call) {
        let id = self.next;
        self.next += 1;
        let keep_alive = rng.u32(0..20) == 0;
        let lease = keep_alive.then(|| self.any_lease(rng)).flatten();
        let (what, call) = match lease {
            Some(lease) => (What::KeepAlive(lease), Call::KeepAlive(lease)),
            None => {
                let request = self.request(rng);
                let call = call_of(&request);
                (What::Operation(request), call)
            }
        };
        self.under_way.insert(id, UnderWay { client, begun: now, what });
        (id, call)
    }

    /// The operator has everything deleted.
    pub(super) fn delete_all(&mut self, now: Time) -> (CallId, Call) {
        let (key, range_end) = (ALL.0.into(), ALL.1.into());
        let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
        self.operate(Request::DeleteRange(delete), now)
    }

    /// The operator has everything compacted that anybody has heard of.
    pub(super) fn compact_all(&mut self, now: Time) -> (CallId, Call) {
        let revision = self.newest;
        self.compacted = self.compacted.max(revision);
        self.operate(Request::Compaction(CompactionRequest { revision, physical: true }), now)
    }

    /// The operator looks whether puts are served.
    pub(super) fn try_put(&mut self, now: Time) -> (CallId, Call) {
        let put = PutRequest {
            key: format!("{KEY}0").into(),
            value: self.value(),
            ..PutRequest::default()
        };
        self.operate(Request::Put(put), now)
    }

    fn operate(&mut self, request: Request, now: Time) -> (CallId, Call) {
        let (id, call) = (self.next, call_of(&request));
        self.next += 1;
        let what = What::Operation(request);
        self.under_way.insert(id, UnderWay { client: OPERATOR, begun: now, what });
        (id, call)
    }

    /// An answer has come, or will not: `None`. Returns who has heard it, unless it was given up.
    pub(super) fn hear(
        &mut self,
        id: CallId,
        now: Time,
        reply: Option<Reply>,
    ) -> Result<Option<Heard>, String> {
        let Some(UnderWay { client, begun, what }) = self.under_way.remove(&id) else {
            return Ok(None);
        };
        let is_done = matches!(reply, Some(Reply::Written(_)));
        match what {
            What::KeepAlive(lease) => {
                if let Some(Reply::KeptAlive(Some(_))) = reply {
                    self.note_alive(lease, begun)?;
                }
            }
            What::Operation(request) => {
                let answer = answer_of(reply)?;
                if let (Answer::Done(_), Request::LeaseGrant(grant)) = (&answer, &request) {
                    self.note_alive(grant.id, begun)?;
                }
                self.refused_for_space += u64::from(answer.is_refused_for_space());
                let ended = (answer != Answer::Unknown).then_some(now * 1000);
                let begun = begun * 1000;
                let operation = Operation { client, begun, ended, request, answer };
                self.newest = self.newest.max(operation.revision().unwrap_or(0));
                self.history.push(operation);
            }
        }
        Ok(Some(Heard { client, is_done }))
    }

    /// A lease was renewed by a request that began at `begun`.
    fn note_alive(&mut self, lease: i64, begun: Time) -> Result<(), String> {
        let Some(held) = self.leases.get_mut(&lease) else { return Ok(()) };
        held.lives_until = held.lives_until.max(begun + held.ttl);
        check_lease(lease, held)
    }

    /// A member has applied that a lease was found expired.
    pub(super) fn note_expired(&mut self, lease: i64, now: Time) -> Result<(), String> {
        let Some(held) = self.leases.get_mut(&lease) else { return Ok(()) };
        held.expired.get_or_insert(now);
        check_lease(lease, held)
    }

    fn key(&self, rng: &mut Rng) -> Bytes {
        format!("{KEY}{}", rng.u32(0..self.keys)).into()
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        let padding = self.values.wrapping_mul(7919) as usize % self.padding;
        format!("v{}{}", self.values, ".".repeat(padding)).into()
    }

    fn any_lease(&self, rng: &mut Rng) -> Option<i64> {
        let ids: Vec<i64> = self.leases.keys().copied().rev().take(5).collect();
        (!ids.is_empty()).then(|| ids[rng.usize(..ids.len())])
    }

    fn request(&mut self, rng: &mut Rng) -> Request {
        match rng.u32(0..100) {
            0..30 => Request::Put(self.put(rng)),
            30..38 => Request::DeleteRange(self.delete(rng)),
            38..58 => Request::Txn(self.txn(rng)),
            58..88 => Request::Range(self.range(rng)),
            88..92 => {
                let revision = (self.newest - rng.i64(0..30)).max(1);
                self.compacted = self.compacted.max(revision);
                Request::Compaction(CompactionRequest { revision, physical: rng.bool() })
            }
            92..97 => self.grant(rng),
            _ => match self.any_lease(rng) {
                Some(id) => {
                    self.leases.entry(id).or_default().is_revoked = true;
                    Request::LeaseRevoke(LeaseRevokeRequest { id })
                }
                None => self.grant(rng),
            },
        }
    }

    fn grant(&mut self, rng: &mut Rng) -> Request {
        // Some are longer than what the leader lets pass before it checkpoints one.
        let (id, ttl) = (self.next_lease, rng.i64(1..12));
        self.next_lease += 1;
        let held = Held { ttl: ttl.unsigned_abs() * SECOND, ..Held::default() };
        self.leases.insert(id, held);
        Request::LeaseGrant(LeaseGrantRequest { id, ttl })
    }

    fn put(&mut self, rng: &mut Rng) -> PutRequest {
        let lease = if rng.u32(0..4) == 0 { self.any_lease(rng).unwrap_or(0) } else { 0 };
        PutRequest {
            key: self.key(rng),
            value: self.value(),
            lease,
            prev_kv: rng.bool(),
            ignore_lease: lease == 0 && rng.u32(0..20) == 0,
            ..PutRequest::default()
        }
    }

    fn delete(&self, rng: &mut Rng) -> DeleteRangeRequest {
        let (key, range_end) = self.bounds(rng);
        DeleteRangeRequest { key, range_end, prev_kv: rng.bool() }
    }

    /// One key, mostly, or from one on, or all.
    fn bounds(&self, rng: &mut Rng) -> (Bytes, Bytes) {
        match rng.u32(0..10) {
            0 => (ALL.0.into(), ALL.1.into()),
            1 => (self.key(rng), ALL.1.into()),
            _ => (self.key(rng), Bytes::new()),
        }
    }

    fn range(&self, rng: &mut Rng) -> RangeRequest {
        let (key, range_end) =
            if rng.bool() { self.bounds(rng) } else { (ALL.0.into(), ALL.1.into()) };
        let is_old = rng.u32(0..5) == 0;
        RangeRequest {
            key,
            range_end,
            limit: if rng.u32(0..4) == 0 { rng.i64(1..4) } else { 0 },
            revision: if is_old { (self.newest - rng.i64(0..20)).max(1) } else { 0 },
            serializable: rng.u32(0..4) == 0,
            keys_only: rng.u32(0..8) == 0,
            count_only: rng.u32(0..8) == 0,
            ..RangeRequest::default()
        }
    }

    fn txn(&mut self, rng: &mut Rng) -> TxnRequest {
        let key = self.key(rng);
        let (target, union) = match rng.u32(0..4) {
            0 => (CompareTarget::Version, TargetUnion::Version(rng.i64(0..3))),
            1 => {
                let revision = (self.newest - rng.i64(0..5)).max(0);
                (CompareTarget::Mod, TargetUnion::ModRevision(revision))
            }
            2 => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
            _ => (CompareTarget::Lease, TargetUnion::Lease(0)),
        };
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ];
        let compare = Compare {
            result: results[rng.usize(..results.len())].into(),
            target: target.into(),
            key: key.clone(),
            target_union: Some(union),
            ..Compare::default()
        };
        let compare = if rng.u32(0..8) == 0 { Vec::new() } else { vec![compare] };
        let success = self.branch(rng, key.clone());
        let failure = match rng.bool() {
            true => vec![op(Op::RequestRange(RangeRequest { key, ..RangeRequest::default() }))],
            false => self.branch(rng, key),
        };
        TxnRequest { compare, success, failure }
    }

    /// Operations that do not put one key twice.
    fn branch(&mut self, rng: &mut Rng, key: Bytes) -> Vec<RequestOp> {
        let mut operations = Vec::new();
        if rng.bool() {
            operations.push(op(Op::RequestRange(self.range_in_txn(rng))));
        }
        if rng.u32(0..4) == 0 {
            let delete = DeleteRangeRequest { key, prev_kv: rng.bool(), ..Default::default() };
            operations.push(op(Op::RequestDeleteRange(delete)));
            return operations;
        }
        let put = PutRequest { key: key.clone(), value: self.value(), ..PutRequest::default() };
        operations.push(op(Op::RequestPut(put)));
        let other = self.key(rng);
        if rng.bool() && other != key {
            let value = self.value();
            let put = PutRequest { key: other, value, prev_kv: true, ..PutRequest::default() };
            operations.push(op(Op::RequestPut(put)));
        }
        operations
    }

    fn range_in_txn(&self, rng: &mut Rng) -> RangeRequest {
        RangeRequest { serializable: false, ..self.range(rng) }
    }
}

fn check_lease(lease: i64, held: &Held) -> Result<(), String> {
    let Some(expired) = held.expired else { return Ok(()) };
    // Members' clocks may run fast by some of a hundred.
    let tolerated = held.ttl / 20;
    if !held.is_revoked && expired + tolerated < held.lives_until {
        return Err(format!(
            "lease {lease} was found expired at {expired} us, and its holder was told that it lives until {} us",
            held.lives_until
        ));
    }
    Ok(())
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn call_of(request: &Request) -> Call {
    match request.clone() {
        Request::Range(range) => Call::Read(range),
        Request::Put(put) => Call::Write(Command::Put(put)),
        Request::DeleteRange(delete) => Call::Write(Command::DeleteRange(delete)),
        Request::Txn(txn) => Call::Write(Command::Txn(txn)),
        Request::Compaction(compaction) => Call::Write(Command::Compaction(compaction)),
        Request::LeaseGrant(grant) => Call::Write(Command::LeaseGrant(grant)),
        Request::LeaseRevoke(revoke) => Call::Write(Command::LeaseRevoke(revoke)),
    }
}

fn answer_of(reply: Option<Reply>) -> Result<Answer, String> {
    Ok(match reply {
        None | Some(Reply::Unknown | Reply::KeptAlive(_)) => Answer::Unknown,
        Some(Reply::Refused(reason)) => Answer::Refused(reason),
        Some(Reply::Read(response)) => Answer::Done(Response::Range(response)),
        Some(Reply::Written(response)) => Answer::Done(match response {
            Applied::Put(response) => Response::Put(response),
            Applied::DeleteRange(response) => Response::DeleteRange(response),
            Applied::Txn(response) => Response::Txn(response),
            Applied::Compaction(response) => Response::Compaction(response),
            Applied::LeaseGrant(response) => Response::LeaseGrant(response),
            Applied::LeaseRevoke(response) => Response::LeaseRevoke(response),
            other => return Err(format!("a client heard {other:?}")),
        }),
    })
}
