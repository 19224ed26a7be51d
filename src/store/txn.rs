//! Transactions: compare, then one of two lists of operations.
//!
//! The order of things is etcd's:
//! 1. *All* compares are evaluated, those of nested transactions in the chosen branches too, on
//!    the state before the transaction. What an operation writes changes no compare.
//! 2. All operations of the chosen branches are checked, in order, on that same state. The first
//!    fault rejects the whole transaction, so that nothing has to be undone.
//! 3. The operations run in order; each sees what those before it did.
//!
//! A compare over a range holds if it holds for every key in it. Where there is no key, values
//! compare false whatever the relation, and numbers compare as zero.
//!
//! The answer of a nested transaction has an empty header, all others have one with the revision.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use urd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::response_op::Response;
use urd_proto::etcdserverpb::{
    Compare, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};

use super::meta::Meta;
use super::mvcc::{Writer, check_lease, check_previous};
use super::range_scan::{collect, header};
use super::validate;
use super::view::View;
use super::walk::{Bounds, Direction, Live, Walk};
use crate::error::Rejected;
use crate::ids::Revision;
use crate::tree::Read;

/// Whether a transaction only holds ranges, in both branches. (A nested transaction is no range,
/// whatever it holds.)
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    operations(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a transaction only holds serializable ranges, so that any member may answer it from what
/// it has.
#[must_use]
pub fn is_serializable(request: &TxnRequest) -> bool {
    operations(request)
        .all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

fn operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// Carries out a transaction at the writer's revision.
pub(super) fn apply(
    writer: &mut Writer<'_>,
    meta: &Meta,
    request: &TxnRequest,
) -> Result<TxnResponse, Rejected> {
    let path = Path::choose(writer.tree(), meta.revision, request);
    Check::new(writer.tree(), meta).run(request, &mut path.iter())?;
    let mut response = execute(writer, request, &mut path.iter());
    response.header = header(writer.revision());
    Ok(response)
}

/// Carries out a transaction that only reads.
pub(super) fn read(view: &View, request: &TxnRequest) -> Result<TxnResponse, Rejected> {
    assert!(is_read_only(request), "invariant: a transaction that writes is proposed");
    let newest = view.revision();
    let path = Path::choose(view.snapshot(), newest, request);
    Check::new(view.snapshot(), view.meta()).run(request, &mut path.iter())?;
    let succeeded = path.iter().next().expect("invariant: one choice for each transaction");
    let answer = |op: &RequestOp| match &op.request {
        Some(Request::RequestRange(range)) => {
            let response = read_range(view.snapshot(), range, newest);
            ResponseOp { response: Some(Response::ResponseRange(response)) }
        }
        _ => ResponseOp { response: None },
    };
    let responses = chosen(request, succeeded).iter().map(answer).collect();
    Ok(TxnResponse { header: header(newest), succeeded, responses })
}

fn chosen(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// Which branch each transaction takes: the outer one, then those nested in its branch, in order,
/// each followed by its own.
#[derive(Debug, Default)]
struct Path(Vec<bool>);

impl Path {
    fn choose<R: Read>(reader: &R, newest: Revision, request: &TxnRequest) -> Self {
        let mut path = Self::default();
        path.push(reader, newest, request);
        path
    }

    fn push<R: Read>(&mut self, reader: &R, newest: Revision, request: &TxnRequest) {
        let succeeded = request.compare.iter().all(|compare| holds(reader, newest, compare));
        self.0.push(succeeded);
        for op in chosen(request, succeeded) {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                self.push(reader, newest, nested);
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = bool> {
        self.0.iter().copied()
    }
}

/// Step 2 of the file's head.
struct Check<'a, R> {
    reader: &'a R,
    meta: &'a Meta,
    /// Keys from here on are deleted by an operation before. Only such open deletions may meet a
    /// put in one transaction (`validate` says why), and a put that keeps the value needs one.
    deleted_from: Option<&'a [u8]>,
}

impl<'a, R: Read> Check<'a, R> {
    fn new(reader: &'a R, meta: &'a Meta) -> Self {
        Self { reader, meta, deleted_from: None }
    }

    fn run(
        &mut self,
        request: &'a TxnRequest,
        path: &mut impl Iterator<Item = bool>,
    ) -> Result<(), Rejected> {
        let succeeded = path.next().expect("invariant: one choice for each transaction");
        for op in chosen(request, succeeded) {
            match &op.request {
                Some(Request::RequestRange(range)) => self.check_range(range)?,
                Some(Request::RequestPut(put)) => {
                    check_previous(self.reader, put, self.meta.revision)?;
                    let is_deleted = self.deleted_from.is_some_and(|from| from <= &*put.key);
                    if is_deleted && (put.ignore_value || put.ignore_lease) {
                        return Err(Rejected::KeyNotFound);
                    }
                    // Unlike a put of its own, one in a transaction looks for its lease last.
                    check_lease(self.reader, put)?;
                }
                Some(Request::RequestDeleteRange(delete)) if *delete.range_end == [0] => {
                    let from = self.deleted_from.map_or(&*delete.key, |at| at.min(&delete.key));
                    self.deleted_from = Some(from);
                }
                Some(Request::RequestTxn(nested)) => self.run(nested, path)?,
                Some(Request::RequestDeleteRange(_)) | None => {}
            }
        }
        Ok(())
    }

    /// Unlike a range of its own, one in a transaction takes only 0 for the newest revision, and
    /// calls a negative one compacted once anything is.
    fn check_range(&self, request: &RangeRequest) -> Result<(), Rejected> {
        validate::range(request)?;
        match Revision(request.revision) {
            Revision(0) => Ok(()),
            asked if asked > self.meta.revision => Err(Rejected::FutureRevision),
            asked if asked < self.meta.compacted => Err(Rejected::Compacted),
            _ => Ok(()),
        }
    }
}

/// Step 3 of the file's head.
fn execute(
    writer: &mut Writer<'_>,
    request: &TxnRequest,
    path: &mut impl Iterator<Item = bool>,
) -> TxnResponse {
    let succeeded = path.next().expect("invariant: one choice for each transaction");
    let mut responses = Vec::with_capacity(chosen(request, succeeded).len());
    for op in chosen(request, succeeded) {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => {
                let response = read_range(writer.tree(), range, writer.revision());
                Some(Response::ResponseRange(response))
            }
            Some(Request::RequestPut(put)) => Some(Response::ResponsePut(writer.put(put))),
            Some(Request::RequestDeleteRange(delete)) => {
                Some(Response::ResponseDeleteRange(writer.delete_range(delete)))
            }
            Some(Request::RequestTxn(nested)) => {
                Some(Response::ResponseTxn(execute(writer, nested, path)))
            }
            None => None,
        };
        responses.push(ResponseOp { response });
    }
    TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses }
}

/// A range that [`Check::check_range`] let pass.
fn read_range<R: Read>(reader: &R, request: &RangeRequest, newest: Revision) -> RangeResponse {
    let revision = if request.revision > 0 { Revision(request.revision) } else { newest };
    let response = collect(reader, request, revision, newest);
    response.expect("invariant: all operations were checked before the first one ran")
}

/// Whether a compare holds, for all keys in its range.
fn holds<R: Read>(reader: &R, newest: Revision, compare: &Compare) -> bool {
    let bounds = Bounds::new(&compare.key, &compare.range_end);
    let mut walk = Walk::new(bounds, newest, Direction::Ascending);
    let mut found = false;
    let mut all = true;
    walk.run_to_end(reader, |live| {
        found = true;
        all = relation_holds(compare, order(compare, Some(&live)));
        if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if found {
        return all;
    }
    compare.target != CompareTarget::Value as i32 && relation_holds(compare, order(compare, None))
}

/// How a key's field stands to the one that the compare names. One of another type, or none at all,
/// counts as zero or empty; a target outside the enumeration is equal to anything.
fn order(compare: &Compare, live: Option<&Live<'_>>) -> Ordering {
    let record = live.map(|live| live.record);
    let given = &compare.target_union;
    let (actual, given) = match CompareTarget::try_from(compare.target) {
        Err(_) => return Ordering::Equal,
        Ok(CompareTarget::Value) => {
            let given = match given {
                Some(TargetUnion::Value(value)) => &value[..],
                _ => &[],
            };
            return record.map_or(&[][..], |record| record.value).cmp(given);
        }
        Ok(CompareTarget::Version) => (
            record.map_or(0, |record| record.version),
            number(given, |given| match given {
                TargetUnion::Version(version) => Some(*version),
                _ => None,
            }),
        ),
        Ok(CompareTarget::Create) => (
            record.map_or(0, |record| record.create_revision.0),
            number(given, |given| match given {
                TargetUnion::CreateRevision(revision) => Some(*revision),
                _ => None,
            }),
        ),
        Ok(CompareTarget::Mod) => (
            live.map_or(0, |live| live.mod_revision().0),
            number(given, |given| match given {
                TargetUnion::ModRevision(revision) => Some(*revision),
                _ => None,
            }),
        ),
        Ok(CompareTarget::Lease) => (
            record.map_or(0, |record| record.lease),
            number(given, |given| match given {
                TargetUnion::Lease(lease) => Some(*lease),
                _ => None,
            }),
        ),
    };
    actual.cmp(&given)
}

fn number(given: &Option<TargetUnion>, of: impl FnOnce(&TargetUnion) -> Option<i64>) -> i64 {
    given.as_ref().and_then(of).unwrap_or(0)
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
