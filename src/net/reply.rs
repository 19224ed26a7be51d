//! The calls of one HTTP/2 connection, and the way their answers go back.
//!
//! Every call has a slot from the moment its stream is accepted until the service has let go of its [`Reply`],
//! whatever became of the stream meanwhile. So the number of slots is the work a client has caused, and a client that
//! resets its streams to be allowed new ones gains nothing. The slot owns `h2`'s half of the stream: when the stream
//! ends early (deadline, closed connection) the slot lets go of it at once, and the service's late answer falls into
//! the void.
//!
//! Answering is synchronous and costs no task: `h2` queues the frames and wakes the connection's task, once for
//! however many answers come before it runs.
//!
//! What is queued and not sent is counted, in bytes of answers that are not tiny; the connection takes no new
//! requests beyond [`QUEUED_BYTES_MAX`]. A unary answer is whatever size the service made it: the service bounds that.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use slab::Slab;

use super::connections::{Connections, Control};
use super::options::{HELD_BYTES_MAX, QUEUED_BYTES_MAX, QUEUED_COUNTED_BYTES_MIN};
use super::{deadline, grpc};
use crate::api::{Call, Cancelled, Code, Encoded, Method, Reply, ReplyStream, Status};

static GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
static IDENTITY: HeaderValue = HeaderValue::from_static("identity");

thread_local! {
    /// What every answer with a message begins and ends with. To copy a map of one entry is cheaper than to fill one.
    static OK: (HeaderMap, HeaderMap) = {
        let mut trailers = HeaderMap::new();
        insert_status(&mut trailers, &Status::OK);
        (headers(StatusCode::OK).into_parts().0.headers, trailers)
    };
}

/// The calls of one connection that the service, or the rest of a request, is waited for.
pub(super) struct Calls {
    connections: Rc<Connections>,
    control: Rc<Control>,
    slots: RefCell<Slab<Slot>>,
    /// Bytes of requests in the slots.
    held: Cell<usize>,
    /// Bytes of answers that `h2` has and the socket has not. Shared with the answers themselves.
    queued: Arc<AtomicUsize>,
    /// The connection takes no new requests until there is room.
    gated: Cell<bool>,
    /// Some stream waits for `queued` to fall.
    waiting: Cell<bool>,
    /// A deadline passed since the connection's task last asked.
    expired: Cell<bool>,
    /// Something was answered since the connection's task last asked.
    answered: Cell<bool>,
}

struct Slot {
    way: Way,
    /// `None` for a plain HTTP request.
    method: Option<Method>,
    deadline: Option<deadline::Key>,
    /// Bytes of the request.
    held: usize,
    /// The service has the call.
    started: bool,
    /// The deadline has passed, and the caller was told.
    expired: bool,
    /// Who waits for something to happen to the stream.
    waker: Option<Waker>,
}

/// Where an answer goes.
enum Way {
    Response(SendResponse<Bytes>),
    Stream(SendStream<Bytes>),
    Gone,
}

