//! What a client's bytes come to, without sockets, tasks and clocks: for who feeds the server foreign bytes from outside
//! this crate.
//!
//! A [`Probe`] is a connection's session with what the connection's task does about each event, but nothing of its own
//! accord: whoever has one decides when calls are answered, and checks after every step that the books are right.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::guard::{Guard, Limits};
use super::head::Target;
use super::session::{Event, Failure, Session};
use crate::api::{Code, Encoded, Method, Status};
use crate::net::grpc::{Assembler, Deframer};
use crate::net::options::{IDLE_FRAMES_PER_SECOND, RESETS_PER_SECOND};

/// The message of a unary call's body, which came in `pieces`.
///
/// # Errors
/// What the caller would be told.
pub fn unframe<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    bytes_max: usize,
) -> Result<Bytes, Status> {
    let mut assembler = Assembler::framed(bytes_max);
    for piece in pieces {
        assembler.push(Bytes::copy_from_slice(piece))?;
    }
    assembler.finish()
}

/// The messages of a stream of requests, which came in `pieces`, and how it ended if not well.
pub fn unframe_stream<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    bytes_max: usize,
) -> (Vec<Bytes>, Option<Status>) {
    let mut deframer = Deframer::default();
    let mut messages = Vec::new();
    for piece in pieces {
        deframer.push(piece);
        loop {
            match deframer.next(bytes_max) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(status) => return (messages, Some(status)),
            }
        }
    }
    (messages, None)
}

/// What a connection heard. Numbers are those of slots.
#[derive(Debug)]
pub enum Heard {
    /// A call whose request is whole.
    Call(usize, Method, Bytes),
    /// A call that streams its requests has begun.
    Stream(usize, Method),
    /// A plain request whose body is whole.
    Http(usize),
    /// A request that was refused, or had no time left.
    Refused(Code),
    /// A stream that is no more, whether or not the service has its call.
    Gone,
}

/// See the module's page.
#[derive(Debug)]
pub struct Probe {
    session: Session,
    streams_max: usize,
}

impl Probe {
    /// A connection behind its preface.
    pub fn new(streams_max: u32, message_bytes_max: usize) -> Self {
        let guard = Guard::new(Limits {
            idle_frames_per_second: IDLE_FRAMES_PER_SECOND,
            resets_per_second: RESETS_PER_SECOND,
            ping_interval_min: Duration::ZERO,
        });
        let session = Session::new(streams_max, message_bytes_max, guard);
        Self { session, streams_max: streams_max as usize }
    }

