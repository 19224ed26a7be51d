//! The narrow interface between a wire codec and the services.
//!
//! A codec (`net`'s HTTP/2 with gRPC framing) turns bytes into a [`Call`] and implements [`Reply`]; the services know
//! neither frames nor sockets. Another codec can take its place without the services noticing.

use std::borrow::Cow;
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};

use crate::api::Method;

/// gRPC's status codes, with their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The caller went away.
    Cancelled = 1,
    /// No better code is known.
    Unknown = 2,
    /// The request is wrong whatever the state.
    InvalidArgument = 3,
    /// The deadline passed first.
    DeadlineExceeded = 4,
    /// What was named does not exist.
    NotFound = 5,
    /// Not allowed.
    PermissionDenied = 7,
    /// A limit was reached.
    ResourceExhausted = 8,
    /// The state does not allow it.
    FailedPrecondition = 9,
    /// Outside the valid range, such as a compacted revision.
    OutOfRange = 11,
    /// The method does not exist here.
    Unimplemented = 12,
    /// An invariant broke.
    Internal = 13,
    /// Try again, perhaps elsewhere.
    Unavailable = 14,
    /// Data was lost.
    DataLoss = 15,
}

/// How a call ended: a gRPC code, and the text that clients compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The gRPC code.
    pub code: Code,
    /// Human-readable, and matched literally by etcd's clients.
    pub message: Cow<'static, str>,
}

impl Status {
    /// Success, without a text.
    pub const OK: Self = Self { code: Code::Ok, message: Cow::Borrowed("") };

    /// A status with a fixed or a composed text.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

/// An encoded protobuf message with room for gRPC's frame head in front, so that framing it copies nothing.
#[derive(Debug)]
pub struct Encoded(BytesMut);

impl Encoded {
    /// gRPC's frame head: a compression flag and the length, big-endian.
    pub const HEAD_BYTES: usize = 5;

    /// An empty message with room for `payload` bytes.
    pub fn with_capacity(payload: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(Self::HEAD_BYTES + payload);
        buffer.put_bytes(0, Self::HEAD_BYTES);
        Self(buffer)
    }

    /// Encodes `message`.
    pub fn new(message: &impl prost::Message) -> Self {
        let mut encoded = Self::with_capacity(message.encoded_len());
        encoded.append(message);
        encoded
    }

    /// Appends the fields of `message`; protobuf merges what is concatenated.
    pub fn append(&mut self, message: &impl prost::Message) {
        message.encode(&mut self.0).expect("invariant: a BytesMut grows as needed");
    }

    /// Where a writer of its own appends encoded fields.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.0
    }

    /// Bytes of the message, without the head.
    pub fn payload_len(&self) -> usize {
        self.0.len() - Self::HEAD_BYTES
    }

    /// The message without the head.
    pub fn into_payload(self) -> Bytes {
        self.0.freeze().slice(Self::HEAD_BYTES..)
    }

    /// The message as an uncompressed gRPC frame, or `None` if its length does not fit the head's four bytes.
    pub fn frame(&mut self) -> Option<&[u8]> {
        let length = u32::try_from(self.payload_len()).ok()?;
        let (head, _) = self.0.split_at_mut_checked(Self::HEAD_BYTES)?;
        let (_flag, bytes) = head.split_first_mut()?;
        bytes.copy_from_slice(&length.to_be_bytes());
        Some(&self.0)
    }

    /// The frame that [`Encoded::frame`] has made.
    pub fn into_bytes(self) -> Bytes {
        self.0.freeze()
    }
}

/// One call whose request has arrived whole. Its message is within the limit that the codec was given. A call that
/// [streams its requests](Method::streams_requests) has begun: its message is empty, and what follows comes by
/// [`ReplyStream::poll_request`].
pub struct Call {
    /// What is called.
    pub method: Method,
    /// The caller does not want to wait for a leader.
    pub needs_leader: bool,
    /// The request message, not yet decoded.
    pub message: Bytes,
    /// Where the answer goes.
    pub reply: Box<dyn Reply>,
}

/// The way back to the caller. It is answered once; an answer to a caller who has gone is dropped silently.
pub trait Reply {
    /// Answers with one message and status OK.
    fn unary(self: Box<Self>, message: Encoded);
    /// Answers with a status that is not OK, and no message.
    fn fail(self: Box<Self>, status: Status);
    /// Answers with a stream of messages.
    fn stream(self: Box<Self>) -> Box<dyn ReplyStream>;
    /// Whether the caller has gone, or its deadline has passed: work for it can be skipped.
    fn cancelled(&self) -> bool;
    /// Whether so much is queued for this caller's connection that a large answer should not even be made yet.
    fn congested(&self) -> bool;
}

/// The caller of a stream went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

/// The way back to the caller of a server stream. Dropped without `finish`, it ends the call as an internal error.
pub trait ReplyStream {
    /// Ready when the caller has taken enough of what was sent that the next message may be queued.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Cancelled>>;
    /// Ready once the caller has gone or its deadline has passed: for those who wait for something to send.
    fn poll_cancelled(&mut self, context: &mut Context<'_>) -> Poll<()>;
    /// The next request of a call that streams them; `None` once the caller has sent all. An error ends the call.
    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>;
    /// Queues a message. Callers wait for [`ReplyStream::poll_ready`] first, which bounds what is queued.
    fn send(&mut self, message: Encoded);
    /// Ends the stream.
    fn finish(self: Box<Self>, status: Status);
}

/// The body of a plain HTTP answer.
pub enum Body {
    /// At hand.
    Whole(Bytes),
    /// In pieces, as there is something to say.
    Pieces(Box<dyn Pieces>),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

/// A body in the making. Dropped when it has ended, or when its caller has gone away.
pub trait Pieces {
    /// The next piece; `None` ends the body.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

/// What a listener serves. One instance a shard.
pub trait Service: 'static {
    /// Starts a call; the answer goes to its [`Reply`], now or later. Never blocks.
    fn call(self: &Rc<Self>, call: Call);
    /// Answers a plain HTTP request whose body has arrived whole.
    fn http(
        self: &Rc<Self>,
        request: http::Request<Bytes>,
    ) -> impl Future<Output = http::Response<Body>>;
}
