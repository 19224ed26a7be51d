//! HTTP/2, by `h2`: one task a connection, no task a call.
//!
//! A turn of the task: tell `h2` to go on, which receives frames and writes those that are queued; take the requests
//! that are whole to the service, whose answers, when they come at once, are frames already; send all that was
//! written. A request whose body is still on its way waits in [`Bodies`]; the guard, which sees every frame head,
//! says which of them got something.
//!
//! A connection that caused too much takes no new requests until it has less (see [`Calls::has_room`]), while frames
//! are still exchanged. A turn is bounded in bytes and in requests, after which the other connections of the shard
//! have theirs.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Ping, PingPong, RecvStream};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method as HttpMethod, Request, StatusCode};

use super::connections::{Connections, Control, Phase};
use super::grpc::{self, Assembler};
use super::guard::{Flood, Guard, Limits};
use super::options::{
    BODIES_BYTES_MAX, CONNECTION_WINDOW_BYTES, HEADER_LIST_BYTES, IDLE_FRAMES_PER_SECOND,
    RESETS_BEFORE_ACCEPT, RESETS_PER_SECOND, STREAM_QUEUED_BYTES_MAX, STREAM_WINDOW_BYTES,
    TURN_REQUESTS,
};
use super::reply::{self, Calls};
use super::sniff::PREFACE;
use super::statistics::add;
use super::transport::{Http2Io, Transport};
use super::{Options, http1};
use crate::api::{Code, Method, Service, Status};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// `h2` has said good-bye, or the socket is broken, or the shard's clock ended it.
    Done,
    /// The client floods.
    Flood(Flood),
}

/// Serves a connection until it ends.
pub(super) async fn serve<S: Service>(
    transport: &Rc<Transport>,
    service: Rc<S>,
    connections: &Rc<Connections>,
    control: &Rc<Control>,
) {
    let options = connections.options();
    control.enter(Phase::Http2, connections.tick());
    let limits = Limits {
        idle_frames_per_second: IDLE_FRAMES_PER_SECOND,
        resets_per_second: RESETS_PER_SECOND,
        ping_interval_min: options.keepalive_min_time,
    };
    transport.set_guard(Guard::new(limits), PREFACE.len());

    // The preface has been received and flushing is ours, so this does not wait.
    let Ok(h2) = builder(options).handshake(Http2Io(Rc::clone(transport))).await else { return };
    let calls = Calls::new(Rc::clone(connections), Rc::clone(control));
    let mut connection = Connection {
        h2,
        transport: Rc::clone(transport),
        control: Rc::clone(control),
        connections: Rc::clone(connections),
        calls: Rc::clone(&calls),
        service,
        bodies: Bodies::default(),
        pings: None,
        draining: false,
        now: None,
    };
    let end = std::future::poll_fn(|context| connection.turn(context)).await;
    calls.close();
    if let End::Flood(flood) = end {
        add(&connections.statistics().floods, 1);
        transport.append_frame(&go_away(transport, flood));
    }
}

fn builder(options: &Options) -> server::Builder {
    let streams_max = options.streams_max;
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(streams_max)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_send_buffer_size(STREAM_QUEUED_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_BEFORE_ACCEPT)
        // Small pieces of bodies, of which each stream may have some before it is taken.
        .data_frame_budget(usize::try_from(streams_max).unwrap_or(usize::MAX).saturating_mul(512));
    builder
}

/// A GOAWAY frame that calls for calm and says why, which `h2` does not let its user do.
fn go_away(transport: &Transport, flood: Flood) -> Vec<u8> {
    let reason = flood.reason().as_bytes();
    let stream_last = transport.with_guard(|guard| guard.stream_last()).unwrap_or_default();
    let length = u8::try_from(8 + reason.len()).expect("invariant: the reasons are short");
    let mut frame = vec![0, 0, length, 7, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&stream_last.to_be_bytes());
    frame.extend_from_slice(&u32::from(h2::Reason::ENHANCE_YOUR_CALM).to_be_bytes());
    frame.extend_from_slice(reason);
    frame
}

