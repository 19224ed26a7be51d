//! Brings answers to a form in which equal behaviour is equal bytes.
//!
//! Headers lose the ids and the term of the run. Among pairs that a sort target does not tell apart any order passes:
//! etcd's is that of Go's unstable sort, which is nobody's promise. Such runs of equals are put in key order, and where
//! a limit cuts through one, which of them were returned is left open; how many is not.

use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::response_op::Response;
use urd_proto::mvccpb::KeyValue;

use super::generator::Operation;
use super::{Answer, Message};

/// What etcd finds wrong with a transaction's operations when it looks at the store. 3.4 looks at all puts before all
/// ranges, 3.7 at one operation after the other: with more than one fault they name different ones.
const FAULTS: &[&str] = &[
    "etcdserver: key not found",
    "etcdserver: requested lease not found",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
];

pub(crate) fn answer(operation: &Operation, answer: Answer) -> Answer {
    let mut message = answer.map_err(|(code, text)| match operation {
        Operation::Txn(request) if FAULTS.contains(&&text[..]) && faults_possible(request) > 1 => {
            (tonic::Code::Unknown, "one of the transaction's several faults".to_owned())
        }
        _ => (code, text),
    })?;
    match (&mut message, operation) {
        (Message::Range(response), Operation::Range(request)) => range(request, response),
        (Message::Txn(response), Operation::Txn(request)) => txn(request, response),
        (Message::Put(response), _) => header(&mut response.header),
        (Message::DeleteRange(response), _) => header(&mut response.header),
        (Message::Compact(response), _) => header(&mut response.header),
        (Message::HashKv(response), _) => {
            header(&mut response.header);
            response.hash_revision = 0;
        }
        (Message::LeaseGrant(response), _) => header(&mut response.header),
        (Message::LeaseRevoke(response), _) => header(&mut response.header),
        (Message::LeaseTimeToLive(response), _) => {
            header(&mut response.header);
            response.keys.sort();
            // A second may pass between the two servers' answers; a kill gives etcd's leases all their time again.
            response.ttl = response.ttl.min(0);
        }
        (Message::LeaseLeases(response), _) => {
            header(&mut response.header);
            response.leases.sort_by_key(|lease| lease.id);
        }
        (Message::LeaseKeepAlive(response), _) => header(&mut response.header),
        (message, operation) => {
            unreachable!("{message:?} cannot answer {operation:?}: the client fixes the type")
        }
    }
    Ok(message)
}

fn header(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
}

fn txn(request: &pb::TxnRequest, response: &mut pb::TxnResponse) {
    header(&mut response.header);
    let requests = if response.succeeded { &request.success } else { &request.failure };
    for (request, response) in requests.iter().zip(&mut response.responses) {
        match (&request.request, &mut response.response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(response))) => {
                range(request, response)
            }
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(response))) => {
                txn(request, response)
            }
            (_, Some(Response::ResponsePut(response))) => header(&mut response.header),
            (_, Some(Response::ResponseDeleteRange(response))) => header(&mut response.header),
            // A wrong kind of answer stays as it is, and the comparison shows it.
            _ => {}
        }
    }
}

/// In how many places the store may find fault, in both branches and below.
fn faults_possible(request: &pb::TxnRequest) -> usize {
    let of = |operation: &pb::RequestOp| match &operation.request {
        Some(Request::RequestPut(put)) => {
            usize::from(put.lease != 0) + usize::from(put.ignore_value || put.ignore_lease)
        }
        Some(Request::RequestRange(range)) => usize::from(range.revision != 0),
        Some(Request::RequestTxn(inner)) => faults_possible(inner),
        Some(Request::RequestDeleteRange(_)) | None => 0,
    };
    request.success.iter().chain(&request.failure).map(of).sum()
}

fn range(request: &pb::RangeRequest, response: &mut pb::RangeResponse) {
    header(&mut response.header);
    let Ok(target) = SortTarget::try_from(request.sort_target) else { return };
    if target == SortTarget::Key {
        return;
    }
    // Sorted by a value that is not shown: nothing tells the runs apart, so all pairs are one run.
    let hidden = target == SortTarget::Value && request.keys_only;
    let equal = |a: &KeyValue, b: &KeyValue| {
        hidden
            || match target {
                SortTarget::Key => a.key == b.key,
                SortTarget::Version => a.version == b.version,
                SortTarget::Create => a.create_revision == b.create_revision,
                SortTarget::Mod => a.mod_revision == b.mod_revision,
                SortTarget::Value => a.value == b.value,
            }
    };
    let mut rest = &mut response.kvs[..];
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|pair| equal(first, pair)).count();
        let (run, after) = rest.split_at_mut(length);
        run.sort_by(|a, b| a.key.cmp(&b.key));
        if after.is_empty() && response.more {
            run.iter_mut().for_each(|pair| forget(pair, target));
        }
        rest = after;
    }
    debug_assert!(SortOrder::try_from(request.sort_order).is_ok());
}

/// Leaves of a pair what all of its run share.
fn forget(pair: &mut KeyValue, target: SortTarget) {
    let kept = std::mem::take(pair);
    match target {
        SortTarget::Key => pair.key = kept.key,
        SortTarget::Version => pair.version = kept.version,
        SortTarget::Create => pair.create_revision = kept.create_revision,
        SortTarget::Mod => pair.mod_revision = kept.mod_revision,
        SortTarget::Value => pair.value = kept.value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(pairs: &[(&'static str, i64)], more: bool) -> pb::RangeResponse {
        let kvs = pairs.iter().map(|&(key, version)| KeyValue {
            key: key.into(),
            version,
            ..Default::default()
        });
        pb::RangeResponse { kvs: kvs.collect(), more, ..Default::default() }
    }

    fn canonical(mut response: pb::RangeResponse) -> pb::RangeResponse {
        let request =
            pb::RangeRequest { sort_target: SortTarget::Version.into(), ..Default::default() };
        range(&request, &mut response);
        response
    }

    #[test]
    fn equals_may_stand_in_any_order_and_others_may_not() {
        let a = response(&[("a", 1), ("b", 2), ("c", 2)], false);
        let b = response(&[("a", 1), ("c", 2), ("b", 2)], false);
        let c = response(&[("b", 2), ("c", 2), ("a", 1)], false);
        assert_eq!(canonical(a.clone()), canonical(b));
        assert_ne!(canonical(a), canonical(c));
    }

    #[test]
    fn a_limit_may_cut_a_run_anywhere() {
        let a = response(&[("a", 1), ("b", 2)], true);
        let b = response(&[("a", 1), ("c", 2)], true);
        let c = response(&[("a", 1), ("c", 2), ("d", 2)], true);
        assert_eq!(canonical(a.clone()), canonical(b));
        assert_ne!(canonical(a), canonical(c));
    }
}
