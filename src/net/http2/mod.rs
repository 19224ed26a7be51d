//! HTTP/2: one task a connection, no task a call.
//!
//! ```text
//! socket ─> Session::receive ─ whole requests ─> Service::call ─> Reply ─> Session::answer_* ─> Sender ─> socket
//!           (session.rs)                                                   (answer.rs)        (sender.rs)
//! ```
//!
//! A turn of the task: show what was received to the [`Session`], frame by frame; hand whole requests to the service,
//! whose answers, when they come at once, are frames already; send all that was written. An answer that comes later
//! writes its frames then, and wakes the task once for however many of them.
//!
//! A connection that caused too much (see [`Calls::has_room`]) hands no new requests to the service until it has
//! less, while frames are still exchanged. A turn is bounded in bytes and in requests, after which the other
//! connections of the shard have theirs.
//!
//! The codec is our own because it is most of what a small request costs: with the `h2` crate in its place a put
//! took half as much CPU again (`benches/RESULTS.md`).

mod answer;
mod calls;
mod guard;
mod head;
pub mod probe;
mod sender;
mod session;
mod stream;

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{Method as HttpMethod, Request, Response, StatusCode};

pub(super) use self::calls::Calls;
use self::guard::{Guard, Limits};
use self::head::{NeedsLeader, Target};
use self::session::{Event, Failure, Leaving, Session};
use super::connections::{Connections, Control, Phase};
use super::http1;
use super::options::{IDLE_FRAMES_PER_SECOND, RESETS_PER_SECOND, TURN_REQUESTS};
use super::sniff::PREFACE;
use super::statistics::add;
use super::transport::Transport;
use crate::api::{Body, Code, Method, Service, Status};

/// Serves a connection until it ends.
pub(super) async fn serve<S: Service>(
    transport: &Rc<Transport>,
    service: Rc<S>,
    connections: &Rc<Connections>,
    control: &Rc<Control>,
) {
    let options = connections.options();
    control.enter(Phase::Http2, connections.tick());
    let guard = Guard::new(Limits {
        idle_frames_per_second: IDLE_FRAMES_PER_SECOND,
        resets_per_second: RESETS_PER_SECOND,
        ping_interval_min: options.keepalive_min_time,
    });
    let session = Session::new(options.streams_max, options.message_bytes_max, guard);
    let calls = Calls::new(Rc::clone(connections), Rc::clone(control), session);
    let mut unread = transport.take_unread();
    unread.drain(..PREFACE.len().min(unread.len()));
    let mut connection = Connection {
        transport: Rc::clone(transport),
        control: Rc::clone(control),
        connections: Rc::clone(connections),
        calls: Rc::clone(&calls),
        service,
        unread,
        opened: Vec::new(),
        parked: VecDeque::new(),
        requests: 0,
        now: None,
    };
    let end = std::future::poll_fn(|context| connection.turn(context)).await;

    let mut session = calls.session();
    session.close();
    if let End::Failed(failure) = end {
        if matches!(failure, Failure::Flood(_)) {
            add(&connections.statistics().floods, 1);
        }
        session.fail(failure);
    }
    let unsent = std::mem::take(&mut session.sender.out);
    transport.leave_unsent(unsent, session.sender.sent);
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both sides are done, or the socket is broken, or the shard's clock ended it.
    Done,
    /// The client did what it may not.
    Failed(Failure),
}

struct Connection<S> {
    transport: Rc<Transport>,
    control: Rc<Control>,
    connections: Rc<Connections>,
    calls: Rc<Calls>,
    service: Rc<S>,
    /// Received, and left for the next turn.
    unread: Vec<u8>,
    /// Requests that began in this turn.
    opened: Vec<usize>,
    /// Whole requests that wait until there is room: slot and stream, since a slot may be another stream's by then.
    parked: VecDeque<(usize, u32)>,
    /// Requests that this turn has handed to the service.
    requests: usize,
    /// The time of this turn, once something needed it.
    now: Option<Instant>,
}