struct Connection<S> {
    h2: server::Connection<Http2Io, Bytes>,
    transport: Rc<Transport>,
    control: Rc<Control>,
    connections: Rc<Connections>,
    calls: Rc<Calls>,
    service: Rc<S>,
    bodies: Bodies,
    pings: Option<PingPong>,
    draining: bool,
    /// The time of this turn, once something needed it.
    now: Option<Instant>,
}

/// Requests whose body is not whole, by stream.
#[derive(Default)]
struct Bodies {
    waiting: BTreeMap<u32, Body>,
    bytes: usize,
    /// Reused between turns.
    touched: Vec<u32>,
}

struct Body {
    key: usize,
    target: Target,
    recv: RecvStream,
    assembler: Assembler,
    /// What it counts in [`Bodies::bytes`].
    bytes: usize,
    /// The deadline is ours, and ends with the body.
    deadline_is_ours: bool,
}

/// Where a request goes once it is whole.
enum Target {
    Call(Method),
    Http(Box<(Parts, SendResponse<Bytes>)>),
}

/// What became of a body.
enum Fed {
    Whole,
    Partial,
    Gone,
    Refused(Status),
}

impl<S: Service> Connection<S> {
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<End> {
        self.control.register(context);
        self.transport.turn_begin();
        self.now = None;
        if self.control.close.get() {
            return Poll::Ready(End::Done);
        }
        self.obey();
        if self.calls.take_answered() {
            self.transport.with_guard(Guard::forgive_pings);
        }

        let mut requests = 0;
        let ended = self.drive(context, &mut requests);
        self.feed_bodies();
        if self.transport.poll_send(context).map(|sent| sent.is_err()) == Poll::Ready(true) {
            return Poll::Ready(End::Done);
        }
        if let Some(flood) = self.transport.with_guard(|guard| guard.flood()).flatten() {
            return Poll::Ready(End::Flood(flood));
        }
        if ended.is_ready() {
            return Poll::Ready(End::Done);
        }
        self.calls.wake_waiting();
        self.transport.calls_open.set(self.calls.len());
        if requests >= TURN_REQUESTS
            || self.transport.turn_unfinished()
            || self.calls.room_regained()
        {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Carries out what the shard's clock or a drain has ordered.
    fn obey(&mut self) {
        if self.control.drain.get() && !self.draining {
            self.draining = true;
            self.h2.graceful_shutdown();
        }
        if self.control.ping.take() {
            if self.pings.is_none() {
                self.pings = self.h2.ping_pong();
            }
            if let Some(pings) = &mut self.pings {
                // Clears the answer to the last one. One that is still under way serves as well as a second.
                let mut context = Context::from_waker(Waker::noop());
                if pings.poll_pong(&mut context).is_pending() {
                    tracing::trace!("the last ping was the first, or has no answer yet");
                }
                pings.send_ping(Ping::opaque()).ok();
            }
        }
    }

    /// Lets `h2` exchange frames, and takes the requests. Ready when the connection has ended.
    fn drive(&mut self, context: &mut Context<'_>, requests: &mut usize) -> Poll<()> {
        while *requests < TURN_REQUESTS {
            if !self.calls.has_room() {
                return self.h2.poll_closed(context).map(|_| ());
            }
            match self.h2.poll_accept(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
                Poll::Ready(Some(Ok((request, respond)))) => {
                    *requests += 1;
                    self.accept(request, respond);
                }
            }
        }
        Poll::Pending
    }

    fn accept(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        match route(&request) {
            Route::Call(method, timeout) => {
                self.accept_call(method, timeout, request.into_body(), respond);
            }
            Route::Refused(http, status) => {
                reply::refuse(respond, http, &status, &self.connections);
            }
            Route::Unsupported => {
                let text = "this path takes content-type application/grpc\n";
                let response = http1::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
                reply::answer_http(&self.calls, respond, response);
            }
            Route::Http => {
                let (parts, recv) = request.into_parts();
                let key = self.calls.open(None, None);
                self.begin(key, Target::Http(Box::new((parts, respond))), recv);
            }
        }
    }

    fn accept_call(
        &mut self,
        method: Method,
        timeout: Option<Duration>,
        recv: RecvStream,
        respond: SendResponse<Bytes>,
    ) {
        let key = self.calls.open(Some(method), Some(respond));
        if let Some(timeout) = timeout {
            if timeout.is_zero() {
                self.calls.expire(key);
                self.calls.release(key, Code::DeadlineExceeded);
                return;
            }
            let now = *self.now.get_or_insert_with(Instant::now);
            self.calls.set_deadline(key, Some(now + timeout));
        }
        self.begin(key, Target::Call(method), recv);
    }

    /// Hands a request to the service if its body is there, as it nearly always is, or else lets it wait.
    fn begin(&mut self, key: usize, target: Target, mut recv: RecvStream) {
        let bytes_max = self.connections.options().message_bytes_max;
        let mut assembler = match target {
            Target::Call(_) => Assembler::framed(bytes_max),
            Target::Http(_) => Assembler::plain(bytes_max),
        };
        match feed(&mut recv, &mut assembler) {
            Fed::Partial => {
                let stream = recv.stream_id().as_u32();
                let bytes = assembler.len();
                let deadline_is_ours = self.limit_body_time(key);
                let body = Body { key, target, recv, assembler, bytes, deadline_is_ours };
                self.bodies.bytes += bytes;
                self.bodies.waiting.insert(stream, body);
                self.transport.with_guard(|guard| guard.want_touched(true));
            }
            fed => self.end_body(key, target, assembler, fed),
        }
    }

    /// A body that never ends may not be waited for for ever. True when this set a deadline.
    fn limit_body_time(&self, key: usize) -> bool {
        if self.calls.has_deadline(key) {
            return false;
        }
        let timeout = self.connections.options().body_timeout;
        self.calls.set_deadline(key, Some(Instant::now() + timeout));
        true
    }

    fn end_body(&mut self, key: usize, target: Target, assembler: Assembler, fed: Fed) {
        let body = match fed {
            Fed::Whole => assembler.finish(),
            Fed::Refused(status) => Err(status),
            Fed::Partial | Fed::Gone => {
                self.calls.release(key, Code::Cancelled);
                return;
            }
        };
        match (target, body) {
            (Target::Call(method), Ok(message)) => {
                let call = self.calls.start(key, method, message);
                self.service.call(call);
            }
            (Target::Call(_), Err(status)) => self.calls.refuse(key, status),
            (Target::Http(request), Ok(body)) => {
                let (parts, respond) = *request;
                self.start_http(key, parts, body, respond);
            }
            (Target::Http(request), Err(_)) => {
                let (_, respond) = *request;
                let text = "the request body is too large\n";
                let response = http1::plain(StatusCode::PAYLOAD_TOO_LARGE, text);
                reply::answer_http(&self.calls, respond, response);
                self.calls.release(key, Code::ResourceExhausted);
            }
        }
    }

    /// A plain request may wait for something, and is rare: it gets a task.
    fn start_http(&self, key: usize, parts: Parts, body: Bytes, respond: SendResponse<Bytes>) {
        add(&self.connections.statistics().http_requests, 1);
        let service = Rc::clone(&self.service);
        let calls = Rc::clone(&self.calls);
        let is_head = parts.method == HttpMethod::HEAD;
        glommio::spawn_local(async move {
            let mut response = service.http(Request::from_parts(parts, body)).await;
            if is_head {
                *response.body_mut() = Bytes::new();
            }
            reply::answer_http(&calls, respond, response);
            calls.release(key, Code::Ok);
        })
        .detach();
    }

    /// Gives the bodies that wait what has come for them.
    fn feed_bodies(&mut self) {
        if self.bodies.waiting.is_empty() {
            return;
        }
        let mut touched = std::mem::take(&mut self.bodies.touched);
        self.transport.with_guard(|guard| guard.take_touched(&mut touched));
        for stream in touched.drain(..) {
            self.feed_body(stream);
        }
        self.bodies.touched = touched;

        if self.calls.take_expired() {
            let calls = &self.calls;
            let is_gone = |body: &Body| calls.is_expired(body.key);
            let gone: Vec<u32> = (self.bodies.waiting.iter())
                .filter_map(|(stream, body)| is_gone(body).then_some(*stream))
                .collect();
            for stream in gone {
                if let Some(body) = self.bodies.remove(stream) {
                    self.calls.release(body.key, Code::DeadlineExceeded);
                }
            }
        }
        if self.bodies.waiting.is_empty() {
            self.transport.with_guard(|guard| guard.want_touched(false));
        }
    }

    fn feed_body(&mut self, stream: u32) {
        let Some(body) = self.bodies.waiting.get_mut(&stream) else { return };
        let mut fed = feed(&mut body.recv, &mut body.assembler);
        let bytes = body.assembler.len();
        self.bodies.bytes = self.bodies.bytes - std::mem::replace(&mut body.bytes, bytes) + bytes;
        if matches!(fed, Fed::Partial) {
            if self.bodies.bytes <= BODIES_BYTES_MAX {
                return;
            }
            let text = "too many incomplete requests on one connection";
            fed = Fed::Refused(Status::new(Code::ResourceExhausted, text));
        }
        let Some(body) = self.bodies.remove(stream) else { return };
        if body.deadline_is_ours {
            self.calls.set_deadline(body.key, None);
        }
        self.end_body(body.key, body.target, body.assembler, fed);
    }
}

impl Bodies {
    fn remove(&mut self, stream: u32) -> Option<Body> {
        let body = self.waiting.remove(&stream)?;
        self.bytes -= body.bytes;
        Some(body)
    }
}

/// Moves what has come of a body into `assembler`, and gives the client its window back.
fn feed(recv: &mut RecvStream, assembler: &mut Assembler) -> Fed {
    // The guard tells when there is more, so `h2` need not.
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match recv.poll_data(&mut context) {
            Poll::Pending => return Fed::Partial,
            Poll::Ready(None) => return Fed::Whole,
            Poll::Ready(Some(Err(_))) => return Fed::Gone,
            Poll::Ready(Some(Ok(chunk))) => {
                recv.flow_control().release_capacity(chunk.len()).ok();
                if let Err(status) = assembler.push(chunk) {
                    return Fed::Refused(status);
                }
                if recv.is_end_stream() {
                    return Fed::Whole;
                }
            }
        }
    }
}

/// What a request is, by its head.
enum Route {
    /// A gRPC call, and how long its caller waits.
    Call(Method, Option<Duration>),
    /// A gRPC call that cannot be; with the HTTP status that Go's gRPC uses.
    Refused(StatusCode, Status),
    /// The path of a gRPC method, but not gRPC.
    Unsupported,
    /// Something for the plain endpoints.
    Http,
}

fn route<B>(request: &Request<B>) -> Route {
    let path = request.uri().path();
    let headers = request.headers();
    let header = |name| headers.get(name).map(|value: &http::HeaderValue| value.as_bytes());
    let method = Method::parse(path);
    if !headers.get(CONTENT_TYPE).is_some_and(|value| grpc::is_grpc(value.as_bytes())) {
        return if method.is_some() { Route::Unsupported } else { Route::Http };
    }
    if request.method() != HttpMethod::POST {
        let text = format!("a gRPC call needs the method POST, not {}", request.method());
        return Route::Refused(StatusCode::METHOD_NOT_ALLOWED, Status::new(Code::Internal, text));
    }
    let timeout = match header("grpc-timeout").map(grpc::parse_timeout).transpose() {
        Ok(timeout) => timeout,
        Err(status) => return Route::Refused(StatusCode::BAD_REQUEST, status),
    };
    let Some(method) = method else {
        return Route::Refused(StatusCode::OK, grpc::unknown_method(path, Method::is_service));
    };
    if let Err(status) = header("grpc-encoding").map_or(Ok(()), grpc::check_encoding) {
        return Route::Refused(StatusCode::OK, status);
    }
    Route::Call(method, timeout)
}
