//! `--quota-backend-bytes`: what would make the data larger is refused, and the NOSPACE alarm raised.
//!
//! Judged before a request is proposed, by the member's own size, as in etcd; once the alarm is raised every member
//! refuses alike (`store::alarm`), until somebody disarms it. Size is the pages in use: those that a compaction frees
//! count no more, without a defragmentation. Deletions and compactions are never refused.
//!
//! What a request costs is etcd's estimate. v2's requests are judged in the same way, which etcd leaves out: its v2 store is
//! in memory.
//!
//! What is decided ([`cost`], [`exceeds`], [`alarm_to_raise`]) knows nothing of a node: the simulator's members decide by
//! the same.

use std::rc::Rc;

use prost::Message;
use tokio::sync::oneshot;
use urd_proto::etcdserverpb::alarm_request::AlarmAction;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::{AlarmRequest, AlarmType, PutRequest, RequestOp, TxnRequest};

use crate::api::call::{Encoded, Reply, ReplyStream, Status};
use crate::api::node::Node;
use crate::error::Unavailable;
use crate::ids::MemberId;
use crate::store::command::{Command, Kind};
use crate::store::{View, v2};

/// What a key costs beside its bytes and those of its value.
const KEY_COST: u64 = 256;
/// What a lease costs.
pub const LEASE_COST: u64 = 64;

pub fn put_cost(request: &PutRequest) -> u64 {
    KEY_COST + (request.key.len() + request.value.len()) as u64
}

/// That of a v2 request that writes a node.
pub fn v2_cost(request: &v2::Request) -> u64 {
    KEY_COST + (request.path.len() + request.value.len()) as u64
}

/// That of the dearer branch; 0 for one without puts, which is never refused.
pub fn txn_cost(request: &TxnRequest) -> u64 {
    let cost = |ops: &[RequestOp]| {
        let of = |op: &RequestOp| match &op.request {
            Some(Request::RequestPut(put)) => put_cost(put),
            Some(Request::RequestTxn(txn)) => txn_cost(txn),
            _ => 0,
        };
        ops.iter().map(of).sum::<u64>()
    };
    cost(&request.success).max(cost(&request.failure))
}

/// That of any request; 0 for one that is never refused.
pub fn cost(command: &Command) -> u64 {
    match command {
        Command::Put(request) => put_cost(request),
        Command::Txn(request) => txn_cost(request),
        Command::LeaseGrant(_) => LEASE_COST,
        Command::V2(request) if request.may_grow() => v2_cost(request),
        _ => 0,
    }
}

/// Whether a quota has no room for something that costs so much, where so many bytes are in use.
pub fn exceeds(quota_bytes: i64, bytes_in_use: u64, cost: u64) -> bool {
    let Ok(quota @ 1..) = u64::try_from(quota_bytes) else { return false };
    cost > 0 && bytes_in_use + cost >= quota
}

/// What a member that refuses for want of room has to have raised first, unless it is raised.
pub fn alarm_to_raise(view: &View, member: MemberId) -> Option<AlarmRequest> {
    let (alarm, action) = (AlarmType::Nospace, AlarmAction::Activate.into());
    let is_raised = view.alarms(alarm).iter().any(|raised| raised.member_id == member.0);
    (!is_raised).then(|| AlarmRequest { action, member_id: member.0, alarm: alarm.into() })
}

/// Whether there is no room for something that costs so much.
pub fn is_exceeded<N: Node>(node: &Rc<N>, cost: u64) -> bool {
    exceeds(node.limits().quota_bytes, node.bytes_in_use(), cost)
}

/// Refuses a request for want of room; raises the alarm, unless it is raised.
pub fn refuse<N: Node>(node: &Rc<N>, reply: Box<dyn Reply>) {
    let Some(raise) = alarm_to_raise(&node.published().view, node.identity().member) else {
        return reply.fail(Unavailable::NoSpace.into());
    };
    tracing::warn!(
        quota = node.limits().quota_bytes,
        in_use = node.bytes_in_use(),
        "the space quota is used up: raising the NOSPACE alarm; compact or delete, then disarm it"
    );
    node.propose(Kind::Alarm, &raise.encode_to_vec().into(), Box::new(Refusal(reply)));
}

/// Raises the alarm, unless it is raised, for a request that is refused by its own means once that is done, or has failed.
pub async fn raise_alarm<N: Node>(node: &Rc<N>) {
    let (told, heard) = oneshot::channel();
    refuse(node, Box::new(Told(told)));
    heard.await.ok();
}

/// Lets one know who waits.
struct Told(oneshot::Sender<()>);

impl Reply for Told {
    fn unary(self: Box<Self>, _: Encoded) {
        self.0.send(()).ok();
    }

    fn fail(self: Box<Self>, _: Status) {
        self.0.send(()).ok();
    }

    fn stream(self: Box<Self>) -> Box<dyn ReplyStream> {
        unreachable!("invariant: an alarm is answered once")
    }

    fn cancelled(&self) -> bool {
        self.0.is_closed()
    }

    fn congested(&self) -> bool {
        false
    }
}

/// Refuses once the alarm is raised, or could not be.
struct Refusal(Box<dyn Reply>);

impl Reply for Refusal {
    fn unary(self: Box<Self>, _: Encoded) {
        self.0.fail(Unavailable::NoSpace.into());
    }

    fn fail(self: Box<Self>, _: Status) {
        self.0.fail(Unavailable::NoSpace.into());
    }

    fn stream(self: Box<Self>) -> Box<dyn ReplyStream> {
        unreachable!("invariant: an alarm is answered once")
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }

    fn congested(&self) -> bool {
        self.0.congested()
    }
}

#[cfg(test)]
mod tests {
    use urd_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, LeaseGrantRequest};

    use super::*;

    #[test]
    fn a_transaction_costs_its_dearer_branch() {
        let put = |bytes: usize| {
            let request = PutRequest { key: vec![1; bytes].into(), ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(request)) }
        };
        let mut txn = TxnRequest { success: vec![put(1), put(2)], ..TxnRequest::default() };
        assert_eq!(txn_cost(&txn), 2 * KEY_COST + 3);
        let inner = TxnRequest { failure: vec![put(5)], ..txn.clone() };
        txn.failure = vec![RequestOp { request: Some(Request::RequestTxn(inner)) }, put(4)];
        assert_eq!(txn_cost(&txn), 3 * KEY_COST + 7);
        assert_eq!(txn_cost(&TxnRequest::default()), 0);
    }

    #[test]
    fn what_takes_no_room_costs_nothing() {
        let [put, lease] = [
            Command::Put(PutRequest::default()),
            Command::LeaseGrant(LeaseGrantRequest::default()),
        ];
        assert_eq!([cost(&put), cost(&lease)], [KEY_COST, LEASE_COST]);
        let delete = Command::DeleteRange(DeleteRangeRequest::default());
        let compaction = Command::Compaction(CompactionRequest::default());
        assert_eq!([cost(&delete), cost(&compaction)], [0, 0]);
        assert!(exceeds(4096, 4000, 96) && !exceeds(4096, 4000, 95) && !exceeds(4096, 8192, 0));
        assert!(!exceeds(0, 1 << 40, 1) && !exceeds(-1, 1 << 40, 1), "no quota");
    }
}
