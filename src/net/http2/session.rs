//! The state of one HTTP/2 connection, server's side (RFC 9113), without I/O: bytes in, events and bytes out.
//!
//! [`Session::receive`] follows frames and says what came of them; the answering half is in `answer.rs`, what has to
//! be sent gathers in [`Sender`]. A frame that a receive cut off is kept until its rest comes; all others are read
//! where they were received.
//!
//! # What holds
//!
//! - A malformed frame or header block ends the connection, a malformed request its stream, as the RFC divides them.
//! - Frames for a stream that is closed are skipped: they may have been under way when it was.
//! - Streams are bounded by what was advertised; those that a client reset count, up to twice that many, until the
//!   service has let go of them. Bodies that have not been handed on are bounded in their sum.
//! - Our windows open as data comes, because what is kept of it is bounded by itself.
//!
//! Server push, priorities and `CONNECT` do not exist here.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use slab::Slab;
use urd_http2::frame::{
    ErrorCode, HEAD_BYTES, Head as FrameHead, PAYLOAD_BYTES_MAX, STREAM_ID_MAX, WINDOW_DEFAULT,
    WINDOW_MAX, flag, kind, setting,
};
use urd_http2::hpack::{Decoder, Fields, TABLE_BYTES_DEFAULT};

use super::guard::{Flood, Guard};
use super::head::{self, Head, Target};
use super::sender::Sender;
use super::stream::{Answer, CallState, Request, Stream, Window};
use crate::api::{Code, Status};
use crate::net::grpc::{Assembler, Deframer};
use crate::net::options::{
    BODIES_BYTES_MAX, CONNECTION_WINDOW_BYTES, HEADER_LIST_BYTES, STREAM_WINDOW_BYTES,
};

/// A header block may come in so many frames: more of them than its bytes need are a nuisance.
const CONTINUATIONS_MAX: usize = 16;
/// What our own pings carry, so that their answers are known.
const PING_SHUTDOWN: [u8; 8] = *b"shutdown";
const PING_KEEPALIVE: [u8; 8] = *b"urd live";
/// What buffers may keep between frames.
const KEPT_BYTES: usize = 1024;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The client broke the protocol.
    Protocol(ErrorCode, &'static str),
    /// The client floods.
    Flood(Flood),
}

impl From<Flood> for Failure {
    fn from(flood: Flood) -> Self {
        Self::Flood(flood)
    }
}

/// What a frame came to. Numbers are those of slots.
#[derive(Debug)]
pub(super) enum Event {
    /// A request has begun; `whole`: it has no body.
    Opened { key: usize, timeout: Option<Duration>, whole: bool },
    /// A request has come whole.
    Whole(usize),
    /// A request cannot be taken.
    Refused(usize, Status),
    /// The stream is no more, before the service had the request or after.
    Gone(usize),
}

/// A header block that goes on in CONTINUATION frames.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends_stream: bool,
    bytes: Vec<u8>,
    continuations: usize,
}

/// How far our good-bye has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The client was told to open no more streams, and may have done so before it knew.
    Announced,
    /// It knows, and what it opens is not looked at.
    Told,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Session {
    streams_max: usize,
    pub(super) message_bytes_max: usize,
    decoder: Decoder,
    fields: Fields,
    /// A frame that the last receive cut off.
    partial: Vec<u8>,
    block: Option<Box<Block>>,
    /// The client's first settings have come.
    greeted: bool,
    /// The newest stream that the client opened.
    stream_last: u32,
    window: Window,
    guard: Guard,
    pub(super) leaving: Leaving,
    /// The client opens no more streams.
    pub(super) client_leaves: bool,

    pub(super) streams: Slab<Stream>,
    /// Streams that are not closed, by their ids.
    pub(super) open: BTreeMap<u32, usize>,
    /// Bytes of bodies that were not handed on.
    pub(super) bodies_bytes: usize,

    pub(super) sender: Sender,
    /// Slots whose pending data, or end, may go on.
    pub(super) ready: VecDeque<usize>,
    /// Bytes of pending data.
    pub(super) queued: usize,
    /// What the client takes on a new stream.
    window_initial: i64,
}

