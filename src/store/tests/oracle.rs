//! The dumb model: a full copy of all keys for each revision, and everything done by going through
//! them. It knows etcd's semantics a second time, written as plainly as can be.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use urd_proto::etcdserverpb::compare::TargetUnion;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::response_op;
use urd_proto::etcdserverpb::{
    AlarmMember, AlarmResponse, AlarmType, CompactionResponse, Compare, DeleteRangeRequest,
    DeleteRangeResponse, LeaseGrantResponse, LeaseRevokeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use urd_proto::mvccpb::KeyValue;

use crate::error::Rejected;
use crate::ids::Index;
use crate::store::command::Command;
use crate::store::lease::Lease;
use crate::store::{HashKv, Outcome, Response};

type State = BTreeMap<Bytes, KeyValue>;

/// A change as etcd's table of revisions has it.
#[derive(Clone)]
struct Change {
    main: i64,
    sub: i64,
    is_tombstone: bool,
    kv: KeyValue,
}

pub(super) struct Oracle {
    /// The state at each revision; `states[0]` stands for the time before the first.
    states: Vec<State>,
    /// What etcd would still have on disk once its compactions are over.
    changes: Vec<Change>,
    compacted: i64,
    leases: BTreeMap<i64, Lease>,
    /// Kind and member.
    alarms: BTreeSet<(i32, u64)>,
    /// Commands applied, one an entry.
    entries: u64,
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

fn in_range(key: &[u8], from: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == from,
        [0] => key >= from,
        end => key >= from && key < end,
    }
}

fn select<'a>(
    state: &'a State,
    key: &'a [u8],
    end: &'a [u8],
) -> impl Iterator<Item = &'a KeyValue> {
    state.values().filter(move |kv| in_range(&kv.key, key, end))
}

/// A request being applied: the state as it becomes, and the changes that are made.
struct Work {
    state: State,
    begin: i64,
    changes: Vec<Change>,
}

impl Work {
    fn revision(&self) -> i64 {
        self.begin + i64::from(!self.changes.is_empty())
    }

    fn change(&mut self, is_tombstone: bool, kv: KeyValue) {
        let sub = self.changes.len() as i64;
        self.changes.push(Change { main: self.begin + 1, sub, is_tombstone, kv });
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let main = self.begin + 1;
        let previous = self.state.get(&request.key).cloned();
        let mut kv = KeyValue {
            key: request.key.clone(),
            create_revision: main,
            mod_revision: main,
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
        self.state.insert(kv.key.clone(), kv.clone());
        self.change(false, kv);
        PutResponse { header: header(main), prev_kv: previous.filter(|_| request.prev_kv) }
    }

    fn delete_all(&mut self, kvs: &[KeyValue]) {
        for kv in kvs {
            self.state.remove(&kv.key);
            self.change(true, KeyValue { key: kv.key.clone(), ..KeyValue::default() });
        }
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let deleted: Vec<KeyValue> =
            select(&self.state, &request.key, &request.range_end).cloned().collect();
        self.delete_all(&deleted);
        DeleteRangeResponse {
            header: header(self.revision()),
            deleted: deleted.len() as i64,
            prev_kvs: if request.prev_kv { deleted } else { Vec::new() },
        }
    }
}

impl Oracle {
    pub(super) fn new() -> Self {
        let states = vec![State::new(), State::new()];
        Self {
            states,
            changes: Vec::new(),
            compacted: -1,
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            entries: 0,
        }
    }

    pub(super) fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    pub(super) fn compacted(&self) -> i64 {
        self.compacted
    }

    fn newest(&self) -> &State {
        self.states.last().expect("there is always one")
    }

    /// All leases, and of each the live keys that name it.
    pub(super) fn leases(&self) -> Vec<(i64, Lease, Vec<Vec<u8>>)> {
        let keys = |id: i64| {
            let attached = self.newest().values().filter(move |kv| kv.lease == id);
            attached.map(|kv| kv.key.to_vec()).collect()
        };
        self.leases.iter().map(|(&id, &lease)| (id, lease, keys(id))).collect()
    }

    fn work(&self) -> Work {
        Work { state: self.newest().clone(), begin: self.revision(), changes: Vec::new() }
    }

    fn take_over(&mut self, mut work: Work) {
        if !work.changes.is_empty() {
            self.states.push(work.state);
            self.changes.append(&mut work.changes);
        }
    }