    /// Takes bytes as the socket gave them.
    ///
    /// # Errors
    /// Why the connection ends. The session has said so to the client.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<Vec<Heard>, String> {
        let mut heard = Vec::new();
        while !bytes.is_empty() {
            match self.session.receive(&mut bytes) {
                Ok(None) => {}
                Ok(Some(event)) => self.on_event(event, &mut heard),
                Err(failure) => {
                    self.session.close();
                    self.session.fail(failure);
                    return Err(match failure {
                        Failure::Protocol(code, reason) => format!("{code:?}: {reason}"),
                        Failure::Flood(flood) => flood.reason().to_owned(),
                    });
                }
            }
        }
        Ok(heard)
    }

    fn on_event(&mut self, event: Event, heard: &mut Vec<Heard>) {
        match event {
            Event::Opened { key, timeout, whole } => self.open(key, timeout, whole, heard),
            Event::Whole(key) => self.whole(key, heard),
            Event::Refused(key, status) => {
                let target = (self.session.streams.get_mut(key))
                    .and_then(|stream| stream.request.target.take());
                if let Some(target) = target {
                    self.refuse(key, &target, &status, heard);
                }
            }
            Event::Gone(key) => {
                let handed = self.session.streams.get(key).is_none_or(|stream| stream.call.handed);
                if !handed {
                    self.session.release(key);
                }
                heard.push(Heard::Gone);
            }
        }
    }

    fn open(&mut self, key: usize, timeout: Option<Duration>, whole: bool, heard: &mut Vec<Heard>) {
        let Some(stream) = self.session.streams.get_mut(key) else { return };
        match &stream.request.target {
            Some(Target::Refused(http, status)) => {
                let (http, status) = (*http, status.clone());
                stream.request.target = None;
                self.session.answer_status(key, http, &status);
                self.session.release(key);
                return heard.push(Heard::Refused(status.code));
            }
            Some(Target::Unsupported) => {
                self.answer_http(key, 20);
                return heard.push(Heard::Refused(Code::Unimplemented));
            }
            Some(Target::Call(method, _)) if method.streams_requests() => {
                let method = *method;
                stream.request.target = None;
                stream.call.handed = true;
                return heard.push(Heard::Stream(key, method));
            }
            Some(Target::Call(..) | Target::Http(_)) | None => {}
        }
        if timeout == Some(Duration::ZERO) {
            self.expire(key);
            return heard.push(Heard::Refused(Code::DeadlineExceeded));
        }
        if whole {
            self.whole(key, heard);
        }
    }

    fn whole(&mut self, key: usize, heard: &mut Vec<Heard>) {
        let Some((target, body, _)) = self.session.take_request(key) else { return };
        match (target, body) {
            (Target::Call(method, _), Ok(message)) => {
                self.hand_over(key);
                heard.push(Heard::Call(key, method, message));
            }
            (Target::Http(_), Ok(_)) => {
                self.hand_over(key);
                heard.push(Heard::Http(key));
            }
            (target, Err(status)) => self.refuse(key, &target, &status, heard),
            (Target::Refused(..) | Target::Unsupported, Ok(_)) => {}
        }
    }

    fn hand_over(&mut self, key: usize) {
        if let Some(stream) = self.session.streams.get_mut(key) {
            stream.call.handed = true;
        }
    }

    fn refuse(&mut self, key: usize, target: &Target, status: &Status, heard: &mut Vec<Heard>) {
        if matches!(target, Target::Http(_)) {
            self.answer_http(key, 30);
        } else {
            self.session.answer_status(key, StatusCode::OK, status);
            self.session.release(key);
        }
        heard.push(Heard::Refused(status.code));
    }

    /// Answers a call with a message of so many bytes, and lets go of it.
    pub fn answer(&mut self, key: usize, bytes: usize) {
        // Whoever asked may have gone.
        self.session.answer_unary(key, encoded(bytes)).ok();
        self.session.release(key);
    }

    /// Answers a call with a status, and lets go of it.
    pub fn fail(&mut self, key: usize, text: &str) {
        let status = Status::new(Code::InvalidArgument, text.to_owned());
        self.session.answer_status(key, StatusCode::OK, &status);
        self.session.release(key);
    }

    /// Answers a plain request with a body of so many bytes.
    pub fn answer_http(&mut self, key: usize, bytes: usize) {
        self.session.answer_http(key, Response::new(Bytes::from(vec![b'x'; bytes])));
        self.session.release(key);
    }

    /// Begins the answer of a call that is answered with a stream.
    pub fn begin_stream(&mut self, key: usize) {
        self.session.begin_stream(key);
    }

    /// Takes the requests of such a call that are there, answers each with so many bytes, and ends it if the client has
    /// or if one was wrong. True once it was ended and let go of.
    pub fn go_on_with_stream(&mut self, key: usize, bytes: usize) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let status = match self.session.poll_request(key, &context) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok(_))) => {
                    if self.session.poll_ready(key, &context).is_ready() {
                        self.session.send(key, encoded(bytes));
                    }
                    context = Context::from_waker(Waker::noop());
                    continue;
                }
                Poll::Ready(Some(Err(status))) => status,
                Poll::Ready(None) => Status::OK,
            };
            self.session.end_stream(key, status);
            self.session.release(key);
            return true;
        }
    }

    /// The deadline of a call has passed.
    pub fn expire(&mut self, key: usize) {
        let Some(stream) = self.session.streams.get(key) else { return };
        let handed = stream.call.handed;
        let status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
        self.session.expire(key, &status);
        if !handed {
            self.session.release(key);
        }
    }

    /// Begins an orderly end.
    pub fn leave(&mut self) {
        self.session.leave();
    }

    /// What was to be sent since the last time.
    pub fn sent(&mut self) -> Vec<u8> {
        self.session.pump();
        let out = std::mem::take(&mut self.session.sender.out);
        self.session.sender.renew(Vec::new());
        out
    }

    /// Ends the connection.
    pub fn close(&mut self) {
        self.session.close();
    }

    /// Whether sums, slots and what is open agree.
    ///
    /// # Panics
    /// They do not.
    pub fn check(&self) {
        let session = &self.session;
        let pending: usize = session.streams.iter().map(|(_, it)| it.pending_bytes()).sum();
        assert_eq!(session.queued, pending, "bytes queued");
        let held: usize = session.streams.iter().map(|(_, it)| it.request.held()).sum();
        assert_eq!(session.bodies_bytes, held, "bytes of bodies");
        for (id, key) in &session.open {
            let stream = session.streams.get(*key).expect("an open stream has a slot");
            assert!(!stream.is_closed() && stream.id == *id, "stream {id} is open");
        }
        let closed = session.streams.iter().filter(|(_, it)| it.is_closed()).count();
        assert_eq!(session.open.len() + closed, session.streams.len(), "slots");
        assert!(session.open.len() <= self.streams_max, "streams are bounded");
        assert!(session.streams.len() <= 2 * self.streams_max, "slots are bounded");
    }

    /// Slots in use.
    pub fn slots(&self) -> usize {
        self.session.streams.len()
    }
}

fn encoded(bytes: usize) -> Encoded {
    let mut encoded = Encoded::with_capacity(bytes);
    encoded.buffer().extend(std::iter::repeat_n(7, bytes));
    encoded
}
