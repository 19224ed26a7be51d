//! The search for an order, of small histories: Wing and Gong's, with the states seen kept in mind (Lowe), each group of
//! keys by itself (Horn and Kroening), as Porcupine does it.
//!
//! It does not take the order from revisions: it tries orders. A revision counts only as the name that a write got: a
//! key's `mod_revision` names the write that made it. Writes without an answer have no name, and stand for any.
//!
//! Passed over: leases' grants and ends, compactions, serializable reads, and reads at a given revision. A
//! compare or filter by revision, in a history with writes that were not answered, may be judged wrongly: nobody knows the
//! revision that it should see.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use prost::Message;
use urd_proto::etcdserverpb::request_op::Request as Op;
use urd_proto::etcdserverpb::{ResponseHeader, TxnRequest};
use urd_proto::mvccpb::event::EventType;
use urd_proto::mvccpb::{Event, KeyValue};

use super::accuse;
use crate::checkers::Violation;
use crate::checkers::execute::{Point, State, execute};
use crate::checkers::history::{Answer, FIRST_REVISION, Operation, Request, Response, in_range};

/// The end of a range of one key.
static NO_END: Bytes = Bytes::new();

/// Looks for an order in which the operations could have been carried out.
pub fn search(operations: &[Operation]) -> Result<(), Violation> {
    for group in groups(operations) {
        let mut order = Order { operations, group: &group, seen: HashSet::new(), furthest: 0 };
        if !order.find(&mut vec![false; group.len()], 0, &Keys::default()) {
            let what = format!(
                "no order of these {} operations is possible, no more than {} of them fit one",
                group.len(),
                order.furthest
            );
            return Err(accuse(operations, &group, &what));
        }
    }
    Ok(())
}

/// The ranges of keys that a request reads or writes.
fn footprint(request: &Request) -> Vec<(&Bytes, &Bytes)> {
    match request {
        Request::Range(range) => vec![(&range.key, &range.range_end)],
        Request::Put(put) => vec![(&put.key, &NO_END)],
        Request::DeleteRange(delete) => vec![(&delete.key, &delete.range_end)],
        Request::Txn(txn) => txn_footprint(txn),
        Request::Compaction(_) | Request::LeaseGrant(_) | Request::LeaseRevoke(_) => Vec::new(),
    }
}

fn txn_footprint(txn: &TxnRequest) -> Vec<(&Bytes, &Bytes)> {
    let compares = txn.compare.iter().map(|compare| (&compare.key, &compare.range_end));
    let mut ranges: Vec<(&Bytes, &Bytes)> = compares.collect();
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Op::RequestRange(range)) => ranges.push((&range.key, &range.range_end)),
            Some(Op::RequestPut(put)) => ranges.push((&put.key, &NO_END)),
            Some(Op::RequestDeleteRange(delete)) => ranges.push((&delete.key, &delete.range_end)),
            Some(Op::RequestTxn(nested)) => ranges.extend(txn_footprint(nested)),
            None => {}
        }
    }
    ranges
}

/// Parts the operations so that those of two groups have no key in common. Of each group they are in the order of begin.
fn groups(operations: &[Operation]) -> Vec<Vec<usize>> {
    let judged = |operation: &Operation| {
        let of_the_past = matches!(&operation.request, Request::Range(range) if range.revision > 0);
        let refused = matches!(operation.answer, Answer::Refused(_));
        let idle = operation.answer == Answer::Unknown && !operation.request.may_write();
        !refused && !idle && !of_the_past && !operation.request.is_serializable()
    };
    let judged = (0..operations.len()).filter(|nth| judged(&operations[*nth]));
    let mut judged: Vec<usize> = judged.collect();
    judged.sort_by_key(|nth| operations[*nth].begun);
    let named = judged.iter().flat_map(|nth| footprint(&operations[*nth].request));
    let names: BTreeSet<&Bytes> = named.map(|(key, _)| key).collect();
    // Groups found so far, with their keys.
    let mut groups: Vec<(BTreeSet<&Bytes>, Vec<usize>)> = Vec::new();
    for nth in judged {
        let ranges = footprint(&operations[nth].request);
        let touched = |key: &Bytes| ranges.iter().any(|(from, end)| in_range(key, from, end));
        let mut keys: BTreeSet<&Bytes> = names.iter().copied().filter(|key| touched(key)).collect();
        keys.extend(ranges.iter().map(|(from, _)| *from));
        if keys.is_empty() {
            continue;
        }
        let mut members = vec![nth];
        let (joined, apart): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|(theirs, _)| !theirs.is_disjoint(&keys));
        for (theirs, others) in joined {
            keys.extend(theirs);
            members.extend(others);
        }
        groups = apart;
        groups.push((keys, members));
    }
    let mut groups: Vec<Vec<usize>> = groups.into_iter().map(|(_, members)| members).collect();
    for group in &mut groups {
        group.sort_by_key(|nth| operations[*nth].begun);
    }
    groups
}