impl Calls {
    pub(super) fn new(connections: Rc<Connections>, control: Rc<Control>) -> Rc<Self> {
        Rc::new(Self {
            connections,
            control,
            slots: RefCell::new(Slab::new()),
            held: Cell::new(0),
            queued: Arc::new(AtomicUsize::new(0)),
            gated: Cell::new(false),
            waiting: Cell::new(false),
            expired: Cell::new(false),
            answered: Cell::new(false),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Whether there is room for another request. Without, the connection's task is woken once there is.
    pub(super) fn has_room(&self) -> bool {
        let has_room = self.len() < self.connections.options().streams_max as usize
            && self.held.get() <= HELD_BYTES_MAX
            && self.queued.load(Ordering::Relaxed) <= QUEUED_BYTES_MAX;
        self.gated.set(!has_room);
        has_room
    }

    /// Whether the connection waits for room that there is by now.
    pub(super) fn room_regained(&self) -> bool {
        self.gated.get() && self.has_room()
    }

    /// Whether a deadline passed since the last time.
    pub(super) fn take_expired(&self) -> bool {
        self.expired.take()
    }

    /// Whether something was answered since the last time.
    pub(super) fn take_answered(&self) -> bool {
        self.answered.take()
    }

    /// Wakes the streams that wait for room, when there is some. The connection's task calls it after it sent.
    pub(super) fn wake_waiting(&self) {
        if self.waiting.get() && self.queued.load(Ordering::Relaxed) <= QUEUED_BYTES_MAX {
            self.waiting.set(false);
            for (_, slot) in self.slots.borrow_mut().iter_mut() {
                slot.wake();
            }
        }
    }

    /// A slot for a stream that was accepted. [`Calls::release`] must follow, or [`Calls::start`].
    pub(super) fn open(
        &self,
        method: Option<Method>,
        respond: Option<SendResponse<Bytes>>,
    ) -> usize {
        self.slots.borrow_mut().insert(Slot {
            way: respond.map_or(Way::Gone, Way::Response),
            method,
            deadline: None,
            held: 0,
            started: false,
            expired: false,
            waker: None,
        })
    }

    /// Sets the deadline of a call, or takes it off.
    pub(super) fn set_deadline(self: &Rc<Self>, key: usize, at: Option<Instant>) {
        let deadline = at.map(|at| self.connections.deadline_insert(at, Rc::downgrade(self), key));
        let before = match self.slots.borrow_mut().get_mut(key) {
            Some(slot) => std::mem::replace(&mut slot.deadline, deadline),
            None => deadline,
        };
        if let Some(before) = before {
            self.connections.deadline_remove(before);
        }
    }

    pub(super) fn has_deadline(&self, key: usize) -> bool {
        self.slots.borrow().get(key).is_some_and(|slot| slot.deadline.is_some())
    }

    /// Whether the deadline of a call has passed.
    pub(super) fn is_expired(&self, key: usize) -> bool {
        self.slots.borrow().get(key).is_none_or(|slot| slot.expired)
    }

    /// Makes a call whose request is whole.
    pub(super) fn start(self: &Rc<Self>, key: usize, method: Method, message: Bytes) -> Call {
        if let Some(slot) = self.slots.borrow_mut().get_mut(key) {
            slot.started = true;
            slot.held = message.len();
            self.held.set(self.held.get() + message.len());
        }
        self.connections.statistics().call_started(method, message.len());
        let ticket = Ticket { calls: Rc::clone(self), key, code: Code::Internal };
        Call { method, message, reply: Box::new(GrpcReply { ticket }) }
    }

    /// Ends a call that never reached the service with a status.
    pub(super) fn refuse(&self, key: usize, status: Status) {
        if let Some(respond) = self.take_response(key) {
            refuse(respond, StatusCode::OK, &status, &self.connections);
        }
        self.release(key, status.code);
    }

    /// Frees the slot: nobody will answer any more.
    pub(super) fn release(&self, key: usize, code: Code) {
        let Some(slot) = self.slots.borrow_mut().try_remove(key) else { return };
        self.answered.set(true);
        self.held.set(self.held.get() - slot.held);
        if let Some(deadline) = slot.deadline {
            self.connections.deadline_remove(deadline);
        }
        if slot.started
            && let Some(method) = slot.method
        {
            let code = if slot.expired { Code::DeadlineExceeded } else { code };
            self.connections.statistics().call_handled(method, code);
        }
        match slot.way {
            Way::Gone => {}
            Way::Response(respond) => fail(respond, StatusCode::OK, &Self::unanswered()),
            Way::Stream(stream) => end(stream, &Self::unanswered()),
        }
        if self.gated.get() {
            self.control.wake();
        }
    }

    fn unanswered() -> Status {
        Status::new(Code::Internal, "the server dropped the call")
    }

    /// The deadline of a call has passed: tells the caller, and forgets the stream.
    pub(super) fn expire(&self, key: usize) {
        let way = match self.slots.borrow_mut().get_mut(key) {
            Some(slot) => {
                slot.deadline = None;
                slot.expired = true;
                slot.wake();
                std::mem::replace(&mut slot.way, Way::Gone)
            }
            None => return,
        };
        let status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
        match way {
            Way::Response(respond) => fail(respond, StatusCode::OK, &status),
            Way::Stream(stream) => end(stream, &status),
            Way::Gone => {}
        }
        self.expired.set(true);
        self.control.wake();
    }

    /// The connection has ended: all streams are gone.
    pub(super) fn close(&self) {
        let mut gone = Vec::new();
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            gone.push(std::mem::replace(&mut slot.way, Way::Gone));
            slot.wake();
        }
    }

    fn take_response(&self, key: usize) -> Option<SendResponse<Bytes>> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(key)?;
        match std::mem::replace(&mut slot.way, Way::Gone) {
            Way::Response(respond) => Some(respond),
            way => {
                slot.way = way;
                None
            }
        }
    }

    fn take_stream(&self, key: usize) -> Option<SendStream<Bytes>> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(key)?;
        match std::mem::replace(&mut slot.way, Way::Gone) {
            Way::Stream(stream) => Some(stream),
            way => {
                slot.way = way;
                None
            }
        }
    }

