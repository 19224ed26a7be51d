//! `etcdserverpb.Maintenance`, as much of it as one member without a checkpoint file has.

use std::rc::Rc;

use bytes::Bytes;
use urd_proto::etcdserverpb::alarm_request::AlarmAction;
use urd_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    StatusRequest, StatusResponse,
};

use super::decode;
use crate::api::call::{Code, Encoded, Reply, Status};
use crate::api::node::{Node, header};
use crate::api::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::ids::Revision;
use crate::store::HashStep;

/// Revisions hashed before other work of the shard gets its turn.
const HASH_REVISIONS_PER_SLICE: usize = 4096;

/// `Status`.
pub fn status<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    if let Err(status) = decode::<StatusRequest>(message) {
        return reply.fail(status);
    }
    let published = node.published();
    let sizes = published.view.sizes();
    let leader = published.leader.map_or(0, |leader| leader.0);
    reply.unary(Encoded::new(&StatusResponse {
        header: Some(header(node.identity(), &published, published.view.revision())),
        version: ETCD_VERSION.to_owned(),
        db_size: signed(sizes.allocated_bytes),
        leader,
        raft_index: published.committed.0,
        raft_term: published.term.0,
        raft_applied_index: published.view.applied().0,
        errors: if leader == 0 { vec!["etcdserver: no leader".to_owned()] } else { Vec::new() },
        db_size_in_use: signed(sizes.used_bytes),
        is_learner: false,
        storage_version: ETCD_CLUSTER_VERSION.to_owned(),
        db_size_quota: node.limits().quota_bytes,
        ..StatusResponse::default()
    }));
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// `Alarm`. No alarm is ever raised yet, so the list is empty and there is nothing to disarm.
pub fn alarm<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let request = match decode::<AlarmRequest>(message) {
        Ok(request) => request,
        Err(status) => return reply.fail(status),
    };
    if request.action() == AlarmAction::Activate {
        return reply.fail(Status::new(Code::Unimplemented, "alarms cannot be raised by hand"));
    }
    let published = node.published();
    let header = header(node.identity(), &published, published.view.revision());
    reply.unary(Encoded::new(&AlarmResponse { header: Some(header), alarms: Vec::new() }));
}

/// `Hash`: of the whole state.
pub fn hash<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    if let Err(status) = decode::<HashRequest>(message) {
        return reply.fail(status);
    }
    hash_at(node, Revision(0), reply, |header, hash| {
        Encoded::new(&HashResponse { header: Some(header), hash: hash.hash })
    });
}

/// `HashKV`: of the keys' history up to a revision. Equal to etcd's for an equal history.
pub fn hash_kv<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let request = match decode::<HashKvRequest>(message) {
        Ok(request) => request,
        Err(status) => return reply.fail(status),
    };
    hash_at(node, Revision(request.revision), reply, |header, hash| {
        Encoded::new(&HashKvResponse {
            header: Some(header),
            hash: hash.hash,
            compact_revision: hash.compact_revision.0,
            hash_revision: hash.revision.0,
        })
    });
}

fn hash_at<N: Node>(
    node: &Rc<N>,
    revision: Revision,
    reply: Box<dyn Reply>,
    encode: impl FnOnce(urd_proto::etcdserverpb::ResponseHeader, crate::store::HashKv) -> Encoded
    + 'static,
) {
    let published = node.published();
    let mut scan = match published.view.hash_scan(revision) {
        Ok(scan) => scan,
        Err(rejected) => return reply.fail(rejected.into()),
    };
    let header = header(node.identity(), &published, published.view.revision());
    node.spawn(async move {
        loop {
            if reply.cancelled() {
                return reply.fail(Status::new(Code::Cancelled, "context canceled"));
            }
            match scan.step(HASH_REVISIONS_PER_SLICE) {
                HashStep::Done(hash) => return reply.unary(encode(header, hash)),
                HashStep::More => futures_lite::future::yield_now().await,
            }
        }
    });
}
