//! The calls of one HTTP/2 connection, and the way their answers go back.
//!
//! Every call has a slot from the moment its stream is opened until the service has let go of its [`Reply`], whatever
//! became of the stream meanwhile. So the number of slots is the work a client has caused, and a client that resets
//! its streams to be allowed new ones gains nothing. When the stream ends early (deadline, closed connection) the
//! service's late answer falls into the void.
//!
//! Answering is synchronous and costs no task: the session writes frames, and the connection's task is woken, once
//! for however many answers come before it runs. A unary answer is whatever size the service made it: the service
//! bounds that.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::head::NeedsLeader;
use super::session::Session;
use crate::api::{Call, Cancelled, Code, Encoded, Method, Reply, ReplyStream, Status};
use crate::net::connections::{Connections, Control};
use crate::net::options::{HELD_BYTES_MAX, QUEUED_BYTES_MAX};
use crate::net::statistics::add;

/// The calls of one connection.
pub(in crate::net) struct Calls {
    connections: Rc<Connections>,
    control: Rc<Control>,
    session: RefCell<Session>,
    /// Requests that the service has, and their bytes.
    handed: Cell<usize>,
    held: Cell<usize>,
    /// Something was answered since the connection's task last ran.
    answered: Cell<bool>,
    /// The connection's task was woken since it last ran.
    woken: Cell<bool>,
    /// Some stream waits for the queue to fall.
    waiting: Cell<bool>,
    /// Requests wait for room.
    pub(super) parked: Cell<bool>,
}

impl Calls {
    pub(super) fn new(
        connections: Rc<Connections>,
        control: Rc<Control>,
        session: Session,
    ) -> Rc<Self> {
        Rc::new(Self {
            connections,
            control,
            session: RefCell::new(session),
            handed: Cell::new(0),
            held: Cell::new(0),
            answered: Cell::new(false),
            woken: Cell::new(false),
            waiting: Cell::new(false),
            parked: Cell::new(false),
        })
    }