    /// Sends the one message of an answer; says how the call ended.
    fn answer_unary(&self, key: usize, message: Encoded) -> Code {
        let Some(mut respond) = self.take_response(key) else { return Code::Cancelled };
        let bytes = message.payload_len();
        let Some(frame) = message.into_frame() else {
            let status = Status::new(
                Code::ResourceExhausted,
                format!("grpc: trying to send message larger than max ({bytes} vs. {})", u32::MAX),
            );
            fail(respond, StatusCode::OK, &status);
            return status.code;
        };
        let (headers, trailers) = OK.with(Clone::clone);
        let mut response = Response::new(());
        *response.headers_mut() = headers;
        let Ok(mut stream) = respond.send_response(response, false) else {
            return Code::Cancelled;
        };
        if stream.send_data(count_queued(frame, &self.queued), false).is_err()
            || stream.send_trailers(trailers).is_err()
        {
            return Code::Cancelled;
        }
        self.count_sent(key, bytes);
        Code::Ok
    }

    /// Sends the headers of a streamed answer.
    fn begin_stream(&self, key: usize) {
        let Some(mut respond) = self.take_response(key) else { return };
        if let Ok(stream) = respond.send_response(headers(StatusCode::OK), false)
            && let Some(slot) = self.slots.borrow_mut().get_mut(key)
        {
            slot.way = Way::Stream(stream);
        }
    }

    fn send_on_stream(&self, key: usize, message: Encoded) {
        let bytes = message.payload_len();
        {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.get_mut(key) else { return };
            let Way::Stream(stream) = &mut slot.way else { return };
            let Some(frame) = message.into_frame() else {
                // A message that no frame can carry breaks the stream: to leave it out would be a lie.
                stream.send_reset(Reason::INTERNAL_ERROR);
                slot.way = Way::Gone;
                return;
            };
            if stream.send_data(count_queued(frame, &self.queued), false).is_err() {
                return;
            }
        }
        self.count_sent(key, bytes);
    }

    fn count_sent(&self, key: usize, bytes: usize) {
        self.answered.set(true);
        if let Some(method) = self.slots.borrow().get(key).and_then(|slot| slot.method) {
            self.connections.statistics().call_sent(method, bytes);
        }
    }

