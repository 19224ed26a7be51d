//! What is wrong with a request by itself, whatever the store holds: checked before a request is
//! proposed or a range is read, in etcd's order of precedence, so that a client hears the error it
//! would hear from etcd.
//!
//! An applied request is not checked again: the limit on operations is each member's own flag,
//! and members that disagreed about it must not apply the same entry differently. A compaction has
//! nothing to check here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use urd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::scan::{has_revision_filter, is_default_order};
use crate::error::Rejected;
use crate::limits;

/// Checks a range.
pub fn range(request: &RangeRequest) -> Result<(), Rejected> {
    if request.key.is_empty() {
        return Err(Rejected::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Rejected::InvalidSortOption);
    }
    Ok(())
}

/// Checks a range whose answer is to be streamed.
pub fn range_stream(request: &RangeRequest) -> Result<(), Rejected> {
    range(request)?;
    if !is_default_order(request) {
        return Err(Rejected::StreamSortOrder);
    }
    if has_revision_filter(request) {
        return Err(Rejected::StreamRevisionFilter);
    }
    Ok(())
}

/// Checks a put.
pub fn put(request: &PutRequest) -> Result<(), Rejected> {
    if request.key.is_empty() {
        return Err(Rejected::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Rejected::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Rejected::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Rejected> {
    if request.key.is_empty() { Err(Rejected::EmptyKey) } else { Ok(()) }
}

/// Checks a grant. A TTL that is too short, or negative, is no fault: the shortest is granted then.
pub fn lease_grant(request: &LeaseGrantRequest) -> Result<(), Rejected> {
    if request.ttl > limits::LEASE_TTL_MAX { Err(Rejected::LeaseTtlTooLarge) } else { Ok(()) }
}

/// Checks a transaction with all it holds. `ops_max` bounds its longest list; a nested one may use
/// what its parent's longest list left.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Rejected> {
    txn_ops(request, ops_max)?;
    Changes::of(&request.success)?;
    Changes::of(&request.failure)?;
    Ok(())
}

fn txn_ops(request: &TxnRequest, ops_max: usize) -> Result<(), Rejected> {
    let TxnRequest { compare, success, failure } = request;
    let ops = compare.len().max(success.len()).max(failure.len());
    let ops_left = ops_max.checked_sub(ops).ok_or(Rejected::TooManyOps)?;
    if compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Rejected::EmptyKey);
    }
    success.iter().chain(failure).try_for_each(|op| txn_op(op, ops_left))
}

fn txn_op(op: &RequestOp, ops_max: usize) -> Result<(), Rejected> {
    match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => txn_ops(request, ops_max),
        // An operation that is none: etcd's answer, odd as it reads.
        None => Err(Rejected::KeyNotFound),
    }
}

/// The keys that a list of operations may put and the ranges that it may delete.
///
/// One transaction makes one revision, so a key may change in it once. What etcd refuses, and so do
/// we: a key put twice; a key put and deleted in one list; a put in a nested transaction with a
/// deletion around it or in an *earlier* sibling. What it lets pass: the same put in both branches
/// of a transaction, since only one of them runs; a put in an earlier sibling than the deletion;
/// and any put beside a deletion "from this key on", whose end `\0` it takes for the key `\0`, so
/// that the range is empty. Such a transaction changes a key twice within one revision. The store
/// handles that: its keys hold the sub-revision.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletions: Intervals<'a>,
}

impl<'a> Changes<'a> {
    fn of(ops: &'a [RequestOp]) -> Result<Self, Rejected> {
        let mut changes = Self::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(request)) = &op.request {
                changes.deletions.insert(request);
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(request)) = &op.request {
                changes.add_nested(request)?;
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(request)) = &op.request {
                changes.add_put(&request.key)?;
            }
        }
        Ok(changes)
    }

    fn add_nested(&mut self, request: &'a TxnRequest) -> Result<(), Rejected> {
        let success = Self::of(&request.success)?;
        let failure = Self::of(&request.failure)?;
        let only_failure = failure.puts.difference(&success.puts);
        for key in success.puts.iter().chain(only_failure) {
            self.add_put(key)?;
        }
        self.deletions.extend(success.deletions);
        self.deletions.extend(failure.deletions);
        Ok(())
    }

    fn add_put(&mut self, key: &'a [u8]) -> Result<(), Rejected> {
        if self.deletions.contains(key) || !self.puts.insert(key) {
            return Err(Rejected::DuplicateKey);
        }
        Ok(())
    }
}

/// A set of keys given by points and ranges. Ranges that touch are kept as one, so that a lookup
/// has one candidate: a transaction may hold many of both.
#[derive(Default)]
struct Intervals<'a> {
    points: BTreeSet<&'a [u8]>,
    /// First key to end. Invariant: no two overlap, none is empty.
    ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Intervals<'a> {
    fn insert(&mut self, request: &'a DeleteRangeRequest) {
        if request.range_end.is_empty() {
            self.points.insert(&request.key);
        } else {
            self.insert_range(&request.key, &request.range_end);
        }
    }

    fn insert_range(&mut self, mut from: &'a [u8], mut to: &'a [u8]) {
        if from >= to {
            return;
        }
        // The ranges that overlap or touch [from, to) stand in a row that ends at `to`.
        while let Some((&first, &end)) = self.ranges.range(..=to).next_back()
            && end >= from
        {
            self.ranges.remove(first);
            from = from.min(first);
            to = to.max(end);
        }
        self.ranges.insert(from, to);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let range = (Bound::Unbounded, Bound::Included(key));
        let nearest = self.ranges.range::<[u8], _>(range).next_back();
        self.points.contains(key) || nearest.is_some_and(|(_, &end)| key < end)
    }

    fn extend(&mut self, other: Self) {
        self.points.extend(other.points);
        for (from, to) in other.ranges {
            self.insert_range(from, to);
        }
    }
}