    fn revoke(&mut self, id: i64) {
        self.leases.remove(&id);
        let mut work = self.work();
        let attached: Vec<KeyValue> =
            work.state.values().filter(|kv| kv.lease == id).cloned().collect();
        work.delete_all(&attached);
        self.take_over(work);
    }

    /// Whether there is the lease that a member knew after so many entries.
    fn has_lease_as_of(&self, id: i64, as_of: u64) -> bool {
        self.leases.get(&id).is_some_and(|lease| lease.granted.0 <= as_of)
    }

    pub(super) fn alarms(&self, wanted: AlarmType) -> Vec<AlarmMember> {
        let all = self.alarms.iter().map(|&(alarm, member_id)| AlarmMember { member_id, alarm });
        all.filter(|alarm| wanted == AlarmType::None || wanted == alarm.alarm()).collect()
    }

    fn refusal(&self, command: &Command) -> Option<Rejected> {
        let (puts, changes) = match command {
            Command::Put(_) | Command::LeaseGrant(_) => (true, true),
            Command::Txn(request) => (format!("{request:?}").contains("RequestPut("), true),
            Command::DeleteRange(_) | Command::Compaction(_) | Command::LeaseRevoke(_) => {
                (false, true)
            }
            Command::LeaseCheckpoints(_) | Command::LeaseExpiry(_) | Command::Alarm(_) => {
                (false, false)
            }
            _ => unreachable!("the generator makes no members"),
        };
        let raised = |kind| self.alarms.iter().any(|(raised, _)| *raised == kind);
        match () {
            () if changes && raised(2) => Some(Rejected::Corrupt),
            () if puts && raised(1) => Some(Rejected::NoSpace),
            () => None,
        }
    }

    pub(super) fn apply(&mut self, command: &Command) -> Outcome {
        self.entries += 1;
        if let Some(refusal) = self.refusal(command) {
            return Err(refusal);
        }
        let mut work = self.work();
        let response = match command {
            Command::Put(request) => {
                self.check_lease(request)?;
                self.check_previous(request)?;
                Response::Put(work.put(request))
            }
            Command::DeleteRange(request) => Response::DeleteRange(work.delete_range(request)),
            Command::Txn(request) => {
                let path = self.path(request);
                self.check_txn(request, &mut path.iter(), &mut Vec::new())?;
                let mut response = self.txn(&mut work, request, &mut path.iter());
                response.header = header(work.revision());
                Response::Txn(response)
            }
            Command::Compaction(request) => {
                if request.revision <= self.compacted {
                    return Err(Rejected::Compacted);
                }
                if request.revision > self.revision() {
                    return Err(Rejected::FutureRevision);
                }
                self.compact(request.revision);
                Response::Compaction(CompactionResponse { header: header(self.revision()) })
            }
            Command::LeaseGrant(request) => {
                if self.leases.contains_key(&request.id) {
                    return Err(Rejected::LeaseExists);
                }
                let (id, ttl) = (request.id, request.ttl);
                let lease = Lease { ttl, remaining: 0, granted: Index(self.entries) };
                self.leases.insert(id, lease);
                let header = header(self.revision());
                Response::LeaseGrant(LeaseGrantResponse { header, id, ttl, error: String::new() })
            }
            Command::LeaseRevoke(request) => {
                if !self.leases.contains_key(&request.id) {
                    return Err(Rejected::LeaseNotFound);
                }
                self.revoke(request.id);
                Response::LeaseRevoke(LeaseRevokeResponse { header: header(self.revision()) })
            }
            Command::LeaseCheckpoints(request) => {
                for checkpoint in &request.checkpoints {
                    if self.has_lease_as_of(checkpoint.id, request.as_of)
                        && let Some(lease) = self.leases.get_mut(&checkpoint.id)
                    {
                        lease.remaining = checkpoint.remaining_ttl;
                    }
                }
                Response::LeaseCheckpoints
            }
            Command::LeaseExpiry(request) => {
                for &id in &request.leases {
                    if self.has_lease_as_of(id, request.as_of) {
                        self.revoke(id);
                    }
                }
                Response::LeaseExpiry
            }
            Command::Alarm(request) => {
                let place = (request.alarm, request.member_id);
                let one = vec![AlarmMember { member_id: request.member_id, alarm: request.alarm }];
                let alarms = match request.action {
                    0 => self.alarms(request.alarm()),
                    1 if (1..3).contains(&request.alarm) => {
                        self.alarms.insert(place);
                        one
                    }
                    2 if self.alarms.remove(&place) => one,
                    _ => Vec::new(),
                };
                Response::Alarm(AlarmResponse { header: header(self.revision()), alarms })
            }
            _ => unreachable!("the generator makes no members"),
        };
        self.take_over(work);
        Ok(response)
    }