impl Session {
    /// After the client's preface; begins with our settings.
    pub(super) fn new(streams_max: u32, message_bytes_max: usize, guard: Guard) -> Self {
        let mut sender = Sender::new();
        let mut settings = Vec::new();
        for (name, value) in [
            (setting::MAX_CONCURRENT_STREAMS, streams_max),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (setting::MAX_HEADER_LIST_SIZE, HEADER_LIST_BYTES),
        ] {
            settings.extend_from_slice(&name.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        sender.frame(kind::SETTINGS, 0, 0, &settings);
        let window_default = u32::try_from(WINDOW_DEFAULT).unwrap_or_default();
        sender.window_update(0, CONNECTION_WINDOW_BYTES.saturating_sub(window_default));
        Self {
            streams_max: usize::try_from(streams_max).unwrap_or(usize::MAX),
            message_bytes_max,
            decoder: Decoder::new(TABLE_BYTES_DEFAULT),
            fields: Fields::new(HEADER_LIST_BYTES as usize),
            partial: Vec::new(),
            block: None,
            greeted: false,
            stream_last: 0,
            window: Window::new(CONNECTION_WINDOW_BYTES),
            guard,
            leaving: Leaving::No,
            client_leaves: false,
            streams: Slab::new(),
            open: BTreeMap::new(),
            bodies_bytes: 0,
            sender,
            ready: VecDeque::new(),
            queued: 0,
            window_initial: WINDOW_DEFAULT,
        }
    }

    pub(super) fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Follows `input` up to the first frame that came to something; nothing is left of it when none did.
    pub(super) fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Failure> {
        loop {
            let event = if self.partial.is_empty() {
                let Some(head) = FrameHead::parse(input) else { break };
                check_length(head)?;
                let Some((frame, rest)) = input.split_at_checked(HEAD_BYTES + head.length) else {
                    break;
                };
                *input = rest;
                self.frame(head, frame.get(HEAD_BYTES..).unwrap_or_default())?
            } else {
                let Some(head) = self.complete(input)? else { return Ok(None) };
                let mut frame = std::mem::take(&mut self.partial);
                let event = self.frame(head, frame.get(HEAD_BYTES..).unwrap_or_default())?;
                frame.clear();
                if frame.capacity() <= KEPT_BYTES {
                    self.partial = frame;
                }
                event
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        self.partial.extend_from_slice(input);
        *input = &[];
        Ok(None)
    }

    /// Adds to the frame that was cut off; its head once it is whole.
    fn complete(&mut self, input: &mut &[u8]) -> Result<Option<FrameHead>, Failure> {
        self.complete_to(HEAD_BYTES, input);
        let Some(head) = FrameHead::parse(&self.partial) else { return Ok(None) };
        check_length(head)?;
        self.complete_to(HEAD_BYTES + head.length, input);
        Ok((self.partial.len() == HEAD_BYTES + head.length).then_some(head))
    }

    fn complete_to(&mut self, bytes: usize, input: &mut &[u8]) {
        let missing = bytes.saturating_sub(self.partial.len()).min(input.len());
        let (taken, rest) = input.split_at_checked(missing).unwrap_or((input, &[]));
        self.partial.extend_from_slice(taken);
        *input = rest;
    }

    fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event>, Failure> {
        if self.block.is_some() != (head.kind == kind::CONTINUATION) {
            return Err(protocol("a header block must go on, and nothing else may come between"));
        }
        if !self.greeted && head.kind != kind::SETTINGS {
            return Err(protocol("the first frame must be settings"));
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::RST_STREAM => self.reset_by_client(head, payload),
            kind::SETTINGS => self.settings(head, payload).map(|()| None),
            kind::PING => self.ping(head, payload).map(|()| None),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::GOAWAY => {
                self.client_leaves = true;
                Ok(None)
            }
            kind::PUSH_PROMISE => Err(protocol("a client cannot push")),
            kind::PRIORITY if payload.len() != 5 => Err(frame_size()),
            // Priorities, and what is unknown.
            _ => Ok(self.guard.idle_frame().map(|()| None)?),
        }
    }

    /// The slot of a stream that is not closed; `None` for one that was. One that never was is an error.
    fn find(&self, stream: u32) -> Result<Option<usize>, Failure> {
        if stream == 0 || stream > self.stream_last {
            return Err(protocol("a frame for a stream that was not opened"));
        }
        Ok(self.open.get(&stream).copied())
    }

    fn data(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event>, Failure> {
        let found = self.find(head.stream)?;
        let length = u32::try_from(head.length).unwrap_or(u32::MAX);
        if !self.window.take(length) {
            return Err(Failure::Protocol(ErrorCode::FLOW_CONTROL_ERROR, "window exceeded"));
        }
        if let Some(bytes) = self.window.refill() {
            self.sender.window_update(0, bytes);
        }
        let body = unpad(head, payload)?;
        let ends = head.has(flag::END_STREAM);
        if body.is_empty() && !ends {
            self.guard.idle_frame()?;
        }
        let Some(key) = found else { return Ok(None) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        let request = &mut stream.request;
        if request.ended {
            return Ok(self.reset(key, ErrorCode::STREAM_CLOSED));
        }
        if !request.window.take(length) {
            return Ok(self.reset(key, ErrorCode::FLOW_CONTROL_ERROR));
        }
        if let Some(announced) = &mut request.announced {
            match announced.checked_sub(body.len() as u64) {
                Some(rest) => *announced = rest,
                None => return Ok(self.reset(key, ErrorCode::PROTOCOL_ERROR)),
            }
        }
        let before = request.held();
        let pushed = if let Some(messages) = &mut request.messages {
            messages.push(body);
            Ok(())
        } else {
            request.body.push(Bytes::copy_from_slice(body))
        };
        // A body that is refused is not held any more.
        self.bodies_bytes = self.bodies_bytes + request.held() - before;
        if let Err(status) = pushed {
            return Ok(Some(Event::Refused(key, status)));
        }
        if self.bodies_bytes > BODIES_BYTES_MAX && request.messages.is_some() {
            // The service has the call already; it hears that the stream is gone.
            return Ok(self.reset(key, ErrorCode::ENHANCE_YOUR_CALM));
        }
        if self.bodies_bytes > BODIES_BYTES_MAX {
            let text = "too many incomplete requests on one connection";
            return Ok(Some(Event::Refused(key, Status::new(Code::ResourceExhausted, text))));
        }
        if request.messages.is_some() {
            stream.wake();
        }
        let Some(Stream { request, .. }) = self.streams.get_mut(key) else { return Ok(None) };
        if ends {
            return Ok(self.end_request(key));
        }
        if let Some(bytes) = request.window.refill() {
            self.sender.window_update(head.stream, bytes);
        }
        Ok(None)
    }

    fn end_request(&mut self, key: usize) -> Option<Event> {
        let request = &mut self.streams.get_mut(key)?.request;
        request.ended = true;
        if request.announced.is_some_and(|missing| missing > 0) {
            return self.reset(key, ErrorCode::PROTOCOL_ERROR);
        }
        if request.messages.is_some() {
            self.streams.get_mut(key)?.wake();
            return None;
        }
        Some(Event::Whole(key))
    }

    fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event>, Failure> {
        if head.stream.is_multiple_of(2) {
            return Err(protocol("a client's streams are odd"));
        }
        let mut block = unpad(head, payload)?;
        if head.has(flag::PRIORITY) {
            block = block.get(5..).ok_or_else(frame_size)?;
        }
        let ends_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.header_block(head.stream, ends_stream, block);
        }
        let bytes = block.to_vec();
        self.block =
            Some(Box::new(Block { stream: head.stream, ends_stream, bytes, continuations: 0 }));
        Ok(None)
    }

    fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event>, Failure> {
        let Some(mut block) = self.block.take() else { return Ok(None) };
        if block.stream != head.stream {
            return Err(protocol("a header block goes on for another stream"));
        }
        block.continuations += 1;
        block.bytes.extend_from_slice(payload);
        if block.continuations > CONTINUATIONS_MAX || block.bytes.len() > HEADER_LIST_BYTES as usize
        {
            return Err(Failure::Protocol(ErrorCode::ENHANCE_YOUR_CALM, "header block too large"));
        }
        if head.has(flag::END_HEADERS) {
            return self.header_block(block.stream, block.ends_stream, &block.bytes);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// A whole block: a request's head, or its trailers.
    fn header_block(
        &mut self,
        stream: u32,
        ends: bool,
        block: &[u8],
    ) -> Result<Option<Event>, Failure> {
        if self.decoder.decode(block, &mut self.fields).is_err() {
            return Err(Failure::Protocol(ErrorCode::COMPRESSION_ERROR, "header block"));
        }
        let event = if stream > self.stream_last {
            self.stream_last = stream;
            self.open(stream, ends)
        } else if let Some(&key) = self.open.get(&stream) {
            let ended = self.streams.get(key).is_some_and(|stream| stream.request.ended);
            if ended || !ends || head::check_trailers(&self.fields).is_err() {
                self.reset(key, ErrorCode::PROTOCOL_ERROR)
            } else {
                self.end_request(key)
            }
        } else {
            None
        };
        if block.len() > KEPT_BYTES {
            self.fields = Fields::new(HEADER_LIST_BYTES as usize);
        }
        Ok(event)
    }

    fn open(&mut self, id: u32, ends: bool) -> Option<Event> {
        if self.leaving == Leaving::Told {
            return None;
        }
        if self.open.len() >= self.streams_max
            || self.streams.len() >= self.streams_max.saturating_mul(2)
        {
            self.sender.reset(id, ErrorCode::REFUSED_STREAM);
            return None;
        }
        if self.fields.overflowed() {
            let http = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            self.sender.http_head(id, http, &HeaderMap::new(), true);
            if !ends {
                self.sender.reset(id, ErrorCode::NO_ERROR);
            }
            return None;
        }
        let head = match head::read(&self.fields) {
            Ok(head) if !(ends && head.content_length.is_some_and(|length| length > 0)) => head,
            _ => {
                self.sender.reset(id, ErrorCode::PROTOCOL_ERROR);
                return None;
            }
        };
        let Head { target, timeout, content_length } = head;
        let body = match target {
            Target::Http(_) => Assembler::plain(self.message_bytes_max),
            _ => Assembler::framed(self.message_bytes_max),
        };
        let messages = match &target {
            Target::Call(method, _) if method.streams_requests() => Some(Deframer::default()),
            _ => None,
        };
        let window = Window::new(STREAM_WINDOW_BYTES);
        let key = self.streams.insert(Stream {
            id,
            request: Request {
                target: Some(target),
                body,
                window,
                announced: content_length,
                messages,
                ended: ends,
            },
            answer: Answer {
                window: self.window_initial,
                begun: false,
                pending: VecDeque::new(),
                end: None,
                listed: false,
                ended: false,
            },
            call: CallState::default(),
            reset: false,
        });
        self.open.insert(id, key);
        Some(Event::Opened { key, timeout, whole: ends })
    }

    fn reset_by_client(
        &mut self,
        head: FrameHead,
        payload: &[u8],
    ) -> Result<Option<Event>, Failure> {
        if payload.len() != 4 {
            return Err(frame_size());
        }
        let found = self.find(head.stream)?;
        self.guard.reset()?;
        Ok(found.and_then(|key| self.give_up(key)))
    }

    /// Resets a stream for what the client did on it.
    fn reset(&mut self, key: usize, code: ErrorCode) -> Option<Event> {
        let id = self.streams.get(key)?.id;
        self.sender.reset(id, code);
        self.give_up(key)
    }

    fn give_up(&mut self, key: usize) -> Option<Event> {
        self.streams.get_mut(key)?.reset = true;
        self.close_if_done(key);
        Some(Event::Gone(key))
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Failure> {
        if head.stream != 0 {
            return Err(protocol("settings of a stream"));
        }
        self.guard.idle_frame()?;
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(frame_size()) };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(frame_size());
        }
        let mut window_initial = None;
        for &[n0, n1, v0, v1, v2, v3] in settings {
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match u16::from_be_bytes([n0, n1]) {
                setting::HEADER_TABLE_SIZE => self.sender.set_table_bytes(value),
                setting::INITIAL_WINDOW_SIZE => window_initial = Some(value),
                setting::ENABLE_PUSH if value > 1 => {
                    return Err(protocol("ENABLE_PUSH is 0 or 1"));
                }
                setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                    return Err(protocol("MAX_FRAME_SIZE is 2^14 to 2^24-1"));
                }
                _ => {}
            }
        }
        // Once a frame, however often it stands there: all streams are gone through.
        if let Some(value) = window_initial {
            self.set_window_initial(value)?;
        }
        self.greeted = true;
        self.sender.frame(kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    /// Moves the windows of all streams along (RFC 9113, section 6.9.2).
    fn set_window_initial(&mut self, value: u32) -> Result<(), Failure> {
        let overflow = Failure::Protocol(ErrorCode::FLOW_CONTROL_ERROR, "window too large");
        let value = i64::from(value);
        if value > WINDOW_MAX {
            return Err(overflow);
        }
        let change = value - std::mem::replace(&mut self.window_initial, value);
        let keys: Vec<usize> = self.open.values().copied().collect();
        for key in keys {
            if !self.streams.get_mut(key).is_some_and(|stream| stream.widen(change)) {
                return Err(overflow);
            }
            self.go_on(key);
        }
        Ok(())
    }

    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Failure> {
        if head.stream != 0 {
            return Err(protocol("a ping on a stream"));
        }
        if payload.len() != 8 {
            return Err(frame_size());
        }
        if !head.has(flag::ACK) {
            self.guard.ping(Instant::now(), !self.streams.is_empty())?;
            self.sender.frame(kind::PING, flag::ACK, 0, payload);
        } else if payload == PING_SHUTDOWN && self.leaving == Leaving::Announced {
            self.leaving = Leaving::Told;
            self.sender.go_away(self.stream_last, ErrorCode::NO_ERROR, "");
        } else {
            self.guard.idle_frame()?;
        }
        Ok(())
    }

    fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event>, Failure> {
        let Ok(bytes) = payload.try_into().map(u32::from_be_bytes) else {
            return Err(frame_size());
        };
        let bytes = bytes & STREAM_ID_MAX;
        if head.stream == 0 {
            return match (bytes, self.sender.widen(bytes)) {
                (0, _) => Err(protocol("a window update of 0")),
                (_, false) => {
                    Err(Failure::Protocol(ErrorCode::FLOW_CONTROL_ERROR, "window too large"))
                }
                (_, true) => Ok(None),
            };
        }
        let Some(key) = self.find(head.stream)? else { return Ok(None) };
        if bytes == 0 {
            return Ok(self.reset(key, ErrorCode::PROTOCOL_ERROR));
        }
        if !self.streams.get_mut(key).is_some_and(|stream| stream.widen(i64::from(bytes))) {
            return Ok(self.reset(key, ErrorCode::FLOW_CONTROL_ERROR));
        }
        self.go_on(key);
        Ok(None)
    }

    /// Takes a whole request out of its stream: where it goes, its body, and whether its deadline was ours.
    pub(super) fn take_request(
        &mut self,
        key: usize,
    ) -> Option<(Target, Result<Bytes, Status>, bool)> {
        let Stream { request, call, .. } = self.streams.get_mut(key)?;
        let target = request.target.take()?;
        let body = std::mem::replace(&mut request.body, Assembler::plain(0));
        self.bodies_bytes -= body.len();
        Some((target, body.finish(), call.deadline_is_ours))
    }

    /// Sends a ping whose answer shows that the client is alive.
    pub(super) fn send_ping(&mut self) {
        self.sender.frame(kind::PING, 0, 0, &PING_KEEPALIVE);
    }

    /// Begins an orderly end: no new streams once the client knows, and those that are open are answered.
    pub(super) fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Announced;
            self.sender.go_away(STREAM_ID_MAX, ErrorCode::NO_ERROR, "");
            self.sender.frame(kind::PING, 0, 0, &PING_SHUTDOWN);
        }
    }

    /// Says why the connection ends.
    pub(super) fn fail(&mut self, failure: Failure) {
        let (code, reason) = match failure {
            Failure::Protocol(code, reason) => (code, reason),
            Failure::Flood(flood) => (ErrorCode::ENHANCE_YOUR_CALM, flood.reason()),
        };
        self.sender.go_away(self.stream_last, code, reason);
    }
}

fn protocol(reason: &'static str) -> Failure {
    Failure::Protocol(ErrorCode::PROTOCOL_ERROR, reason)
}

fn frame_size() -> Failure {
    Failure::Protocol(ErrorCode::FRAME_SIZE_ERROR, "frame of a wrong size")
}

fn check_length(head: FrameHead) -> Result<(), Failure> {
    if head.length > PAYLOAD_BYTES_MAX { Err(frame_size()) } else { Ok(()) }
}

/// The payload without its padding.
fn unpad(head: FrameHead, payload: &[u8]) -> Result<&[u8], Failure> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or_else(frame_size)?;
    let length = rest.len().checked_sub(usize::from(padding));
    length.and_then(|length| rest.get(..length)).ok_or_else(|| protocol("more padding than frame"))
}

#[cfg(test)]
mod tests;
