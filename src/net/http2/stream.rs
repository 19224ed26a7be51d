//! One stream: a request on its way in, and its answer on the way out.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use bytes::Bytes;
use urd_http2::frame::WINDOW_MAX;

use super::head::Target;
use crate::api::{Method, Status};
use crate::net::deadline;
use crate::net::grpc::{Assembler, Deframer};

/// A receive window of ours (RFC 9113, section 5.2): so many bytes may the client send before it is told to go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    size: u32,
    left: u32,
}

impl Window {
    pub(super) fn new(size: u32) -> Self {
        Self { size, left: size }
    }

    /// Counts received bytes; false if they are more than the client may send.
    pub(super) fn take(&mut self, bytes: u32) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Opens the window again once half of it was used; says by how much.
    pub(super) fn refill(&mut self) -> Option<u32> {
        if self.left > self.size / 2 {
            return None;
        }
        let bytes = self.size - self.left;
        self.left = self.size;
        Some(bytes)
    }
}

/// A stream has its slot from its first frame until it is closed *and* the service has let go of the call.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) request: Request,
    pub(super) answer: Answer,
    pub(super) call: CallState,
    /// One of both sides has given the stream up: nothing more is received or sent.
    pub(super) reset: bool,
}

/// The way in.
#[derive(Debug)]
pub(super) struct Request {
    /// Taken when the request is handed on.
    pub(super) target: Option<Target>,
    pub(super) body: Assembler,
    pub(super) window: Window,
    /// Bytes of the body that the head announced and that have not come.
    pub(super) announced: Option<u64>,
    /// The messages of a call that streams them, until the service takes them.
    pub(super) messages: Option<Deframer>,
    /// The client has sent all.
    pub(super) ended: bool,
}

impl Request {
    /// Bytes held of it.
    pub(super) fn held(&self) -> usize {
        self.body.len() + self.messages.as_ref().map_or(0, Deframer::len)
    }
}

/// The way out.
#[derive(Debug)]
pub(super) struct Answer {
    /// Bytes of data that the client takes.
    pub(super) window: i64,
    pub(super) begun: bool,
    /// Data that no window, or no room, let pass so far.
    pub(super) pending: VecDeque<Bytes>,
    /// What follows the pending data.
    pub(super) end: Option<End>,
    /// It stands in the list of those that may go on.
    pub(super) listed: bool,
    /// All was written.
    pub(super) ended: bool,
}

/// The end of an answer.
#[derive(Debug)]
pub(super) enum End {
    /// gRPC's trailers.
    Status(Status),
    /// No trailers.
    Plain,
}

/// What the service and the clock know of it.
#[derive(Debug, Default)]
pub(super) struct CallState {
    pub(super) deadline: Option<deadline::Key>,
    /// The deadline is ours, and ends with the body.
    pub(super) deadline_is_ours: bool,
    /// Bytes of the request.
    pub(super) held: usize,
    /// The service has the request, and will let go of it.
    pub(super) handed: bool,
    /// It is a gRPC call of this method.
    pub(super) method: Option<Method>,
    /// The deadline has passed, and the caller was told.
    pub(super) expired: bool,
    /// The service has let go of it.
    pub(super) released: bool,
    /// Who waits for something to happen to the stream.
    pub(super) waker: Option<Waker>,
}

impl Stream {
    /// Nothing more can be received or sent.
    pub(super) fn is_closed(&self) -> bool {
        self.reset || (self.request.ended && self.answer.ended)
    }

    /// Nobody is there to be answered.
    pub(super) fn is_deaf(&self) -> bool {
        self.reset || self.answer.ended || self.answer.end.is_some()
    }

    /// Bytes that wait to be sent.
    pub(super) fn pending_bytes(&self) -> usize {
        self.answer.pending.iter().map(Bytes::len).sum()
    }

    /// The client takes more data; false if it claims more than there can be.
    pub(super) fn widen(&mut self, bytes: i64) -> bool {
        self.answer.window += bytes;
        self.answer.window <= WINDOW_MAX
    }

    /// Remembers whom to wake when something happens to the stream.
    pub(super) fn wait(&mut self, context: &Context<'_>) {
        let waker = &mut self.call.waker;
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.call.waker.take() {
            waker.wake();
        }
    }
}
