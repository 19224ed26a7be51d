//! `etcdserverpb.Lease`: grants and revocations through the log; the time that leases have left from the leader's clock.
//!
//! A keep-alive stream reads on while earlier keep-alives wait for the leader, up to a bound, and answers in order. A
//! client that does not read its answers is not read from.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_lite::future::{or, yield_now};
use prost::Message;
use tokio::sync::oneshot;
use urd_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};

use super::kv::{begin_large, end_large, in_vain};
use super::{decode, end_without_leader};
use crate::api::call::{Encoded, Reply, ReplyStream, Status};
use crate::api::node::{LeaseAnswer, LeaseQuestion, Node, header, linearizable};
use crate::api::quota;
use crate::error::{Rejected, Unavailable};
use crate::ids::LeaseId;
use crate::limits;
use crate::store::command::Kind;
use crate::store::lease::Lease;
use crate::store::{View, validate};

/// What `TimeToLive` says of a lease that does not exist.
const NO_TTL: i64 = -1;
/// Leases in one slice of the list of all.
const LEASES_PER_SLICE: usize = 16 * 1024;
/// Keep-alives that a turn of a stream takes before others have theirs.
const TURN_KEEP_ALIVES: usize = 256;

/// `LeaseGrant`.
pub fn grant<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let checked = decode::<LeaseGrantRequest>(message).and_then(|request| {
        validate::lease_grant(&request)?;
        Ok(request)
    });
    let mut request = match checked {
        Ok(request) => request,
        Err(status) => return reply.fail(status),
    };
    if quota::is_exceeded(node, quota::LEASE_COST) {
        return quota::refuse(node, reply);
    }
    request.ttl = request.ttl.max(node.limits().lease_ttl_min);
    if LeaseId(request.id) == Lease::NONE {
        grant_chosen(node, request, reply);
    } else {
        node.propose(Kind::LeaseGrant, &request.encode_to_vec().into(), reply);
    }
}

/// Grants a lease under an id that is chosen here.
fn grant_chosen<N: Node>(node: &Rc<N>, request: LeaseGrantRequest, reply: Box<dyn Reply>) {
    let request = LeaseGrantRequest { id: node.choose_lease().0, ..request };
    let message = request.encode_to_vec().into();
    node.propose(
        Kind::LeaseGrant,
        &message,
        Box::new(Chosen { node: Rc::clone(node), request, reply }),
    );
}

/// Chooses another id when the first was taken.
struct Chosen<N> {
    node: Rc<N>,
    request: LeaseGrantRequest,
    reply: Box<dyn Reply>,
}

impl<N: Node> Reply for Chosen<N> {
    fn unary(self: Box<Self>, message: Encoded) {
        self.reply.unary(message);
    }

    fn fail(self: Box<Self>, status: Status) {
        let Self { node, request, reply } = *self;
        if status == Status::from(Rejected::LeaseExists) {
            grant_chosen(&node, request, reply);
        } else {
            reply.fail(status);
        }
    }

    fn stream(self: Box<Self>) -> Box<dyn ReplyStream> {
        self.reply.stream()
    }

    fn cancelled(&self) -> bool {
        self.reply.cancelled()
    }

    fn congested(&self) -> bool {
        self.reply.congested()
    }
}

/// `LeaseRevoke`.
pub fn revoke<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    match decode::<LeaseRevokeRequest>(message) {
        Ok(_) => node.propose(Kind::LeaseRevoke, message, reply),
        Err(status) => reply.fail(status),
    }
}

/// `LeaseTimeToLive`.
pub fn time_to_live<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let request = match decode::<LeaseTimeToLiveRequest>(message) {
        Ok(request) => request,
        Err(status) => return reply.fail(status),
    };
    let answer = node.ask(LeaseQuestion::Remaining(LeaseId(request.id)));
    let working = Rc::clone(node);
    node.spawn(async move {
        match answer.await.unwrap_or(Err(Unavailable::Stopped)) {
            Ok(remaining) => {
                // Another member may know of the lease before this one does.
                let published = working.published();
                if published.leader != Some(working.identity().member)
                    && let Err(unavailable) = linearizable(&working).await
                {
                    return reply.fail(unavailable.into());
                }
                answer_time_to_live(&*working, &request, remaining, reply).await;
            }
            Err(unavailable) => reply.fail(unavailable.into()),
        }
    });
}

async fn answer_time_to_live<N: Node>(
    node: &N,
    request: &LeaseTimeToLiveRequest,
    remaining: Option<i64>,
    reply: Box<dyn Reply>,
) {
    let published = node.published();
    let id = LeaseId(request.id);
    // It may have ended since the leader answered.
    let view = published.view.clone();
    let found = remaining.zip(node.aside(move || view.lease(id)).await);
    let (ttl, granted_ttl) = found.map_or((NO_TTL, 0), |(ttl, lease)| (ttl, lease.ttl));
    let encoded = Encoded::new(&LeaseTimeToLiveResponse {
        header: Some(header(node.identity(), &published, published.view.revision())),
        id: request.id,
        ttl,
        granted_ttl,
        keys: Vec::new(),
    });
    if found.is_none() || !request.keys {
        return reply.unary(encoded);
    }
    let view = published.view.clone();
    let slice = move |from: Vec<u8>, out: &mut Encoded| keys_slice(&view, id, &from, out);
    in_slices(node, reply, encoded, Vec::new(), slice).await;
}

/// Appends some of the keys attached to a lease; says where to go on.
fn keys_slice(view: &View, id: LeaseId, from: &[u8], encoded: &mut Encoded) -> Option<Vec<u8>> {
    view.for_each_attached(id, from, limits::RANGE_SLICE_BYTES, |key| {
        prost::encoding::bytes::encode(KEYS_FIELD, &key.to_vec(), encoded.buffer());
    })
}

