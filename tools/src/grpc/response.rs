//! What has arrived of a call's response.

use super::connection::{Keep, MESSAGE_HEAD_BYTES, Response};
use super::status::CallError;

/// An open call.
pub(super) struct Incoming<T> {
    pub(super) context: T,
    /// The response's first headers came.
    pub(super) begun: bool,
    pub(super) body: Body,
    /// Bytes of the stream's receive window used since it was topped up.
    pub(super) received: u32,
}

impl<T> Incoming<T> {
    pub(super) fn new(context: T, keep: Keep) -> Incoming<T> {
        let body = Body { head: [0; MESSAGE_HEAD_BYTES], received: 0, keep, message: Vec::new() };
        Incoming { context, begun: false, body, received: 0 }
    }
}

/// The messages of a response, whose bytes come in any portions: one, or any number in a stream.
pub(super) struct Body {
    head: [u8; MESSAGE_HEAD_BYTES],
    /// Bytes received of the message under way, the head's among them.
    received: u64,
    keep: Keep,
    message: Vec<u8>,
}

impl Body {
    /// Takes a portion; refuses compression, and a second message where there is to be one. Hands
    /// messages of a stream to `arrived` as they become whole.
    pub(super) fn receive(
        &mut self,
        mut portion: &[u8],
        mut arrived: impl FnMut(Vec<u8>),
    ) -> Result<(), CallError> {
        loop {
            let head_rest = (MESSAGE_HEAD_BYTES as u64).saturating_sub(self.received) as usize;
            let (head, rest) = portion.split_at(head_rest.min(portion.len()));
            if head_rest > 0 {
                let begin = MESSAGE_HEAD_BYTES - head_rest;
                self.head[begin..begin + head.len()].copy_from_slice(head);
            }
            self.received += head.len() as u64;
            if self.received < MESSAGE_HEAD_BYTES as u64 {
                return Ok(());
            }
            if self.head[0] != 0 {
                return Err(CallError::Malformed(
                    "its message is compressed, though not asked for",
                ));
            }
            let missing = usize::try_from(self.expected() - self.received).unwrap_or(usize::MAX);
            let (message, rest) = rest.split_at(missing.min(rest.len()));
            self.received += message.len() as u64;
            if self.keep != Keep::Nothing {
                self.message.extend_from_slice(message);
            }
            if self.keep == Keep::Each && self.received == self.expected() {
                self.received = 0;
                arrived(std::mem::take(&mut self.message));
            } else if !rest.is_empty() {
                return Err(CallError::Malformed("it is longer than its message"));
            }
            if rest.is_empty() {
                return Ok(());
            }
            portion = rest;
        }
    }

    /// Bytes of head and message, once the head came.
    fn expected(&self) -> u64 {
        let [_, length @ ..] = self.head;
        MESSAGE_HEAD_BYTES as u64 + u64::from(u32::from_be_bytes(length))
    }

    /// The whole message, its status being OK. A stream's messages were handed over before.
    pub(super) fn take_response(&mut self) -> Result<Response, CallError> {
        if self.keep == Keep::Each && self.received == 0 {
            return Ok(Response::default());
        }
        if self.received < MESSAGE_HEAD_BYTES as u64 {
            return Err(CallError::Malformed("it is OK but has no message"));
        }
        if self.received != self.expected() {
            return Err(CallError::Malformed("it ended within its message"));
        }
        let message_bytes = self.received - MESSAGE_HEAD_BYTES as u64;
        Ok(Response { message_bytes, message: std::mem::take(&mut self.message) })
    }
}
