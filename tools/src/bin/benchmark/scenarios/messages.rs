//! Requests put together.

use bytes::Bytes;
use urd_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, compare,
    request_op, response_op,
};
use urd_proto::mvccpb::KeyValue;

pub(super) fn put(key: Bytes, value: Bytes) -> PutRequest {
    PutRequest { key, value, ..PutRequest::default() }
}

/// One key.
pub(super) fn get(key: Bytes) -> RangeRequest {
    RangeRequest { key, ..RangeRequest::default() }
}

pub(super) fn put_op(request: PutRequest) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestPut(request)) }
}

pub(super) fn range_op(request: RangeRequest) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestRange(request)) }
}

pub(super) fn delete_op(key: Bytes) -> RequestOp {
    let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
    RequestOp { request: Some(request_op::Request::RequestDeleteRange(request)) }
}

/// The key was last changed at `revision`, or (0) does not exist.
pub(super) fn unchanged_since(key: Bytes, revision: i64) -> Compare {
    compare_mod_revision(key, compare::CompareResult::Equal, revision)
}

/// The key was last changed before `revision`, or does not exist.
pub(super) fn changed_before(key: Bytes, revision: i64) -> Compare {
    compare_mod_revision(key, compare::CompareResult::Less, revision)
}

fn compare_mod_revision(key: Bytes, result: compare::CompareResult, revision: i64) -> Compare {
    Compare {
        key,
        result: result.into(),
        target: compare::CompareTarget::Mod.into(),
        target_union: Some(compare::TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

/// What a transaction's read of one key found.
pub(super) fn pair_read(response: &ResponseOp) -> Result<Option<&KeyValue>, String> {
    match &response.response {
        Some(response_op::Response::ResponseRange(range)) => Ok(range.kvs.first()),
        _ => Err("a transaction answered a range with something else".into()),
    }
}

/// The end of the range of all keys that begin with `prefix`.
pub(super) fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    // Nothing is greater than the prefix: all keys from it on.
    Bytes::from_static(&[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_before_the_next_key_without_them() {
        assert_eq!(prefix_end(b"/a/"), &b"/a0"[..]);
        assert_eq!(prefix_end(b"a\xff\xff"), &b"b"[..]);
        assert_eq!(prefix_end(b"\xff"), &b"\0"[..]);
        assert_eq!(prefix_end(b""), &b"\0"[..]);
    }
}
