//! The answering half of a [`Session`].
//!
//! Whoever answers a stream that is gone is told nothing: the caller is not there any more. What no window lets pass
//! waits with its stream; [`Session::pump`] writes it when it may go on, in turns with the others.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use urd_http2::frame::ErrorCode;

use super::session::Session;
use super::stream::{End, Stream};
use crate::api::{Cancelled, Code, Encoded, Status};
use crate::net::options::QUEUED_BYTES_MAX;

impl Session {
    /// Answers with one message; says its size, or the status that the caller got instead.
    pub(super) fn answer_unary(&mut self, key: usize, mut message: Encoded) -> Result<usize, Code> {
        let bytes = message.payload_len();
        let Some(stream) = self.listening(key) else { return Err(Code::Cancelled) };
        let id = stream.id;
        let Some(frame) = message.frame() else {
            let text =
                format!("grpc: trying to send message larger than max ({bytes} vs. {})", u32::MAX);
            let status = Status::new(Code::ResourceExhausted, text);
            self.answer_status(key, StatusCode::OK, &status);
            return Err(status.code);
        };
        stream.answer.begun = true;
        let mut window = stream.answer.window;
        self.sender.grpc_head(id);
        let written = self.sender.data(id, &mut window, frame);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.answer.window = window;
        }
        if written < Encoded::HEAD_BYTES + bytes {
            self.queue(key, message.into_bytes().slice(written..));
        }
        self.end(key, End::Status(Status::OK));
        Ok(bytes)
    }

    /// Answers with nothing but a status.
    pub(super) fn answer_status(&mut self, key: usize, http: StatusCode, status: &Status) {
        let Some(stream) = self.listening(key) else { return };
        let id = stream.id;
        stream.answer.ended = true;
        self.sender.grpc_status_only(id, http, status);
        self.close_if_done(key);
    }

    /// Answers a plain request.
    pub(super) fn answer_http(&mut self, key: usize, response: Response<Bytes>) {
        let Some(stream) = self.listening(key) else { return };
        let id = stream.id;
        let (parts, body) = response.into_parts();
        stream.answer.begun = true;
        stream.answer.ended = body.is_empty();
        self.sender.http_head(id, parts.status, &parts.headers, body.is_empty());
        if body.is_empty() {
            self.close_if_done(key);
        } else {
            self.queue(key, body);
            self.end(key, End::Plain);
        }
    }

    /// Begins an answer of many messages.
    pub(super) fn begin_stream(&mut self, key: usize) {
        let Some(stream) = self.listening(key) else { return };
        let id = stream.id;
        stream.answer.begun = true;
        self.sender.grpc_head(id);
    }

    /// Sends one of them; says its size.
    pub(super) fn send(&mut self, key: usize, mut message: Encoded) -> Option<usize> {
        let bytes = message.payload_len();
        let id = self.listening(key)?.id;
        if message.frame().is_none() {
            // A message that no frame can carry breaks the stream: to leave it out would be a lie.
            self.sender.reset(id, ErrorCode::INTERNAL_ERROR);
            self.streams.get_mut(key)?.reset = true;
            self.close_if_done(key);
            return None;
        }
        self.queue(key, message.into_bytes());
        Some(bytes)
    }

    /// Ends an answer that has begun.
    pub(super) fn end_stream(&mut self, key: usize, status: Status) {
        if self.listening(key).is_some() {
            self.end(key, End::Status(status));
        }
    }

    /// Tells the caller that its time is over; what is pending is forgotten.
    pub(super) fn expire(&mut self, key: usize, status: &Status) {
        let Some(stream) = self.listening(key) else { return };
        if !stream.answer.begun {
            return self.answer_status(key, StatusCode::OK, status);
        }
        self.queued -= stream.pending_bytes();
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.answer.pending.clear();
        self.end(key, End::Status(status.clone()));
    }

    /// The service has let go of the call: its slot is free as soon as the stream is closed.
    pub(super) fn release(&mut self, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.call.released = true;
        if stream.is_deaf() {
            if stream.is_closed() {
                self.streams.remove(key);
            }
            return;
        }
        let status = Status::new(Code::Internal, "the server dropped the call");
        if stream.answer.begun {
            self.end(key, End::Status(status));
        } else {
            self.answer_status(key, StatusCode::OK, &status);
        }
    }

    /// Whether the next message of an answer may come. If not, the stream is woken when it may.
    pub(super) fn poll_ready(
        &mut self,
        key: usize,
        context: &Context<'_>,
    ) -> Poll<Result<(), Cancelled>> {
        let queued = self.queued;
        let Some(stream) = self.listening(key) else { return Poll::Ready(Err(Cancelled)) };
        // One byte of window is enough to begin: a message larger than the window queues the rest.
        if stream.answer.pending.is_empty()
            && stream.answer.window > 0
            && queued <= QUEUED_BYTES_MAX
        {
            return Poll::Ready(Ok(()));
        }
        stream.wait(context);
        Poll::Pending
    }

    /// The next request of a call that streams them; `None` once there are no more.
    pub(super) fn poll_request(
        &mut self,
        key: usize,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        let message_bytes_max = self.message_bytes_max;
        let Some(stream) = self.streams.get_mut(key) else { return Poll::Ready(None) };
        if stream.is_deaf() {
            return Poll::Ready(None);
        }
        let Some(messages) = &mut stream.request.messages else { return Poll::Ready(None) };
        let before = messages.len();
        let next = messages.next(message_bytes_max);
        self.bodies_bytes -= before - messages.len();
        match next {
            Ok(Some(message)) => Poll::Ready(Some(Ok(message))),
            Err(status) => Poll::Ready(Some(Err(status))),
            Ok(None) if stream.request.ended => Poll::Ready(None),
            Ok(None) => {
                stream.wait(context);
                Poll::Pending
            }
        }
    }

    /// Ready once nobody listens.
    pub(super) fn poll_cancelled(&mut self, key: usize, context: &Context<'_>) -> Poll<()> {
        let Some(stream) = self.listening(key) else { return Poll::Ready(()) };
        stream.wait(context);
        Poll::Pending
    }

    /// Whether somebody waits for the answer.
    pub(super) fn is_listening(&mut self, key: usize) -> bool {
        self.listening(key).is_some()
    }

    /// The stream, if somebody is there to be answered.
    fn listening(&mut self, key: usize) -> Option<&mut Stream> {
        self.streams.get_mut(key).filter(|stream| !stream.is_deaf())
    }

    /// Appends to what is pending, and lets it go on.
    fn queue(&mut self, key: usize, data: Bytes) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        self.queued += data.len();
        stream.answer.pending.push_back(data);
        self.go_on(key);
    }

    fn end(&mut self, key: usize, end: End) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.answer.end = Some(end);
        self.go_on(key);
    }

    /// Writes what may be written of a stream's pending data and its end, and lists it for the rest.
    pub(super) fn go_on(&mut self, key: usize) {
        let Some(Stream { id, answer, .. }) = self.streams.get_mut(key) else { return };
        while let Some(data) = answer.pending.front_mut() {
            let written = self.sender.data(*id, &mut answer.window, data);
            self.queued -= written;
            if written < data.len() {
                *data = data.slice(written..);
                // Without a window of its own it waits for the client, not for its turn.
                if answer.window > 0 && !answer.listed {
                    answer.listed = true;
                    self.ready.push_back(key);
                }
                return;
            }
            answer.pending.pop_front();
        }
        let id = *id;
        match answer.end.take() {
            Some(End::Status(status)) => self.sender.grpc_trailers(id, &status),
            Some(End::Plain) => self.sender.end(id),
            None => {
                if let Some(stream) = self.streams.get_mut(key) {
                    stream.wake();
                }
                return;
            }
        }
        answer.ended = true;
        self.close_if_done(key);
    }

    /// Lets streams go on that could not, as far as there is room.
    pub(super) fn pump(&mut self) {
        while self.sender.is_open() {
            let Some(key) = self.ready.pop_front() else { return };
            if let Some(stream) = self.streams.get_mut(key) {
                stream.answer.listed = false;
                self.go_on(key);
            }
        }
    }

    /// Wakes all streams that wait for something.
    pub(super) fn wake_all(&mut self) {
        self.streams.iter_mut().for_each(|(_, stream)| stream.wake());
    }

    /// The connection is no more.
    pub(super) fn close(&mut self) {
        let keys: Vec<usize> = self.open.values().copied().collect();
        for key in keys {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.reset = true;
            }
            self.close_if_done(key);
        }
    }

    /// Forgets a stream on which nothing more can happen; its slot stays until the service has let go of the call.
    pub(super) fn close_if_done(&mut self, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.answer.ended && !stream.request.ended && !stream.reset {
            // Answered before it was whole: the client need not send the rest (RFC 9113, section 8.1).
            stream.reset = true;
            self.sender.reset(stream.id, ErrorCode::NO_ERROR);
        }
        if !stream.is_closed() {
            return;
        }
        self.queued -= stream.pending_bytes();
        stream.answer.pending.clear();
        stream.answer.end = None;
        self.bodies_bytes -= stream.request.held();
        stream.request.body.clear();
        stream.request.messages = None;
        stream.wake();
        self.open.remove(&stream.id);
        if stream.call.released {
            self.streams.remove(key);
        }
    }
}
