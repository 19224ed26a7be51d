//! etcd's v3 gRPC services: one file each.

pub mod cluster;
pub mod health;
pub mod kv;
pub mod lease;
pub mod maintenance;
mod quota;
pub mod watch;

use std::rc::Rc;

use super::call::{Call, Code, Status};
use super::method::Method;
use super::node::{Node, Read};
use crate::error::Unavailable;

/// Starts a call. Its answer goes to `call.reply`, now or later.
pub fn dispatch<N: Node>(node: &Rc<N>, call: Call) {
    let Call { method, message, reply } = call;
    match method {
        Method::Range => kv::range(node, &message, reply),
        Method::RangeStream => kv::range_stream(node, &message, reply),
        Method::Put => kv::put(node, &message, reply),
        Method::DeleteRange => kv::delete_range(node, &message, reply),
        Method::Txn => kv::txn(node, &message, reply),
        Method::Compact => kv::compact(node, &message, reply),
        Method::Watch => watch::watch(node, reply),
        Method::LeaseGrant => lease::grant(node, &message, reply),
        Method::LeaseRevoke => lease::revoke(node, &message, reply),
        Method::LeaseKeepAlive => lease::keep_alive(node, reply),
        Method::LeaseTimeToLive => lease::time_to_live(node, &message, reply),
        Method::LeaseLeases => lease::leases(node, &message, reply),
        Method::MemberList => cluster::member_list(node, &message, reply),
        Method::Alarm => maintenance::alarm(node, &message, reply),
        Method::Defragment => maintenance::defragment(node, &message, reply),
        Method::Status => maintenance::status(node, &message, reply),
        Method::Hash => maintenance::hash(node, &message, reply),
        Method::HashKv => maintenance::hash_kv(node, &message, reply),
        Method::HealthCheck => health::check(node, &message, reply),
        Method::HealthWatch => health::watch(node, &message, reply),
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

/// Decodes a request; bytes that are no such message get gRPC's INTERNAL, as from grpc-go.
fn decode<M: prost::Message + Default>(message: &bytes::Bytes) -> Result<M, Status> {
    M::decode(message.clone()).map_err(|error| {
        Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
    })
}