    fn compact(&mut self, revision: i64) {
        self.compacted = revision;
        let mut newest: BTreeMap<Bytes, (i64, i64)> = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.main <= revision) {
            newest.insert(change.kv.key.clone(), (change.main, change.sub));
        }
        self.changes.retain(|change| {
            change.main > revision
                || (newest[&change.kv.key] == (change.main, change.sub)
                    && (!change.is_tombstone || change.main == revision))
        });
    }

    fn check_lease(&self, request: &PutRequest) -> Result<(), Rejected> {
        let is_there = request.lease == 0 || self.leases.contains_key(&request.lease);
        if is_there { Ok(()) } else { Err(Rejected::LeaseNotFound) }
    }

    fn check_previous(&self, request: &PutRequest) -> Result<(), Rejected> {
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && !self.newest().contains_key(&request.key) {
            return Err(Rejected::KeyNotFound);
        }
        Ok(())
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Rejected> {
        if request.revision > self.revision() {
            return Err(Rejected::FutureRevision);
        }
        if request.revision > 0 && request.revision < self.compacted {
            return Err(Rejected::Compacted);
        }
        let at = if request.revision > 0 { request.revision } else { self.revision() };
        Ok(range(&self.states[at as usize], request, self.revision()))
    }

    fn path(&self, request: &TxnRequest) -> Vec<bool> {
        let holds = request.compare.iter().all(|compare| holds(self.newest(), compare));
        let mut path = vec![holds];
        for op in if holds { &request.success } else { &request.failure } {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                path.extend(self.path(nested));
            }
        }
        path
    }