/// What the keys of one group hold.
#[derive(Clone, Debug)]
struct Keys {
    /// The highest revision that a write here was answered with.
    newest: i64,
    keys: BTreeMap<Bytes, KeyValue>,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys { newest: FIRST_REVISION, keys: BTreeMap::new() }
    }
}

impl Keys {
    fn apply(&mut self, events: &[Event]) {
        for event in events {
            let Some(kv) = &event.kv else { continue };
            if event.r#type() == EventType::Put {
                self.keys.insert(kv.key.clone(), kv.clone());
            } else {
                self.keys.remove(&kv.key);
            }
        }
    }

    fn fingerprint(&self) -> Vec<u8> {
        let mut bytes = self.newest.to_be_bytes().to_vec();
        for kv in self.keys.values() {
            kv.encode_length_delimited(&mut bytes).expect("invariant: a vector grows as needed");
        }
        bytes
    }
}

impl State for Keys {
    fn find(&self, key: &[u8], _: i64) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    fn select(&self, key: &[u8], end: &[u8], _: i64) -> Vec<&KeyValue> {
        self.keys.values().filter(|kv| in_range(&kv.key, key, end)).collect()
    }

    fn has_lease(&self, _: i64) -> Option<bool> {
        None
    }
}

/// The search of one group.
struct Order<'a> {
    operations: &'a [Operation],
    group: &'a [usize],
    /// What was carried out, and the state then, where no way led on.
    seen: HashSet<(Vec<bool>, Vec<u8>)>,
    furthest: usize,
}

impl Order<'_> {
    fn find(&mut self, carried_out: &mut Vec<bool>, count: usize, keys: &Keys) -> bool {
        self.furthest = self.furthest.max(count);
        let pending = |at: &usize| !carried_out[*at];
        let pending: Vec<usize> = (0..self.group.len()).filter(pending).collect();
        let operation = |at: usize| &self.operations[self.group[at]];
        let answered = pending.iter().filter(|at| operation(**at).answer != Answer::Unknown);
        // What begins after another's end cannot go before it.
        let Some(first_end) = answered.filter_map(|at| operation(*at).ended).min() else {
            return true;
        };
        if !self.seen.insert((carried_out.clone(), keys.fingerprint())) {
            return false;
        }
        for at in pending {
            if self.operations[self.group[at]].begun > first_end {
                break;
            }
            let Some(next) = self.carry_out(self.group[at], keys) else { continue };
            carried_out[at] = true;
            if self.find(carried_out, count + 1, &next) {
                return true;
            }
            carried_out[at] = false;
        }
        false
    }

    /// The state after one more operation, if it gives its answer.
    fn carry_out(&self, nth: usize, keys: &Keys) -> Option<Keys> {
        let operation = &self.operations[nth];
        let nameless = -1 - i64::try_from(nth).ok()?;
        let next = operation.revision().unwrap_or(nameless);
        let point = Point { newest: keys.newest, next, compacted: -1 };
        let executed = execute(keys, point, &operation.request).ok()?;
        let mut after = keys.clone();
        after.apply(&executed.events);
        if let Some(response) = operation.response() {
            let revision = response.revision();
            let wrote = !executed.events.is_empty();
            if revision < keys.newest || (wrote && revision == keys.newest) {
                return None;
            }
            if wrote {
                after.newest = revision;
            }
            same_but_for_names(executed.response, response.clone()).then_some(())?;
        }
        Some(after)
    }
}

/// Whether a response is the expected one, where revisions without a name stand for any.
fn same_but_for_names(mut expected: Response, mut given: Response) -> bool {
    for response in [&mut expected, &mut given] {
        response.for_each_header(&mut |header| *header = ResponseHeader::default());
    }
    let mut nameless = Vec::new();
    expected.for_each_key_value(&mut |kv| {
        nameless.push((kv.create_revision < 0, kv.mod_revision < 0));
        blur(kv, nameless.last().copied());
    });
    let mut nameless = nameless.into_iter();
    given.for_each_key_value(&mut |kv| blur(kv, nameless.next()));
    expected == given
}

fn blur(kv: &mut KeyValue, nameless: Option<(bool, bool)>) {
    let (create, modified) = nameless.unwrap_or_default();
    if create {
        kv.create_revision = 0;
    }
    if modified {
        kv.mod_revision = 0;
    }
}