impl<S: Service> Connection<S> {
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<End> {
        self.control.register(context);
        self.transport.turn_begin();
        self.now = None;
        self.requests = 0;
        if self.control.close.get() {
            return Poll::Ready(End::Done);
        }
        let answered = self.calls.begin_turn();
        self.prepare(answered);
        self.unpark();
        let received = self.receive(context);
        let stopped = !self.calls.session().sender.has_room();
        self.limit_body_times();
        let sent = self.send(context);
        match (received, sent) {
            (Err(end), _) | (_, Err(end)) => return Poll::Ready(end),
            (Ok(true), Ok(_)) | (Ok(_), Ok(true)) => context.waker().wake_by_ref(),
            // Nothing waits for the socket's bytes, as there was no room for what they ask for.
            _ if stopped && self.calls.session().sender.has_room() => context.waker().wake_by_ref(),
            (Ok(false), Ok(false)) => {}
        }
        if self.has_left() {
            return Poll::Ready(End::Done);
        }
        self.calls.wake_waiting();
        if !self.parked.is_empty() && self.calls.has_room() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Carries out what the shard's clock or a drain has ordered.
    fn prepare(&self, answered: bool) {
        let drains = self.control.drain.get();
        let pings = self.control.ping.take();
        let mut session = self.calls.session();
        session.guard().set_second(self.connections.second());
        if answered {
            session.guard().forgive_pings();
        }
        if drains {
            session.leave();
        }
        if pings {
            session.send_ping();
        }
    }

    /// Whether an orderly end has come to its end.
    fn has_left(&self) -> bool {
        let session = self.calls.session();
        (session.leaving == Leaving::Told || session.client_leaves)
            && session.open.is_empty()
            && session.sender.out.is_empty()
    }

    /// Receives until the socket has no more, or the turn is over: true then.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let unread = std::mem::take(&mut self.unread);
        self.take(&unread)?;
        while self.unread.is_empty() && self.calls.session().sender.has_room() {
            let transport = Rc::clone(&self.transport);
            let mut taken = Ok(());
            match transport.poll_look(context, |bytes| taken = self.take(bytes)) {
                Poll::Pending => return Ok(transport.turn_unfinished()),
                Poll::Ready(Err(_) | Ok(0)) => return Err(End::Done),
                Poll::Ready(Ok(_)) => taken?,
            }
        }
        Ok(!self.unread.is_empty())
    }