    /// The session. It has a buffer to write into.
    pub(super) fn session(&self) -> RefMut<'_, Session> {
        let mut session = self.session.borrow_mut();
        if session.sender.out.capacity() == 0 {
            session.sender.renew(self.connections.send_buffer_take());
        }
        session
    }

    /// The connection's task runs. True if something was answered since the last time.
    pub(super) fn begin_turn(&self) -> bool {
        self.woken.set(false);
        self.answered.take()
    }

    fn wake(&self) {
        if !self.woken.replace(true) {
            self.control.wake();
        }
    }

    /// Whether the service may have another request.
    pub(super) fn has_room(&self) -> bool {
        self.handed.get() < self.connections.options().streams_max as usize
            && self.held.get() <= HELD_BYTES_MAX
            && self.session.borrow().queued <= QUEUED_BYTES_MAX
    }

    /// Wakes the streams that wait for room, when there is some. The connection's task calls it after it sent.
    pub(super) fn wake_waiting(&self) {
        if self.waiting.get() && self.session.borrow().queued <= QUEUED_BYTES_MAX {
            self.waiting.set(false);
            self.session.borrow_mut().wake_all();
        }
    }

    /// Sets the deadline of a call, or takes it off. `is_ours`: it ends with the body.
    pub(super) fn set_deadline(self: &Rc<Self>, key: usize, at: Option<Instant>, is_ours: bool) {
        let deadline = at.map(|at| self.connections.deadline_insert(at, Rc::downgrade(self), key));
        let before = match self.session.borrow_mut().streams.get_mut(key) {
            Some(stream) => {
                stream.call.deadline_is_ours = is_ours;
                std::mem::replace(&mut stream.call.deadline, deadline)
            }
            None => deadline,
        };
        if let Some(before) = before {
            self.connections.deadline_remove(before);
        }
    }

    /// Makes a call whose request is whole.
    pub(super) fn start(
        self: &Rc<Self>,
        key: usize,
        method: Method,
        needs_leader: NeedsLeader,
        message: Bytes,
    ) -> Call {
        if let Some(stream) = self.session.borrow_mut().streams.get_mut(key) {
            stream.call.handed = true;
            stream.call.method = Some(method);
            stream.call.held = message.len();
        }
        self.handed.set(self.handed.get() + 1);
        self.held.set(self.held.get() + message.len());
        self.connections.statistics().call_started(method, message.len());
        let ticket = Ticket { calls: Rc::clone(self), key, code: Code::Internal };
        let reply = Box::new(GrpcReply { ticket });
        Call { method, needs_leader: needs_leader.0, message, reply }
    }

    /// Ends a call that never reached the service with a status.
    pub(super) fn refuse(&self, key: usize, http: StatusCode, status: &Status) {
        add(&self.connections.statistics().refused, 1);
        self.session().answer_status(key, http, status);
        self.release(key, status.code);
    }

    /// The service has a plain request, and answers with [`Calls::answer_http`].
    pub(super) fn start_http(&self, key: usize) {
        if let Some(stream) = self.session.borrow_mut().streams.get_mut(key) {
            stream.call.handed = true;
        }
        self.handed.set(self.handed.get() + 1);
        add(&self.connections.statistics().http_requests, 1);
    }

    /// Answers a plain HTTP request.
    pub(super) fn answer_http(&self, key: usize, response: Response<Bytes>) {
        self.session().answer_http(key, response);
        self.release(key, Code::Ok);
        self.wake();
    }

    /// Nobody will answer any more.
    pub(super) fn release(&self, key: usize, code: Code) {
        let mut session = self.session();
        let Some(stream) = session.streams.get_mut(key) else { return };
        let call = std::mem::take(&mut stream.call);
        session.release(key);
        drop(session);

        self.handed.set(self.handed.get() - usize::from(call.handed));
        self.held.set(self.held.get() - call.held);
        if let Some(deadline) = call.deadline {
            self.connections.deadline_remove(deadline);
        }
        if let Some(method) = call.method {
            let code = if call.expired { Code::DeadlineExceeded } else { code };
            self.connections.statistics().call_handled(method, code);
        }
        self.answered.set(true);
        if self.parked.get() {
            self.wake();
        }
    }

    /// The deadline of a call has passed: tells the caller, and forgets the stream.
    pub(in crate::net) fn expire(&self, key: usize) {
        let mut session = self.session();
        let Some(stream) = session.streams.get_mut(key) else { return };
        stream.call.deadline = None;
        stream.call.expired = true;
        stream.wake();
        let handed = stream.call.handed;
        let status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
        session.expire(key, &status);
        drop(session);
        if !handed {
            self.release(key, Code::DeadlineExceeded);
        }
        self.wake();
    }

    /// Whether stream `id` is still in slot `key`, and waits for an answer.
    pub(super) fn waits(&self, key: usize, id: u32) -> bool {
        let session = self.session.borrow();
        session.streams.get(key).is_some_and(|stream| stream.id == id && !stream.is_deaf())
    }

    fn unary(&self, key: usize, message: Encoded) -> Code {
        let answered = self.session().answer_unary(key, message);
        self.wake();
        match answered {
            Ok(bytes) => {
                self.count_sent(key, bytes);
                Code::Ok
            }
            Err(code) => code,
        }
    }

    fn count_sent(&self, key: usize, bytes: usize) {
        self.answered.set(true);
        let session = self.session.borrow();
        if let Some(method) = session.streams.get(key).and_then(|stream| stream.call.method) {
            self.connections.statistics().call_sent(method, bytes);
        }
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

impl Ticket {
    /// The code of what is about to be answered: nobody hears it who has gone.
    fn heard(&self, code: Code) -> Code {
        if self.calls.session().is_listening(self.key) { code } else { Code::Cancelled }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.calls.release(self.key, self.code);
        self.calls.wake();
    }
}

/// The way back of a call that has not been answered.
struct GrpcReply {
    ticket: Ticket,
}

impl Reply for GrpcReply {
    fn unary(self: Box<Self>, message: Encoded) {
        let Self { mut ticket } = *self;
        ticket.code = ticket.calls.unary(ticket.key, message);
    }

    fn fail(self: Box<Self>, status: Status) {
        let Self { mut ticket } = *self;
        ticket.code = ticket.heard(status.code);
        ticket.calls.session().answer_status(ticket.key, StatusCode::OK, &status);
    }

    fn stream(self: Box<Self>) -> Box<dyn ReplyStream> {
        let Self { ticket } = *self;
        ticket.calls.session().begin_stream(ticket.key);
        ticket.calls.wake();
        Box::new(GrpcStream { ticket })
    }

    fn cancelled(&self) -> bool {
        !self.ticket.calls.session().is_listening(self.ticket.key)
    }

    fn congested(&self) -> bool {
        self.ticket.calls.session.borrow().queued > QUEUED_BYTES_MAX
    }
}

/// The way back of a call that answers with a stream.
struct GrpcStream {
    ticket: Ticket,
}

impl ReplyStream for GrpcStream {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Cancelled>> {
        let Ticket { calls, key, .. } = &self.ticket;
        let ready = calls.session().poll_ready(*key, context);
        if ready.is_pending() {
            calls.waiting.set(true);
        }
        ready
    }

    fn poll_cancelled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.ticket.calls.session().poll_cancelled(self.ticket.key, context)
    }

    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        self.ticket.calls.session().poll_request(self.ticket.key, context)
    }

    fn send(&mut self, message: Encoded) {
        let Ticket { calls, key, .. } = &self.ticket;
        let sent = calls.session().send(*key, message);
        if let Some(bytes) = sent {
            calls.count_sent(*key, bytes);
        }
        calls.wake();
    }

    fn finish(self: Box<Self>, status: Status) {
        let Self { mut ticket } = *self;
        ticket.code = ticket.heard(status.code);
        ticket.calls.session().end_stream(ticket.key, status);
    }
}
