//! Target `grpc`: bodies of calls, through framing, decoding and validation into a store.
//!
//! An input is calls: a byte for the method, two for the length of the body, the body. A body is what stands in the
//! call's data: messages with gRPC's heads in front of them, cut into pieces where the length's highest bit says so.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fastrand::Rng;
use prost::Message;
use urd::api::{Call, Cancelled, Encoded, Method, Reply, ReplyStream, Status, v3};
use urd::net::probe;
use urd_proto::etcdserverpb::WatchResponse;

use super::node::Member;
use super::{Outcome, Target, mutate, protobuf, samples};

/// The longest message that framing lets pass: a bit more than a request may measure.
const MESSAGE_BYTES_MAX: usize = 1 << 17;
/// Method and length.
const CALL_HEAD_BYTES: usize = 3;
/// gRPC's.
const FRAME_HEAD_BYTES: usize = Encoded::HEAD_BYTES;
/// The bit of a call's length that has its body cut into pieces.
const IN_PIECES: u16 = 1 << 15;
/// Calls of an input that count.
const CALLS_MAX: usize = 16;

/// See the module's page.
#[derive(Clone, Copy, Debug)]
pub struct Grpc;

const METHODS: [Method; 25] = [
    Method::Range,
    Method::RangeStream,
    Method::Put,
    Method::DeleteRange,
    Method::Txn,
    Method::Compact,
    Method::Watch,
    Method::LeaseGrant,
    Method::LeaseRevoke,
    Method::LeaseKeepAlive,
    Method::LeaseTimeToLive,
    Method::LeaseLeases,
    Method::MemberAdd,
    Method::MemberRemove,
    Method::MemberUpdate,
    Method::MemberPromote,
    Method::MemberList,
    Method::Alarm,
    Method::Defragment,
    Method::Status,
    Method::Hash,
    Method::HashKv,
    Method::MoveLeader,
    Method::HealthCheck,
    Method::HealthWatch,
];

impl Target for Grpc {
    fn name(&self) -> &'static str {
        "grpc"
    }

    fn about(&self) -> &'static str {
        "calls: a method's number, the body's length (u16, the highest bit: in pieces), the framed body"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let calls: Vec<Request> = samples::calls()
            .into_iter()
            .map(|(method, message)| (method, vec![message]))
            .chain(samples::streams())
            .map(|(method, messages)| Request {
                method: METHODS.iter().position(|known| *known == method).unwrap_or(0),
                in_pieces: false,
                messages,
            })
            .collect();
        let mut seeds: Vec<Vec<u8>> =
            calls.iter().map(|call| encode(std::slice::from_ref(call))).collect();
        seeds.push(encode(&calls[calls.len() / 2..]));
        seeds.push(encode(&calls[..calls.len() / 2]));
        seeds
    }

    fn mutate(&self, input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
        if random.u8(..8) == 0 {
            return mutate::bytes(input, other, random);
        }
        let (mut calls, others) = (decode(input), decode(other));
        if calls.is_empty() || random.u8(..4) == 0 {
            mutate::list(&mut calls, &others, random);
        } else {
            let at = random.usize(..calls.len());
            let Request { method, in_pieces, messages } = &mut calls[at];
            match random.u8(..12) {
                0 => *method = random.usize(..METHODS.len()),
                1 => *in_pieces = !*in_pieces,
                2 => {
                    let others = others.first().map_or(&[][..], |call| &call.messages);
                    mutate::list(messages, others, random);
                }
                _ if messages.is_empty() => {}
                _ => {
                    let nth = random.usize(..messages.len());
                    let other = others.last().and_then(|call| call.messages.last());
                    protobuf::message(&mut messages[nth], other.map_or(&[], |it| it), random);
                }
            }
        }
        *input = encode(&calls);
    }

    fn run(&self, input: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        let member = Member::new();
        let mut bodies = input;
        for _ in 0..CALLS_MAX {
            let Some((method, in_pieces, body)) = next_call(&mut bodies) else { break };
            let mut part = Outcome::default();
            call(&member, METHODS[method], in_pieces, body, &mut part);
            outcome.part(&part);
        }
        member.forget_tasks();
        let faults = member.faults();
        assert!(faults.is_empty(), "the store is not sound: {faults:?}");
        outcome
    }
}

