//! Requests as a line for people. A new kind of request gets its arm in [`command`].

use urd::store::command::Command;
use urd::store::v2;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// A key, quoted, with what is not printable escaped.
pub(crate) fn key(key: &[u8]) -> String {
    format!("\"{}\"", key.escape_ascii())
}

/// What a request of an entry does.
pub(crate) fn command(command: &Command) -> String {
    match command {
        Command::Put(request) => put(request),
        Command::DeleteRange(request) => delete_range(request),
        Command::Txn(request) => txn(request),
        Command::Compaction(request) => {
            let physical = if request.physical { " physical" } else { "" };
            format!("compaction revision={}{physical}", request.revision)
        }
        Command::LeaseGrant(request) => {
            format!("lease grant id={:x} ttl={}", request.id, request.ttl)
        }
        Command::LeaseRevoke(request) => format!("lease revoke id={:x}", request.id),
        Command::LeaseCheckpoints(request) => {
            let left =
                request.checkpoints.iter().map(|it| format!("{:x}:{}", it.id, it.remaining_ttl));
            let left = left.collect::<Vec<_>>().join(" ");
            format!("lease checkpoints as_of={} remaining=[{left}]", request.as_of)
        }
        Command::LeaseExpiry(request) => {
            let ids = request.leases.iter().map(|id| format!("{id:x}")).collect::<Vec<_>>();
            format!("lease expiry as_of={} ids=[{}]", request.as_of, ids.join(" "))
        }
        Command::Alarm(request) => {
            let (action, alarm) = (request.action().as_str_name(), request.alarm().as_str_name());
            format!("alarm {} {alarm} member={:x}", action.to_lowercase(), request.member_id)
        }
        Command::MemberAdd(request) => {
            let learner = if request.is_learner { " learner" } else { "" };
            format!("member add id={:x} peers={:?}{learner}", request.id, request.peer_urls)
        }
        Command::MemberRemove(request) => format!("member remove id={:x}", request.id),
        Command::MemberPromote(request) => format!("member promote id={:x}", request.id),
        Command::MemberUpdate(request) => {
            format!("member update id={:x} peers={:?}", request.id, request.peer_ur_ls)
        }
        Command::MemberPublish(told) => {
            let (id, name, clients) = (told.id, &told.name, &told.client_ur_ls);
            format!("member publish id={id:x} name={name:?} clients={clients:?}")
        }
        Command::V2(request) => v2(request),
        Command::V2Expiry(request) => {
            format!("v2 expiry cutoff={} nodes_max={}", request.cutoff, request.nodes_max)
        }
    }
}

fn v2(request: &v2::Request) -> String {
    let mut line = format!("v2 {:?} path={:?}", request.action(), request.path);
    if request.may_grow() && !request.dir {
        line += &format!(" value={} bytes", request.value.len());
    }
    for (is_set, word) in
        [(request.dir, "dir"), (request.recursive, "recursive"), (request.refresh, "refresh")]
    {
        if is_set {
            line += &format!(" {word}");
        }
    }
    if !request.prev_value.is_empty() {
        line += &format!(" prev_value={} bytes", request.prev_value.len());
    }
    if request.prev_index != 0 {
        line += &format!(" prev_index={}", request.prev_index);
    }
    if let Some(expiration) = request.expiration {
        line += &format!(" expiration={expiration}");
    }
    line
}

fn put(request: &PutRequest) -> String {
    let mut line = format!("put key={}", key(&request.key));
    if request.ignore_value {
        line += " ignore_value";
    } else {
        line += &format!(" value={} bytes", request.value.len());
    }
    if request.ignore_lease {
        line += " ignore_lease";
    } else if request.lease != 0 {
        line += &format!(" lease={:x}", request.lease);
    }
    line
}

fn delete_range(request: &DeleteRangeRequest) -> String {
    format!("delete range {}", bounds(&request.key, &request.range_end))
}

fn range(request: &RangeRequest) -> String {
    format!("range {}", bounds(&request.key, &request.range_end))
}

fn bounds(first: &[u8], end: &[u8]) -> String {
    let end = if end.is_empty() { String::new() } else { format!(" end={}", key(end)) };
    format!("key={}{end}", key(first))
}

/// The shape: how many comparisons, and what is done if they hold and if not.
fn txn(request: &TxnRequest) -> String {
    let (compares, success) = (request.compare.len(), operations(&request.success));
    format!("txn compares={compares} then=[{success}] else=[{}]", operations(&request.failure))
}

fn operations(operations: &[RequestOp]) -> String {
    let shown = operations.iter().map(|operation| match &operation.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => txn(request),
        None => "nothing".to_owned(),
    });
    shown.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use urd::store::command::{LeaseCheckpoints, LeaseExpiry};
    use urd_proto::etcdserverpb::{
        CompactionRequest, Compare, LeaseCheckpoint, LeaseGrantRequest, LeaseRevokeRequest,
    };

    fn put_request() -> PutRequest {
        let (key, value) = (Bytes::from_static(b"a\0\""), Bytes::from_static(b"12345"));
        PutRequest { key, value, lease: 255, ..PutRequest::default() }
    }

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    #[test]
    fn requests_are_one_line() {
        let put = command(&Command::Put(put_request()));
        assert_eq!(put, r#"put key="a\x00\"" value=5 bytes lease=ff"#);
        let ignoring = PutRequest { ignore_value: true, ignore_lease: true, ..put_request() };
        let ignoring = command(&Command::Put(ignoring));
        assert_eq!(ignoring, r#"put key="a\x00\"" ignore_value ignore_lease"#);
        let compaction = CompactionRequest { revision: 7, physical: true };
        assert_eq!(command(&Command::Compaction(compaction)), "compaction revision=7 physical");
    }

    #[test]
    fn leases_are_named_by_their_ids() {
        let grant = LeaseGrantRequest { id: 255, ttl: 60 };
        assert_eq!(command(&Command::LeaseGrant(grant)), "lease grant id=ff ttl=60");
        let revoke = LeaseRevokeRequest { id: 255 };
        assert_eq!(command(&Command::LeaseRevoke(revoke)), "lease revoke id=ff");
        let checkpoints = vec![LeaseCheckpoint { id: 255, remaining_ttl: 7 }];
        let checkpoints = Command::LeaseCheckpoints(LeaseCheckpoints { as_of: 3, checkpoints });
        assert_eq!(command(&checkpoints), "lease checkpoints as_of=3 remaining=[ff:7]");
        let expiry = Command::LeaseExpiry(LeaseExpiry { as_of: 3, leases: vec![255, 16] });
        assert_eq!(command(&expiry), "lease expiry as_of=3 ids=[ff 10]");
    }

    #[test]
    fn a_transaction_shows_its_shape() {
        let key = Bytes::from_static(b"k");
        let range_end = Bytes::from_static(b"l");
        let delete = DeleteRangeRequest { key: key.clone(), range_end, prev_kv: true };
        let range = RangeRequest { key, ..RangeRequest::default() };
        let inner =
            TxnRequest { success: vec![op(Request::RequestRange(range))], ..TxnRequest::default() };
        let request = TxnRequest {
            compare: vec![Compare::default()],
            success: vec![op(Request::RequestDeleteRange(delete)), op(Request::RequestTxn(inner))],
            failure: vec![RequestOp::default()],
        };
        let expected = r#"txn compares=1 then=[delete range key="k" end="l"; txn compares=0 then=[range key="k"] else=[]] else=[nothing]"#;
        assert_eq!(command(&Command::Txn(request)), expected);
    }
}