    fn poll_stream_ready(
        &self,
        key: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Cancelled>> {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(key) else { return Poll::Ready(Err(Cancelled)) };
        let Way::Stream(stream) = &mut slot.way else { return Poll::Ready(Err(Cancelled)) };
        if stream.poll_reset(context).is_ready() {
            return Poll::Ready(Err(Cancelled));
        }
        if self.queued.load(Ordering::Relaxed) > QUEUED_BYTES_MAX {
            slot.wait(context);
            self.waiting.set(true);
            return Poll::Pending;
        }
        // One byte of window is enough to begin: a message larger than the window queues the rest.
        while stream.capacity() == 0 {
            stream.reserve_capacity(1);
            if stream.capacity() > 0 {
                break;
            }
            match stream.poll_capacity(context) {
                Poll::Pending => {
                    slot.wait(context);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(Err(Cancelled)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_stream_cancelled(&self, key: usize, context: &mut Context<'_>) -> Poll<()> {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(key) else { return Poll::Ready(()) };
        let Way::Stream(stream) = &mut slot.way else { return Poll::Ready(()) };
        if stream.poll_reset(context).is_ready() {
            return Poll::Ready(());
        }
        slot.wait(context);
        Poll::Pending
    }
}

impl Slot {
    /// Remembers whom to wake when the deadline passes, the connection ends, or there is room. `h2` itself wakes for
    /// what happens to the stream.
    fn wait(&mut self, context: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            self.waker = Some(context.waker().clone());
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Bytes that count as queued until they are dropped, which `h2` does once they are written or their stream is reset.
struct Queued {
    bytes: Bytes,
    queued: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Queued {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

fn count_queued(bytes: Bytes, queued: &Arc<AtomicUsize>) -> Bytes {
    if bytes.len() < QUEUED_COUNTED_BYTES_MIN {
        return bytes;
    }
    queued.fetch_add(bytes.len(), Ordering::Relaxed);
    Bytes::from_owner(Queued { bytes, queued: Arc::clone(queued) })
}

fn headers(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, GRPC.clone());
    response
}

fn insert_status(headers: &mut HeaderMap, status: &Status) {
    headers.insert(GRPC_STATUS.clone(), HeaderValue::from(status.code as u16));
    if !status.message.is_empty()
        && let Ok(message) = HeaderValue::from_maybe_shared(grpc::encode_message(&status.message))
    {
        headers.insert(GRPC_MESSAGE.clone(), message);
    }
}

/// Answers with a status and no message. An error of `h2` here and below says that the stream is gone already.
fn fail(mut respond: SendResponse<Bytes>, http: StatusCode, status: &Status) {
    let mut response = headers(http);
    insert_status(response.headers_mut(), status);
    // Required where an encoding was refused, and true everywhere.
    if status.code == Code::Unimplemented {
        response.headers_mut().insert(GRPC_ACCEPT_ENCODING.clone(), IDENTITY.clone());
    }
    respond.send_response(response, true).ok();
}

/// Ends a stream that may have sent messages.
fn end(mut stream: SendStream<Bytes>, status: &Status) {
    let mut trailers = HeaderMap::with_capacity(2);
    insert_status(&mut trailers, status);
    stream.send_trailers(trailers).ok();
}

/// Refuses a request before it is a call.
pub(super) fn refuse(
    respond: SendResponse<Bytes>,
    http: StatusCode,
    status: &Status,
    connections: &Connections,
) {
    super::statistics::add(&connections.statistics().refused, 1);
    fail(respond, http, status);
}

/// Answers a plain HTTP request; the body counts as queued until it is sent.
pub(super) fn answer_http(
    calls: &Calls,
    mut respond: SendResponse<Bytes>,
    response: Response<Bytes>,
) {
    let (parts, body) = response.into_parts();
    let is_end = body.is_empty();
    let Ok(mut stream) = respond.send_response(Response::from_parts(parts, ()), is_end) else {
        return;
    };
    if !is_end {
        stream.send_data(count_queued(body, &calls.queued), true).ok();
    }
}

/// The right to answer one call. However it is dropped, the slot is freed, and a caller who was told nothing is told
/// that something broke.
struct Ticket {
    calls: Rc<Calls>,
    key: usize,
    /// How the call ended, for the statistics.
    code: Code,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.calls.release(self.key, self.code);
    }
}

/// The way back of a call that has not been answered.
struct GrpcReply {
    ticket: Ticket,
}

impl Reply for GrpcReply {
    fn unary(self: Box<Self>, message: Encoded) {
        let Self { mut ticket } = *self;
        ticket.code = ticket.calls.answer_unary(ticket.key, message);
    }

    fn fail(self: Box<Self>, status: Status) {
        let Self { mut ticket } = *self;
        ticket.code = match ticket.calls.take_response(ticket.key) {
            Some(respond) => {
                fail(respond, StatusCode::OK, &status);
                status.code
            }
            None => Code::Cancelled,
        };
    }

    fn stream(self: Box<Self>) -> Box<dyn ReplyStream> {
        let Self { ticket } = *self;
        ticket.calls.begin_stream(ticket.key);
        Box::new(GrpcStream { ticket })
    }

    fn cancelled(&self) -> bool {
        let mut slots = self.ticket.calls.slots.borrow_mut();
        match slots.get_mut(self.ticket.key).map(|slot| &mut slot.way) {
            Some(Way::Response(respond)) => {
                respond.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready()
            }
            _ => true,
        }
    }

    fn congested(&self) -> bool {
        self.ticket.calls.queued.load(Ordering::Relaxed) > QUEUED_BYTES_MAX
    }
}

/// The way back of a call that answers with a stream.
struct GrpcStream {
    ticket: Ticket,
}

impl ReplyStream for GrpcStream {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Cancelled>> {
        self.ticket.calls.poll_stream_ready(self.ticket.key, context)
    }

    fn poll_cancelled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.ticket.calls.poll_stream_cancelled(self.ticket.key, context)
    }

    fn send(&mut self, message: Encoded) {
        self.ticket.calls.send_on_stream(self.ticket.key, message);
    }

    fn finish(self: Box<Self>, status: Status) {
        let Self { mut ticket } = *self;
        ticket.code = match ticket.calls.take_stream(ticket.key) {
            Some(stream) => {
                end(stream, &status);
                status.code
            }
            None => Code::Cancelled,
        };
    }
}