/// `LeaseTimeToLiveResponse.keys`.
const KEYS_FIELD: u32 = 5;

/// `LeaseLeases`, in the order of the ids.
pub fn leases<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    if let Err(status) = decode::<LeaseLeasesRequest>(message) {
        return reply.fail(status);
    }
    let working = Rc::clone(node);
    node.spawn(async move {
        if let Err(unavailable) = linearizable(&working).await {
            return reply.fail(unavailable.into());
        }
        let published = working.published();
        let header = header(working.identity(), &published, published.view.revision());
        let encoded =
            Encoded::new(&LeaseLeasesResponse { header: Some(header), leases: Vec::new() });
        let view = published.view.clone();
        let slice = move |from, out: &mut Encoded| {
            let mut leases = Vec::new();
            let next = view.for_each_lease(from, LEASES_PER_SLICE, |id, _| {
                leases.push(LeaseStatus { id: id.0 });
            });
            out.append(&LeaseLeasesResponse { header: None, leases });
            next
        };
        in_slices(&*working, reply, encoded, LeaseId(i64::MIN), slice).await;
    });
}

/// Answers with a message that `slice` appends to, from one place to the next, with other work between the slices.
async fn in_slices<N: Node, P: Send + 'static>(
    node: &N,
    reply: Box<dyn Reply>,
    mut encoded: Encoded,
    begin: P,
    mut slice: impl FnMut(P, &mut Encoded) -> Option<P> + Send + 'static,
) {
    let mut next;
    (slice, encoded, next) = one_slice(node, slice, encoded, begin).await;
    if next.is_none() {
        return reply.unary(encoded);
    }
    let Some(reply) = begin_large(node, reply).await else { return };
    let status = loop {
        yield_now().await;
        if let Some(status) = in_vain(&*reply, &encoded, "answer", "") {
            break Some(status);
        }
        let Some(place) = next else { break None };
        (slice, encoded, next) = one_slice(node, slice, encoded, place).await;
    };
    end_large(node);
    match status {
        None => reply.unary(encoded),
        Some(status) => reply.fail(status),
    }
}

async fn one_slice<N: Node, P: Send + 'static, S>(
    node: &N,
    mut slice: S,
    mut encoded: Encoded,
    place: P,
) -> (S, Encoded, Option<P>)
where
    S: FnMut(P, &mut Encoded) -> Option<P> + Send + 'static,
{
    node.aside(move || {
        let next = slice(place, &mut encoded);
        (slice, encoded, next)
    })
    .await
}

/// `LeaseKeepAlive`.
pub fn keep_alive<N: Node>(node: &Rc<N>, needs_leader: bool, reply: Box<dyn Reply>) {
    let leaderless = end_without_leader(&**node, needs_leader);
    let mut stream = KeepAlives {
        node: Rc::clone(node),
        stream: reply.stream(),
        waiting: VecDeque::new(),
        has_ended: false,
    };
    let drained = node.drained();
    node.spawn(async move {
        let stop = async {
            drained.await;
            Some(Unavailable::Stopped.into())
        };
        let turns = or(leaderless, poll_fn(|context| stream.turn(context)));
        let end = or(stop, turns).await;
        if let Some(status) = end {
            stream.stream.finish(status);
        }
    });
}

/// A stream of keep-alives.
struct KeepAlives<N> {
    node: Rc<N>,
    stream: Box<dyn ReplyStream>,
    /// In the order of the requests: the answers to be, but for what the leader says.
    waiting: VecDeque<(LeaseKeepAliveResponse, oneshot::Receiver<LeaseAnswer>)>,
    /// The client has sent all.
    has_ended: bool,
}

impl<N: Node> KeepAlives<N> {
    /// A turn. Ready with the stream's status, or without one when nobody is there to hear it.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<Option<Status>> {
        for _ in 0..TURN_KEEP_ALIVES {
            if let Some(status) = self.read(context) {
                return Poll::Ready(Some(status));
            }
            let Some((response, answer)) = self.waiting.front_mut() else {
                return if self.has_ended { Poll::Ready(Some(Status::OK)) } else { Poll::Pending };
            };
            // First, so that an answer that has come is never without a place to go.
            if ready!(self.stream.poll_ready(context)).is_err() {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(answer).poll(context)).unwrap_or(Err(Unavailable::Stopped)) {
                // A lease that does not exist, or has ended, has no time left.
                Ok(ttl) => response.ttl = ttl.unwrap_or(0),
                Err(unavailable) => return Poll::Ready(Some(unavailable.into())),
            }
            self.stream.send(Encoded::new(response));
            self.waiting.pop_front();
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what the client has sent, as far as there is room. A status ends the stream.
    fn read(&mut self, context: &mut Context<'_>) -> Option<Status> {
        while !self.has_ended
            && self.waiting.len() < limits::KEEP_ALIVES_PER_STREAM
            && let Poll::Ready(request) = self.stream.poll_request(context)
        {
            match request {
                Some(Ok(message)) => match decode::<LeaseKeepAliveRequest>(&message) {
                    Ok(request) => self.ask(LeaseId(request.id)),
                    Err(status) => return Some(status),
                },
                Some(Err(status)) => return Some(status),
                None => self.has_ended = true,
            }
        }
        None
    }

    fn ask(&mut self, id: LeaseId) {
        let answer = self.node.ask(LeaseQuestion::Renew(id));
        let published = self.node.published();
        // As of before the renewal, as in etcd.
        let header = header(self.node.identity(), &published, published.view.revision());
        let response = LeaseKeepAliveResponse { header: Some(header), id: id.0, ttl: 0 };
        self.waiting.push_back((response, answer));
    }
}
