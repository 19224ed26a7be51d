//! `etcdserverpb.KV`: ranges from a snapshot, writes through the log.
//!
//! A write is decoded here to be validated, so that what is proposed can be applied; the log then gets the bytes as
//! they came. A range that fits one slice is answered at once; a longer one goes on as a task that yields between
//! slices, reading from its own snapshot.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use urd_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, ResponseHeader,
    TxnRequest,
};

use super::decode;
use crate::api::call::{Code, Encoded, Reply, ReplyStream, Status};
use crate::api::node::{Node, Published, Read, header};
use crate::api::quota;
use crate::api::status::REQUEST_TOO_LARGE;
use crate::error::Rejected;
use crate::ids::Revision;
use crate::limits;
use crate::store::command::Kind;
use crate::store::{self, Outcome, RangeScan, RangeTail, Response, Step, View, validate};

/// `Put`.
pub fn put<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let checked = decode::<PutRequest>(message)
        .and_then(|request| {
            validate::put(&request)?;
            Ok(quota::put_cost(&request))
        })
        .and_then(|cost| check_size(node, message).map(|()| cost));
    match checked {
        Ok(cost) if quota::is_exceeded(node, cost) => quota::refuse(node, reply),
        Ok(_) => node.propose(Kind::Put, message, reply),
        Err(status) => reply.fail(status),
    }
}

/// `DeleteRange`.
pub fn delete_range<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let checked = decode::<DeleteRangeRequest>(message)
        .and_then(|request| Ok(validate::delete_range(&request)?))
        .and_then(|()| check_size(node, message));
    match checked {
        Ok(()) => node.propose(Kind::DeleteRange, message, reply),
        Err(status) => reply.fail(status),
    }
}

/// `Txn`. One that writes nothing is a read: linearizable, unless all its ranges are serializable.
pub fn txn<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let checked = decode::<TxnRequest>(message).and_then(|request| {
        validate::txn(&request, node.limits().txn_ops)?;
        Ok(request)
    });
    match checked {
        Err(status) => reply.fail(status),
        Ok(request) if store::is_read_only(&request) => {
            if store::is_serializable(&request) {
                answer_read_only_txn(node, request, reply);
            } else {
                node.read(Read::Txn(request, reply));
            }
        }
        Ok(request) => match check_size(node, message) {
            Ok(()) if quota::is_exceeded(node, quota::txn_cost(&request)) => {
                quota::refuse(node, reply);
            }
            Ok(()) => node.propose(Kind::Txn, message, reply),
            Err(status) => reply.fail(status),
        },
    }
}

/// `Compact`.
pub fn compact<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    match decode::<CompactionRequest>(message) {
        Ok(request) if request.physical => {
            let swept = Box::new(AwaitSwept {
                node: Rc::clone(node),
                revision: Revision(request.revision),
                reply,
            });
            node.propose(Kind::Compaction, message, swept);
        }
        Ok(_) => node.propose(Kind::Compaction, message, reply),
        Err(status) => reply.fail(status),
    }
}

/// `Range`.
pub fn range<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    match checked_range(message) {
        Ok(request) if request.serializable => answer_range(node, request, reply),
        Ok(request) => node.read(Read::Range(request, reply)),
        Err(status) => reply.fail(status),
    }
}

/// `RangeStream`: a range in pieces of bounded size; header, `more` and `count` come with the last one only.
pub fn range_stream<N: Node>(node: &Rc<N>, message: &Bytes, reply: Box<dyn Reply>) {
    let checked = decode::<RangeRequest>(message).and_then(|request| {
        validate::range_stream(&request)?;
        Ok(request)
    });
    match checked {
        Ok(request) if request.serializable => answer_stream(node, request, reply),
        Ok(request) => node.read(Read::RangeStream(request, reply)),
        Err(status) => reply.fail(status),
    }
}

