//! Requests that are wrong in themselves. The scripts have most; here are those with numbers.

use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::{LeaseGrantRequest, RangeRequest, RequestOp, TxnRequest};

use super::{bytes, delete, op, put, range, txn_of};
use crate::error::Rejected;
use crate::store::validate;

fn puts(keys: std::ops::Range<usize>) -> Vec<RequestOp> {
    keys.map(|key| op(Request::RequestPut(put(&key.to_string(), "")))).collect()
}

#[test]
fn the_longest_list_is_limited() {
    let txn = |success, failure| TxnRequest {
        compare: Vec::new(),
        success: puts(0..success),
        failure: puts(0..failure),
    };
    assert_eq!(validate::txn(&txn(128, 128), 128), Ok(()));
    assert_eq!(validate::txn(&txn(129, 0), 128), Err(Rejected::TooManyOps));
    assert_eq!(validate::txn(&txn(0, 129), 128), Err(Rejected::TooManyOps));
    let compares = vec![Default::default(); 129];
    let txn = TxnRequest { compare: compares, ..TxnRequest::default() };
    // Before their keys are looked at.
    assert_eq!(validate::txn(&txn, 128), Err(Rejected::TooManyOps));
}

/// A nested transaction may use what the lists around it left.
#[test]
fn nested_lists_share_the_limit() {
    let nested = |outer: usize, inner: usize| {
        let mut txn = TxnRequest { success: puts(0..outer - 1), ..TxnRequest::default() };
        let inner = TxnRequest { success: puts(1000..1000 + inner), ..TxnRequest::default() };
        txn.success.push(op(Request::RequestTxn(inner)));
        txn
    };
    assert_eq!(validate::txn(&nested(28, 100), 128), Ok(()));
    assert_eq!(validate::txn(&nested(29, 100), 128), Err(Rejected::TooManyOps));
    assert_eq!(validate::txn(&nested(1, 127), 128), Ok(()));
}

#[test]
fn an_operation_that_is_none_is_refused() {
    let txn = TxnRequest { success: vec![RequestOp::default()], ..TxnRequest::default() };
    assert_eq!(validate::txn(&txn, 128), Err(Rejected::KeyNotFound));
}

#[test]
fn a_streamed_range_is_in_natural_order_and_whole() {
    assert_eq!(validate::range_stream(&range("a", "")), Ok(()));
    let sorted = RangeRequest { sort_order: 2, ..range("a", "") };
    assert_eq!(validate::range_stream(&sorted), Err(Rejected::StreamSortOrder));
    let natural = RangeRequest { sort_order: 1, ..range("a", "") };
    assert_eq!(validate::range_stream(&natural), Ok(()));
    let filtered = RangeRequest { min_create_revision: 1, ..range("a", "") };
    assert_eq!(validate::range_stream(&filtered), Err(Rejected::StreamRevisionFilter));
    assert_eq!(validate::range_stream(&range("", "")), Err(Rejected::EmptyKey));
}

/// Only what is too long is a fault.
#[test]
fn a_lease_has_a_longest_ttl() {
    let grant = |ttl| validate::lease_grant(&LeaseGrantRequest { id: 0, ttl });
    for ttl in [i64::MIN, 0, 1, 9_000_000_000] {
        assert_eq!(grant(ttl), Ok(()));
    }
    for ttl in [9_000_000_001, i64::MAX] {
        assert_eq!(grant(ttl), Err(Rejected::LeaseTtlTooLarge));
    }
}

/// Ranges to delete are kept merged; compared with looking at each of them.
#[test]
fn overlaps_are_found_among_many_ranges() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut key = || char::from(rng.u8(b'a'..=b'z')).to_string();
        let mut deletions: Vec<_> = (0..6).map(|_| delete(&key(), &key())).collect();
        deletions.push(delete(&key(), ""));
        let probe = key();
        let mut ops: Vec<_> = deletions.iter().cloned().map(Request::RequestDeleteRange).collect();
        ops.push(Request::RequestPut(put(&probe, "")));
        let overlaps = deletions.iter().any(|deletion| match &deletion.range_end[..] {
            [] => deletion.key == bytes(&probe),
            end => *deletion.key <= *probe.as_bytes() && *probe.as_bytes() < *end,
        });
        let expected = if overlaps { Err(Rejected::DuplicateKey) } else { Ok(()) };
        assert_eq!(validate::txn(&txn_of(ops), 128), expected, "seed {seed}");
    }
}
