//! etcd's v3 gRPC services: one file each.

pub mod cluster;
pub mod health;
pub mod kv;
pub mod lease;
pub mod maintenance;
pub mod watch;

use std::future::Future;
use std::rc::Rc;

use urd_proto::etcdserverpb::RangeRequest;

use super::call::{Call, Code, Status};
use super::method::Method;
use super::node::{Node, Read};
use crate::error::Unavailable;

/// Starts a call. Its answer goes to `call.reply`, now or later.
pub fn dispatch<N: Node>(node: &Rc<N>, call: Call) {
    let Call { method, needs_leader, message, reply } = call;
    if needs_leader && node.is_leaderless() {
        return reply.fail(Unavailable::NoLeader.into());
    }
    if node.is_learner() && !is_allowed_on_learner(method, &message) {
        return reply.fail(Unavailable::Learner.into());
    }
    match method {
        Method::Range => kv::range(node, &message, reply),
        Method::RangeStream => kv::range_stream(node, &message, reply),
        Method::Put => kv::put(node, &message, reply),
        Method::DeleteRange => kv::delete_range(node, &message, reply),
        Method::Txn => kv::txn(node, &message, reply),
        Method::Compact => kv::compact(node, &message, reply),
        Method::Watch => watch::watch(node, needs_leader, reply),
        Method::LeaseGrant => lease::grant(node, &message, reply),
        Method::LeaseRevoke => lease::revoke(node, &message, reply),
        Method::LeaseKeepAlive => lease::keep_alive(node, needs_leader, reply),
        Method::LeaseTimeToLive => lease::time_to_live(node, &message, reply),
        Method::LeaseLeases => lease::leases(node, &message, reply),
        Method::MemberAdd => cluster::member_add(node, &message, reply),
        Method::MemberRemove => cluster::member_remove(node, &message, reply),
        Method::MemberUpdate => cluster::member_update(node, &message, reply),
        Method::MemberPromote => cluster::member_promote(node, &message, reply),
        Method::MemberList => cluster::member_list(node, &message, reply),
        Method::Alarm => maintenance::alarm(node, &message, reply),
        Method::Defragment => maintenance::defragment(node, &message, reply),
        Method::Status => maintenance::status(node, &message, reply),
        Method::Hash => maintenance::hash(node, &message, reply),
        Method::HashKv => maintenance::hash_kv(node, &message, reply),
        Method::MoveLeader => maintenance::move_leader(node, &message, reply),
        Method::HealthCheck => health::check(node, &message, reply),
        Method::HealthWatch => health::watch(node, &message, reply),
    }
}

/// What a learner answers, as etcd's does: its status, and reads that need not be linearizable.
fn is_allowed_on_learner(method: Method, message: &bytes::Bytes) -> bool {
    match method {
        Method::Status => true,
        Method::Range => decode::<RangeRequest>(message).is_ok_and(|range| range.serializable),
        _ => false,
    }
}

/// Goes on with a linearizable read whose index is applied, or ends it.
pub fn resume<N: Node>(node: &Rc<N>, read: Read, outcome: Result<(), Unavailable>) {
    match (read, outcome) {
        (Read::Wake(waiting), outcome) => {
            // Whoever waited may have gone; then nobody is left to tell.
            waiting.send(outcome).ok();
        }
        (Read::Range(request, reply), Ok(())) => kv::answer_range(node, request, reply),
        (Read::RangeStream(request, reply), Ok(())) => kv::answer_stream(node, request, reply),
        (Read::Txn(request, reply), Ok(())) => kv::answer_read_only_txn(node, request, reply),
        (Read::MemberList(reply), Ok(())) => cluster::answer(node, reply),
        (
            Read::Range(_, reply)
            | Read::RangeStream(_, reply)
            | Read::Txn(_, reply)
            | Read::MemberList(reply),
            Err(unavailable),
        ) => reply.fail(unavailable.into()),
    }
}

/// Ends a stream whose caller wants one with a leader only, with this status.
fn end_without_leader<N: Node>(
    node: &N,
    needs_leader: bool,
) -> impl Future<Output = Option<Status>> + 'static {
    let lost = needs_leader.then(|| node.leader_lost());
    async move {
        match lost {
            Some(lost) => lost.await,
            None => std::future::pending().await,
        }
        Some(Unavailable::NoLeader.into())
    }
}

/// Decodes a request; bytes that are no such message get gRPC's INTERNAL, as from grpc-go.
fn decode<M: prost::Message + Default>(message: &bytes::Bytes) -> Result<M, Status> {
    M::decode(message.clone()).map_err(|error| {
        Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;

    /// What etcd's interceptors let pass: two unary calls, and of streams none that is served here.
    #[test]
    fn learners_answer_little() {
        let range = |serializable| {
            let request = RangeRequest { key: "a".into(), serializable, ..RangeRequest::default() };
            Bytes::from(request.encode_to_vec())
        };
        assert!(is_allowed_on_learner(Method::Status, &Bytes::new()));
        assert!(is_allowed_on_learner(Method::Range, &range(true)));
        assert!(!is_allowed_on_learner(Method::Range, &range(false)));
        assert!(!is_allowed_on_learner(Method::Range, &Bytes::from_static(b"\x0a")));
        assert!(!is_allowed_on_learner(Method::RangeStream, &range(true)));
        for method in [
            Method::Put,
            Method::Txn,
            Method::Watch,
            Method::LeaseGrant,
            Method::MemberList,
            Method::MemberAdd,
            Method::MemberPromote,
            Method::Alarm,
            Method::HashKv,
            Method::HealthCheck,
        ] {
            assert!(!is_allowed_on_learner(method, &Bytes::new()), "{method:?}");
        }
    }
}
