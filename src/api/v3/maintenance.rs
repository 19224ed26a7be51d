//! `etcdserverpb.Maintenance`, as much of it as there is: no snapshots.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use urd_proto::etcdserverpb::alarm_request::AlarmAction;
use urd_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest,
    MoveLeaderResponse, StatusRequest, StatusResponse,
};

use super::decode;
use crate::api::call::{Code, Encoded, Reply, Status};
use crate::api::node::{Node, header, linearizable};
use crate::error::Unavailable;
use crate::ids::MemberId;
use crate::limits;
use crate::store::command::Kind;
use crate::store::{HashScan, TreeHash};
use crate::version::{ETCD_CLUSTER_VERSION, ETCD_VERSION};

/// How often a call looks whether its defragmentation is through.
const DEFRAGMENTED_INTERVAL: Duration = Duration::from_millis(10);

/// `Status`.
pub fn status<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    if let Err(status) = decode::<StatusRequest>(message) {
        return reply.fail(status);
    }
    let published = node.published();
    let leader = published.leader.map_or(0, |leader| leader.0);
    let mut errors: Vec<String> =
        published.view.alarms(AlarmType::None).iter().map(describe_alarm).collect();
    if leader == 0 {
        errors.insert(0, "etcdserver: no leader".to_owned());
    }
    reply.unary(Encoded::new(&StatusResponse {
        header: Some(header(node.identity(), &published, published.view.revision())),
        version: ETCD_VERSION.to_owned(),
        db_size: signed(published.sizes.bytes),
        leader,
        raft_index: published.committed.0,
        raft_term: published.term.0,
        raft_applied_index: published.view.applied().0,
        errors,
        db_size_in_use: signed(published.sizes.bytes_in_use),
        is_learner: node.is_learner(),
        storage_version: ETCD_CLUSTER_VERSION.to_owned(),
        db_size_quota: node.limits().quota_bytes,
        ..StatusResponse::default()
    }));
}

/// As etcd prints the message.
fn describe_alarm(alarm: &AlarmMember) -> String {
    format!("memberID:{} alarm:{} ", alarm.member_id, alarm.alarm().as_str_name())
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// `Alarm`: lists what is raised; raises or disarms through the log.
pub fn alarm<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let request = match decode::<AlarmRequest>(message) {
        Ok(request) => request,
        Err(status) => return reply.fail(status),
    };
    if request.action() != AlarmAction::Get {
        return node.propose(Kind::Alarm, message, reply);
    }
    let asked = Rc::clone(node);
    node.spawn(async move {
        if let Err(unavailable) = linearizable(&asked).await {
            return reply.fail(unavailable.into());
        }
        let published = asked.published();
        let header = header(asked.identity(), &published, published.view.revision());
        let alarms = published.view.alarms(request.alarm());
        reply.unary(Encoded::new(&AlarmResponse { header: Some(header), alarms }));
    });
}

/// `Defragment`: gives space back to the file system while everything else goes on. Its answer has no header, as
/// etcd's has none.
pub fn defragment<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    if let Err(status) = decode::<DefragmentRequest>(message) {
        return reply.fail(status);
    }
    let number = node.defragment();
    let waiting = Rc::clone(node);
    node.spawn(async move {
        loop {
            if reply.cancelled() {
                return reply.fail(Status::new(Code::Cancelled, "context canceled"));
            }
            if waiting.is_draining() {
                return reply.fail(Unavailable::Stopped.into());
            }
            match waiting.defragmented(number) {
                Some(true) => return reply.unary(Encoded::new(&DefragmentResponse::default())),
                Some(false) => return reply.fail(Unavailable::NoSpace.into()),
                None => waiting.sleep(DEFRAGMENTED_INTERVAL).await,
            }
        }
    });
}

/// `Hash`: of the whole tree.
pub fn hash<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    if let Err(status) = decode::<HashRequest>(message) {
        return reply.fail(status);
    }
    let published = node.published();
    let header = header(node.identity(), &published, published.view.revision());
    let mut scan = TreeHash::new(published.view.clone());
    in_slices(node, reply, move || {
        let hash = scan.step(limits::HASH_SLICE_BYTES)?;
        Some(Encoded::new(&HashResponse { header: Some(header), hash }))
    });
}

/// `HashKV`: of the keys' history up to a revision. Equal to etcd's for an equal history.
pub fn hash_kv<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let request = match decode::<HashKvRequest>(message) {
        Ok(request) => request,
        Err(status) => return reply.fail(status),
    };
    let published = node.published();
    let header = header(node.identity(), &published, published.view.revision());
    match HashScan::new(published.view.clone(), request.revision) {
        Ok(mut scan) => in_slices(node, reply, move || {
            let hash = scan.step(limits::HASH_SLICE_BYTES)?;
            Some(Encoded::new(&HashKvResponse {
                header: Some(header),
                hash: hash.hash,
                compact_revision: hash.compact_revision,
                hash_revision: hash.revision,
            }))
        }),
        Err(rejected) => reply.fail(rejected.into()),
    }
}

/// `MoveLeader`: answered once the other member leads.
pub fn move_leader<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let request = match decode::<MoveLeaderRequest>(message) {
        Ok(request) => request,
        Err(status) => return reply.fail(status),
    };
    let moved = node.move_leader(MemberId(request.target_id));
    let moving = Rc::clone(node);
    node.spawn(async move {
        match moved.await.unwrap_or(Err(Unavailable::Stopped.into())) {
            Ok(()) => {
                let published = moving.published();
                let header = header(moving.identity(), &published, published.view.revision());
                reply.unary(Encoded::new(&MoveLeaderResponse { header: Some(header) }));
            }
            Err(error) => reply.fail(error.into()),
        }
    });
}

/// Calls `step` until it has the answer, with other work between the calls.
fn in_slices<N: Node>(
    node: &Rc<N>,
    reply: Box<dyn Reply>,
    mut step: impl FnMut() -> Option<Encoded> + Send + 'static,
) {
    let working = Rc::clone(node);
    node.spawn(async move {
        loop {
            if reply.cancelled() {
                return reply.fail(Status::new(Code::Cancelled, "context canceled"));
            }
            let answer;
            (step, answer) = working
                .aside(move || {
                    let answer = step();
                    (step, answer)
                })
                .await;
            match answer {
                Some(answer) => return reply.unary(answer),
                None => futures_lite::future::yield_now().await,
            }
        }
    });
}