/// Answers a proposal with its applied outcome.
pub fn answer<N: Node>(node: &N, published: &Published, reply: Box<dyn Reply>, outcome: Outcome) {
    let identity = node.identity();
    let fill = |header: &mut Option<ResponseHeader>| {
        let header = header.get_or_insert_default();
        header.cluster_id = identity.cluster.0;
        header.member_id = identity.member.0;
        header.raft_term = published.term.0;
    };
    let encoded = match outcome {
        Ok(Response::Put(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        Ok(Response::DeleteRange(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        Ok(Response::Txn(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        Ok(Response::Compaction(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        Ok(Response::LeaseGrant(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        Ok(Response::LeaseRevoke(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        Ok(Response::Alarm(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        Ok(Response::MemberAdd(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        Ok(Response::MemberRemove(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        Ok(Response::MemberPromote(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        Ok(Response::MemberUpdate(mut response)) => {
            fill(&mut response.header);
            Encoded::new(&response)
        }
        // Nobody but the member itself asks for it, to hear that it is done.
        Ok(Response::MemberPublish) => Encoded::with_capacity(0),
        Ok(
            Response::LeaseCheckpoints
            | Response::LeaseExpiry
            | Response::V2(_)
            | Response::V2Expiry(_),
        ) => {
            unreachable!("invariant: no client of v3 can ask for it")
        }
        Err(rejected) => return reply.fail(rejected.into()),
    };
    reply.unary(encoded);
}

/// Answers a range from the newest state.
pub fn answer_range<N: Node>(node: &Rc<N>, request: RangeRequest, reply: Box<dyn Reply>) {
    node.count_range();
    let published = node.published();
    let view = published.view.clone();
    if node.reads_aside() {
        let working = Rc::clone(node);
        return node.spawn(async move {
            let begun = working.aside(move || begin_range(view, &request)).await;
            go_on_with_range(&working, published, begun, reply);
        });
    }
    go_on_with_range(node, published, begin_range(view, &request), reply);
}

/// The first slice of a range.
#[inline]
fn begin_range(view: View, request: &RangeRequest) -> Result<(RangeScan, Encoded, Step), Rejected> {
    let mut scan = RangeScan::new(view, request)?;
    let mut encoded = Encoded::with_capacity(limits::RANGE_FIRST_BYTES);
    let step = scan.step(limits::RANGE_SLICE_BYTES, encoded.buffer());
    Ok((scan, encoded, step))
}

/// Answers a range that fits the first slice; goes on with one that does not.
#[inline]
fn go_on_with_range<N: Node>(
    node: &Rc<N>,
    published: Arc<Published>,
    begun: Result<(RangeScan, Encoded, Step), Rejected>,
    reply: Box<dyn Reply>,
) {
    match begun {
        Err(rejected) => reply.fail(rejected.into()),
        Ok((_, mut encoded, Step::Done(tail))) => {
            encoded.append(&range_tail(&**node, &published, &tail));
            reply.unary(encoded);
        }
        Ok((scan, encoded, Step::More)) => {
            let working = Rc::clone(node);
            node.spawn(async move {
                let Some(reply) = begin_large(&*working, reply).await else { return };
                finish_range(&*working, &published, scan, encoded, reply).await;
                end_large(&*working);
            });
        }
    }
}

/// How often a large range looks whether it may go on.
const LARGE_INTERVAL: Duration = Duration::from_millis(5);

/// Takes one of the shard's places for large answers as soon as one is free: what is being made is bounded, whoever
/// asks. `None` when the caller has gone meanwhile.
pub(super) async fn begin_large<N: Node>(
    node: &N,
    reply: Box<dyn Reply>,
) -> Option<Box<dyn Reply>> {
    let large = node.large_answers();
    while reply.congested() || large.get() >= limits::LARGE_ANSWERS_PER_SHARD_MAX {
        if reply.cancelled() {
            reply.fail(Status::new(Code::Cancelled, "context canceled"));
            return None;
        }
        node.sleep(LARGE_INTERVAL).await;
    }
    large.set(large.get() + 1);
    Some(reply)
}

/// Gives back what [`begin_large`] took.
pub(super) fn end_large<N: Node>(node: &N) {
    let large = node.large_answers();
    large.set(large.get() - 1);
}

/// Why a large answer in the making, of `what`, need not be finished, if so.
pub(super) fn in_vain(
    reply: &dyn Reply,
    encoded: &Encoded,
    what: &str,
    advice: &str,
) -> Option<Status> {
    if reply.cancelled() {
        return Some(Status::new(Code::Cancelled, "context canceled"));
    }
    // etcd's clients refuse larger messages; building one would only cost memory.
    (encoded.payload_len() > limits::RESPONSE_BYTES_MAX).then(|| {
        let max = limits::RESPONSE_BYTES_MAX;
        let text = format!("etcdserver: the {what} is larger than {max} bytes{advice}");
        Status::new(Code::ResourceExhausted, text)
    })
}

/// Goes on with a range that did not fit one slice.
async fn finish_range<N: Node>(
    node: &N,
    published: &Published,
    mut scan: RangeScan,
    mut encoded: Encoded,
    reply: Box<dyn Reply>,
) {
    loop {
        futures_lite::future::yield_now().await;
        if let Some(status) = in_vain(&*reply, &encoded, "range", "; ask for it in pages (limit)") {
            return reply.fail(status);
        }
        let step;
        (scan, encoded, step) = node
            .aside(move || {
                let step = scan.step(limits::RANGE_SLICE_BYTES, encoded.buffer());
                (scan, encoded, step)
            })
            .await;
        if let Step::Done(tail) = step {
            encoded.append(&range_tail(node, published, &tail));
            return reply.unary(encoded);
        }
    }
}

/// Answers a streamed range from the newest state.
pub fn answer_stream<N: Node>(node: &Rc<N>, request: RangeRequest, reply: Box<dyn Reply>) {
    node.count_range();
    let published = node.published();
    let (view, working) = (published.view.clone(), Rc::clone(node));
    node.spawn(async move {
        let mut scan = match working.aside(move || RangeScan::new(view, &request)).await {
            Ok(scan) => scan,
            Err(rejected) => return reply.fail(rejected.into()),
        };
        let mut stream = reply.stream();
        let mut piece = bytes::BytesMut::new();
        while poll_fn(|context| stream.poll_ready(context)).await.is_ok() {
            let step;
            (scan, piece, step) = working
                .aside(move || {
                    let step = scan.step(limits::RANGE_SLICE_BYTES, &mut piece);
                    (scan, piece, step)
                })
                .await;
            if let Step::Done(tail) = &step {
                let tail = range_tail(&*working, &published, tail);
                prost::Message::encode(&tail, &mut piece)
                    .expect("invariant: a BytesMut grows as needed");
            }
            // A RangeStreamResponse is one field, the RangeResponse, whose bytes are at hand already.
            let mut encoded = Encoded::with_capacity(piece.len() + 8);
            prost::encoding::encode_key(
                RANGE_STREAM_RESPONSE_FIELD,
                prost::encoding::WireType::LengthDelimited,
                encoded.buffer(),
            );
            prost::encoding::encode_varint(piece.len() as u64, encoded.buffer());
            encoded.buffer().extend_from_slice(&piece);
            piece.clear();
            stream.send(encoded);
            if matches!(step, Step::Done(_)) {
                return stream.finish(Status::OK);
            }
            futures_lite::future::yield_now().await;
        }
    });
}

/// `RangeStreamResponse.range_response`.
const RANGE_STREAM_RESPONSE_FIELD: u32 = 1;

/// Answers a transaction that writes nothing from the newest state.
pub fn answer_read_only_txn<N: Node>(node: &Rc<N>, request: TxnRequest, reply: Box<dyn Reply>) {
    let published = node.published();
    if node.reads_aside() {
        let (view, working) = (published.view.clone(), Rc::clone(node));
        return node.spawn(async move {
            let outcome = working.aside(move || view.read_txn(&request)).await;
            answer(&*working, &published, reply, outcome.map(Response::Txn));
        });
    }
    let outcome = published.view.read_txn(&request).map(Response::Txn);
    answer(&**node, &published, reply, outcome);
}

/// The fields of a `RangeResponse` that follow its keys.
fn range_tail<N: Node>(node: &N, published: &Published, tail: &RangeTail) -> RangeResponse {
    RangeResponse {
        header: Some(header(node.identity(), published, tail.revision)),
        kvs: Vec::new(),
        more: tail.more,
        count: tail.count,
    }
}

/// How often a physical compaction looks whether it is over.
const SWEPT_INTERVAL: Duration = Duration::from_millis(5);

/// Holds the answer to a *physical* compaction back until the revisions are removed.
struct AwaitSwept<N> {
    node: Rc<N>,
    revision: Revision,
    reply: Box<dyn Reply>,
}

impl<N: Node> Reply for AwaitSwept<N> {
    fn unary(self: Box<Self>, message: Encoded) {
        let Self { node, revision, reply } = *self;
        let waiting = Rc::clone(&node);
        node.spawn(async move {
            while waiting.published().view.swept() < revision && !reply.cancelled() {
                waiting.sleep(SWEPT_INTERVAL).await;
            }
            reply.unary(message);
        });
    }

    fn fail(self: Box<Self>, status: Status) {
        self.reply.fail(status);
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

fn checked_range(message: &Bytes) -> Result<RangeRequest, Status> {
    let request = decode::<RangeRequest>(message)?;
    validate::range(&request)?;
    Ok(request)
}

pub(super) fn check_size<N: Node>(node: &Rc<N>, message: &Bytes) -> Result<(), Status> {
    if message.len() > node.limits().request_bytes { Err(REQUEST_TOO_LARGE) } else { Ok(()) }
}