    fn check_txn<'a>(
        &self,
        request: &'a TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
        deleted: &mut Vec<&'a DeleteRangeRequest>,
    ) -> Result<(), Rejected> {
        for op in branch(request, path) {
            match &op.request {
                Some(Request::RequestRange(range)) => {
                    if range.revision > self.revision() {
                        return Err(Rejected::FutureRevision);
                    }
                    if range.revision != 0 && range.revision < self.compacted {
                        return Err(Rejected::Compacted);
                    }
                }
                Some(Request::RequestPut(put)) => {
                    self.check_previous(put)?;
                    let is_deleted = deleted
                        .iter()
                        .any(|delete| in_range(&put.key, &delete.key, &delete.range_end));
                    if (put.ignore_value || put.ignore_lease) && is_deleted {
                        return Err(Rejected::KeyNotFound);
                    }
                    self.check_lease(put)?;
                }
                Some(Request::RequestDeleteRange(delete)) => deleted.push(delete),
                Some(Request::RequestTxn(nested)) => self.check_txn(nested, path, deleted)?,
                None => {}
            }
        }
        Ok(())
    }

    fn txn(
        &self,
        work: &mut Work,
        request: &TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
    ) -> TxnResponse {
        let succeeded = path.as_slice()[0];
        let mut responses = Vec::new();
        for op in branch(request, path) {
            let response = match op.request.as_ref().expect("validated") {
                Request::RequestRange(request) => {
                    let own =
                        [work.revision(), 0].contains(&request.revision) || request.revision < 0;
                    let state =
                        if own { &work.state } else { &self.states[request.revision as usize] };
                    response_op::Response::ResponseRange(range(state, request, work.revision()))
                }
                Request::RequestPut(request) => {
                    response_op::Response::ResponsePut(work.put(request))
                }
                Request::RequestDeleteRange(request) => {
                    response_op::Response::ResponseDeleteRange(work.delete_range(request))
                }
                Request::RequestTxn(request) => {
                    response_op::Response::ResponseTxn(self.txn(work, request, path))
                }
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        TxnResponse { header: header(0), succeeded, responses }
    }

    /// As etcd computes it from its table, its set of kept revisions at hand.
    pub(super) fn hash_kv(&self, revision: i64) -> Result<HashKv, Rejected> {
        if revision > 0 && revision < self.compacted {
            return Err(Rejected::Compacted);
        }
        if revision > self.revision() {
            return Err(Rejected::FutureRevision);
        }
        let up_to = if revision == 0 { self.revision() } else { revision };
        let mut keep: BTreeSet<(Bytes, i64)> = BTreeSet::new();
        if let Some(state) = usize::try_from(up_to).ok().and_then(|at| self.states.get(at)) {
            keep = state.values().map(|kv| (kv.key.clone(), kv.mod_revision)).collect();
        }
        let mut hashed = b"key".to_vec();
        for change in self.changes.iter().filter(|change| change.main <= up_to) {
            let is_kept =
                !change.is_tombstone && keep.contains(&(change.kv.key.clone(), change.main));
            if change.main <= self.compacted && !keep.is_empty() && !is_kept {
                continue;
            }
            if change.main == self.compacted && change.is_tombstone {
                continue;
            }
            hashed.extend_from_slice(&change.main.to_be_bytes());
            hashed.push(b'_');
            hashed.extend_from_slice(&change.sub.to_be_bytes());
            if change.is_tombstone {
                hashed.push(b't');
            }
            change.kv.encode(&mut hashed).expect("a Vec grows");
        }
        let hash = crc32c::crc32c(&hashed);
        Ok(HashKv { hash, compact_revision: self.compacted, revision: up_to })
    }
}

/// Takes the next choice off the path.
fn branch<'a>(request: &'a TxnRequest, path: &mut std::slice::Iter<'_, bool>) -> &'a [RequestOp] {
    if *path.next().expect("one choice each") { &request.success } else { &request.failure }
}

fn range(state: &State, request: &RangeRequest, newest: i64) -> RangeResponse {
    let mut kvs: Vec<KeyValue> = select(state, &request.key, &request.range_end).cloned().collect();
    let count = kvs.len() as i64;
    if request.count_only {
        return RangeResponse { header: header(newest), kvs: Vec::new(), more: false, count };
    }
    let limit = request.limit.max(0) as usize;
    let filters = [
        request.max_mod_revision,
        request.min_mod_revision,
        request.max_create_revision,
        request.min_create_revision,
    ];
    if request.sort_order == 0 && filters == [0; 4] && limit > 0 {
        kvs.truncate(limit + 1);
    }
    let [max_mod, min_mod, max_create, min_create] = filters;
    kvs.retain(|kv| max_mod == 0 || kv.mod_revision <= max_mod);
    kvs.retain(|kv| min_mod == 0 || kv.mod_revision >= min_mod);
    kvs.retain(|kv| max_create == 0 || kv.create_revision <= max_create);
    kvs.retain(|kv| min_create == 0 || kv.create_revision >= min_create);
    if request.sort_order != 0 || request.sort_target != 0 {
        kvs.sort_by(|a, b| {
            let ascending = match request.sort_target {
                0 => a.key.cmp(&b.key),
                1 => a.version.cmp(&b.version),
                2 => a.create_revision.cmp(&b.create_revision),
                3 => a.mod_revision.cmp(&b.mod_revision),
                _ => a.value.cmp(&b.value),
            };
            if request.sort_order == 2 { ascending.reverse() } else { ascending }
        });
    }
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    RangeResponse { header: header(newest), kvs, more, count }
}

fn holds(state: &State, compare: &Compare) -> bool {
    let kvs: Vec<KeyValue> = select(state, &compare.key, &compare.range_end).cloned().collect();
    if kvs.is_empty() {
        return compare.target != 3 && kv_holds(&KeyValue::default(), compare);
    }
    kvs.iter().all(|kv| kv_holds(kv, compare))
}

fn kv_holds(kv: &KeyValue, compare: &Compare) -> bool {
    let order = match compare.target_union.as_ref().expect("generated") {
        TargetUnion::Version(version) => kv.version.cmp(version),
        TargetUnion::CreateRevision(revision) => kv.create_revision.cmp(revision),
        TargetUnion::ModRevision(revision) => kv.mod_revision.cmp(revision),
        TargetUnion::Value(value) => kv.value.cmp(value),
        TargetUnion::Lease(lease) => kv.lease.cmp(lease),
    };
    match compare.result {
        0 => order == Ordering::Equal,
        1 => order == Ordering::Greater,
        2 => order == Ordering::Less,
        _ => order != Ordering::Equal,
    }
}