    /// Follows received bytes, as far as the turn goes.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            if self.requests >= TURN_REQUESTS {
                self.unread.extend_from_slice(bytes);
                return Ok(());
            }
            let event = self.calls.session().receive(&mut bytes).map_err(End::Failed)?;
            if let Some(event) = event {
                self.on_event(event);
            }
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened { key, timeout, whole } => self.open(key, timeout, whole),
            Event::Whole(key) => self.whole(key),
            Event::Refused(key, status) => self.refuse(key, &status),
            Event::Gone(key) => {
                let handed =
                    (self.calls.session().streams.get(key)).is_none_or(|stream| stream.call.handed);
                if !handed {
                    self.parked.retain(|(parked, _)| *parked != key);
                    self.calls.release(key, Code::Cancelled);
                }
            }
        }
    }

    fn open(&mut self, key: usize, timeout: Option<Duration>, whole: bool) {
        let mut session = self.calls.session();
        let Some(stream) = session.streams.get_mut(key) else { return };
        match &stream.request.target {
            Some(Target::Refused(..)) => {
                if let Some(Target::Refused(http, status)) = stream.request.target.take() {
                    drop(session);
                    self.calls.refuse(key, http, &status);
                }
                return;
            }
            Some(Target::Unsupported) => {
                drop(session);
                let text = "this path takes content-type application/grpc\n";
                let response = http1::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
                self.calls.answer_http(key, response);
                return;
            }
            // It is handed on as it begins; what the client sends comes later.
            Some(Target::Call(method, needs_leader)) if method.streams_requests() => {
                let (method, needs_leader) = (*method, *needs_leader);
                stream.request.target = None;
                drop(session);
                if let Some(timeout) = timeout {
                    let now = self.now();
                    self.calls.set_deadline(key, Some(now + timeout), false);
                }
                self.requests += 1;
                return self.start_call(key, method, needs_leader, Bytes::new());
            }
            Some(Target::Call(..) | Target::Http(_)) | None => drop(session),
        }
        match timeout {
            Some(Duration::ZERO) => return self.calls.expire(key),
            Some(timeout) => {
                let now = self.now();
                self.calls.set_deadline(key, Some(now + timeout), false);
            }
            None if !whole => self.opened.push(key),
            None => {}
        }
        if whole {
            self.whole(key);
        }
    }

    fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    fn whole(&mut self, key: usize) {
        if self.parked.is_empty() && self.calls.has_room() {
            self.start(key);
        } else {
            let stream = self.calls.session().streams.get(key).map(|stream| stream.id);
            self.parked.extend(stream.map(|stream| (key, stream)));
            self.calls.parked.set(true);
        }
    }

    /// Hands parked requests on, as far as there is room.
    fn unpark(&mut self) {
        while self.requests < TURN_REQUESTS && self.calls.has_room() {
            let Some((key, stream)) = self.parked.pop_front() else { break };
            // Its deadline may have passed.
            if self.calls.waits(key, stream) {
                self.start(key);
            }
        }
        self.calls.parked.set(!self.parked.is_empty());
    }

    /// Hands a whole request to the service.
    fn start(&mut self, key: usize) {
        self.requests += 1;
        let Some((target, body, deadline_is_ours)) = self.calls.session().take_request(key) else {
            return;
        };
        if deadline_is_ours {
            self.calls.set_deadline(key, None, false);
        }
        match (target, body) {
            (Target::Call(method, needs_leader), Ok(message)) => {
                self.start_call(key, method, needs_leader, message);
            }
            (Target::Http(parts), Ok(body)) => self.start_http(key, *parts, body),
            (target, Err(status)) => self.refuse_as(key, &target, &status),
            (Target::Refused(..) | Target::Unsupported, Ok(_)) => {}
        }
    }

    fn start_call(&self, key: usize, method: Method, needs_leader: NeedsLeader, message: Bytes) {
        let call = self.calls.start(key, method, needs_leader, message);
        self.service.call(call);
    }

    /// A plain request may wait for something, and is rare: it gets a task.
    fn start_http(&self, key: usize, parts: Parts, body: Bytes) {
        self.calls.start_http(key);
        let service = Rc::clone(&self.service);
        let calls = Rc::clone(&self.calls);
        let is_head = parts.method == HttpMethod::HEAD;
        glommio::spawn_local(async move {
            let (parts, body) = service.http(Request::from_parts(parts, body)).await.into_parts();
            let response = match body {
                Body::Whole(_) if is_head => Response::from_parts(parts, Bytes::new()),
                Body::Whole(bytes) => Response::from_parts(parts, bytes),
                Body::Pieces(_) => http1::plain(
                    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    "an answer in pieces is to be had by HTTP/1.1 only\n",
                ),
            };
            calls.answer_http(key, response);
        })
        .detach();
    }

    fn refuse(&self, key: usize, status: &Status) {
        let target = (self.calls.session().streams.get_mut(key))
            .and_then(|stream| stream.request.target.take());
        if let Some(target) = target {
            self.refuse_as(key, &target, status);
        }
    }

    /// Refuses a request for its body.
    fn refuse_as(&self, key: usize, target: &Target, status: &Status) {
        if matches!(target, Target::Http(_)) {
            let text = "the request body is too large\n";
            self.calls.answer_http(key, http1::plain(StatusCode::PAYLOAD_TOO_LARGE, text));
        } else {
            self.calls.refuse(key, StatusCode::OK, status);
        }
    }

    /// A body that never ends may not be waited for for ever: what this turn has opened and not finished gets a
    /// deadline, if the client has set none.
    fn limit_body_times(&mut self) {
        for key in std::mem::take(&mut self.opened) {
            let waits = (self.calls.session().streams.get(key)).is_some_and(|stream| {
                !stream.request.ended && !stream.is_deaf() && stream.call.deadline.is_none()
            });
            if waits {
                let at = self.now() + self.connections.options().body_timeout;
                self.calls.set_deadline(key, Some(at), true);
            }
        }
    }

    /// Sends what was written and what may go on; true when there is more for another turn.
    fn send(&self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut session = self.calls.session();
        session.pump();
        let sender = &mut session.sender;
        match self.transport.poll_send_all(context, &mut sender.out, &mut sender.sent) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(_)) => Err(End::Done),
            Poll::Ready(Ok(())) => Ok(!session.ready.is_empty() && session.sender.is_open()),
        }
    }
}