fn call(member: &Rc<Member>, method: Method, in_pieces: bool, body: &[u8], outcome: &mut Outcome) {
    outcome.note(&format!("{method:?}"));
    let size = if in_pieces { 1 + body.len() / 3 } else { body.len().max(1) };
    let pieces = body.chunks(size);
    let heard = Rc::new(RefCell::new(Heard::default()));
    let mut requests = VecDeque::new();
    let message = if method.streams_requests() {
        let (messages, error) = probe::unframe_stream(pieces, MESSAGE_BYTES_MAX);
        requests.extend(messages.into_iter().map(Ok));
        requests.extend(error.map(Err));
        Bytes::new()
    } else {
        match probe::unframe(pieces, MESSAGE_BYTES_MAX) {
            Ok(message) => message,
            Err(status) => return outcome.text(&status.message),
        }
    };
    let reply = Box::new(Answer { heard: Rc::clone(&heard), requests });
    v3::dispatch(member, Call { method, needs_leader: false, message, reply });
    member.work();
    let heard = heard.borrow();
    outcome.count("messages", heard.messages);
    match &heard.end {
        Some(status) => outcome.text(&format!("{:?} {}", status.code, status.message)),
        None => outcome.note("open"),
    }
    for watched in &heard.watched {
        outcome.note(watched);
    }
    assert!(heard.ends <= 1, "answered {} times", heard.ends);
}

/// What a caller heard.
#[derive(Default)]
struct Heard {
    messages: usize,
    end: Option<Status>,
    ends: usize,
    /// What messages of a watch were.
    watched: Vec<String>,
}

impl Heard {
    fn end(&mut self, status: Status) {
        self.ends += 1;
        self.end = Some(status);
    }
}

struct Answer {
    heard: Rc<RefCell<Heard>>,
    requests: VecDeque<Result<Bytes, Status>>,
}

impl Reply for Answer {
    fn unary(self: Box<Self>, mut message: Encoded) {
        assert!(message.frame().is_some(), "an answer that no frame can carry");
        let mut heard = self.heard.borrow_mut();
        heard.messages += 1;
        heard.end(Status::OK);
    }

    fn fail(self: Box<Self>, status: Status) {
        self.heard.borrow_mut().end(status);
    }

    fn stream(self: Box<Self>) -> Box<dyn ReplyStream> {
        self
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn congested(&self) -> bool {
        false
    }
}

impl ReplyStream for Answer {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Cancelled>> {
        Poll::Ready(Ok(()))
    }

    fn poll_cancelled(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_request(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        // The client keeps its side open: what it asked for goes on.
        self.requests.pop_front().map_or(Poll::Pending, |request| Poll::Ready(Some(request)))
    }

    fn send(&mut self, message: Encoded) {
        let mut heard = self.heard.borrow_mut();
        heard.messages += 1;
        if let Ok(watch) = WatchResponse::decode(message.into_payload()) {
            let WatchResponse { created, canceled, fragment, events, .. } = watch;
            let count = events.len().min(3);
            heard.watched.push(format!("{created}{canceled}{fragment}{count}"));
            heard.watched.truncate(6);
        }
    }

    fn finish(self: Box<Self>, status: Status) {
        self.heard.borrow_mut().end(status);
    }
}

/// A call of an input, taken apart.
#[derive(Clone, Debug)]
struct Request {
    method: usize,
    in_pieces: bool,
    messages: Vec<Vec<u8>>,
}

fn next_call<'a>(bytes: &mut &'a [u8]) -> Option<(usize, bool, &'a [u8])> {
    let (&[method, low, high], rest) = bytes.split_first_chunk::<CALL_HEAD_BYTES>()?;
    let length = u16::from_le_bytes([low, high]);
    let (body, rest) = rest.split_at(usize::from(length & !IN_PIECES).min(rest.len()));
    *bytes = rest;
    Some((usize::from(method) % METHODS.len(), length & IN_PIECES != 0, body))
}

fn decode(mut bytes: &[u8]) -> Vec<Request> {
    let mut calls = Vec::new();
    while let Some((method, in_pieces, mut body)) = next_call(&mut bytes) {
        let mut messages = Vec::new();
        while let Some((&[_, a, b, c, d], rest)) = body.split_first_chunk::<FRAME_HEAD_BYTES>() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let (message, rest) = rest.split_at(length.min(rest.len()));
            messages.push(message.to_vec());
            body = rest;
        }
        calls.push(Request { method, in_pieces, messages });
    }
    calls
}

fn encode(calls: &[Request]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Request { method, in_pieces, messages } in calls {
        let mut body = Vec::new();
        for message in messages {
            body.push(0);
            body.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
            body.extend_from_slice(message);
        }
        body.truncate(usize::from(IN_PIECES - 1));
        let pieces = if *in_pieces { IN_PIECES } else { 0 };
        let length = u16::try_from(body.len()).unwrap_or(0) | pieces;
        bytes.push(u8::try_from(*method).unwrap_or(0));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend(body);
    }
    bytes
}
