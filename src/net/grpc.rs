//! What gRPC adds to HTTP/2: message frames, timeouts, percent-encoded texts, content types. Pure functions over bytes.
//!
//! Every byte here was chosen by a client, so nothing indexes or slices without a check, no length is believed before
//! it is compared with a limit, and whatever is wrong becomes a [`Status`], never a closed connection. The texts are
//! those of Go's gRPC, which etcd's users know from their logs.
//!
//! It does not decompress: no encoding but `identity` is offered, and a client that uses another is told so.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::api::{Code, Encoded, Status};

/// The frame head in front of each message: a compression flag and the length, big-endian.
const HEAD_BYTES: usize = Encoded::HEAD_BYTES;

/// The first allocation for a message that arrives in pieces. Its announced length is the client's claim, so memory
/// follows the bytes that really arrive.
const ASSEMBLE_BYTES_MIN: usize = 32 * 1024;

/// Collects the request message of a call that carries exactly one.
///
/// A message that arrives as one chunk is handed on without a copy; one in pieces is copied once.
#[derive(Debug)]
pub(super) struct Assembler {
    bytes_max: usize,
    /// The body is one gRPC frame; else it is the message itself, as of a plain HTTP request.
    is_framed: bool,
    state: Assembled,
}

#[derive(Debug)]
enum Assembled {
    Nothing,
    Whole(Bytes),
    Pieces(BytesMut),
}

impl Assembler {
    /// For a body that is one gRPC frame.
    pub(super) fn framed(bytes_max: usize) -> Self {
        Self { bytes_max, is_framed: true, state: Assembled::Nothing }
    }

    /// For a body that is the message.
    pub(super) fn plain(bytes_max: usize) -> Self {
        Self { bytes_max, is_framed: false, state: Assembled::Nothing }
    }

    /// Takes the next chunk of the body. An error is final: the rest of the body no longer matters.
    pub(super) fn push(&mut self, chunk: Bytes) -> Result<(), Status> {
        if chunk.is_empty() {
            return Ok(());
        }
        let pieces = match std::mem::replace(&mut self.state, Assembled::Nothing) {
            Assembled::Nothing => {
                self.check(&chunk, chunk.len())?;
                self.state = Assembled::Whole(chunk);
                return Ok(());
            }
            Assembled::Whole(first) => {
                let mut pieces = BytesMut::with_capacity(
                    ASSEMBLE_BYTES_MIN.min(HEAD_BYTES + self.bytes_max).max(first.len()),
                );
                pieces.extend_from_slice(&first);
                pieces
            }
            Assembled::Pieces(pieces) => pieces,
        };
        self.push_piece(pieces, &chunk)
    }

    fn push_piece(&mut self, mut pieces: BytesMut, chunk: &[u8]) -> Result<(), Status> {
        // The head may itself come in pieces; until it is whole, a few bytes of the chunk complete it.
        let head_missing = HEAD_BYTES.saturating_sub(pieces.len()).min(chunk.len());
        let (head_rest, rest) = chunk.split_at_checked(head_missing).unwrap_or((chunk, &[]));
        pieces.extend_from_slice(head_rest);
        self.check(&pieces, pieces.len().saturating_add(rest.len()))?;
        pieces.extend_from_slice(rest);
        self.state = Assembled::Pieces(pieces);
        Ok(())
    }

    /// Checks a body of `bytes` so far that begins with `begin`, before it is kept.
    fn check(&self, begin: &[u8], bytes: usize) -> Result<(), Status> {
        if !self.is_framed {
            return if bytes > self.bytes_max {
                Err(larger_than(bytes, self.bytes_max))
            } else {
                Ok(())
            };
        }
        match check_head(begin, self.bytes_max)? {
            Some(message_bytes) if bytes > HEAD_BYTES + message_bytes => {
                Err(more_than_one_message())
            }
            _ => Ok(()),
        }
    }

    /// Bytes held so far, with the frame head.
    pub(super) fn len(&self) -> usize {
        match &self.state {
            Assembled::Nothing => 0,
            Assembled::Whole(chunk) => chunk.len(),
            Assembled::Pieces(pieces) => pieces.len(),
        }
    }

    /// Forgets what was held.
    pub(super) fn clear(&mut self) {
        self.state = Assembled::Nothing;
    }

    /// The message, at the end of the body.
    pub(super) fn finish(self) -> Result<Bytes, Status> {
        let body = match self.state {
            Assembled::Nothing if self.is_framed => {
                return Err(Status::new(Code::Internal, "grpc: no request message in the call"));
            }
            Assembled::Nothing => Bytes::new(),
            Assembled::Whole(chunk) => chunk,
            Assembled::Pieces(pieces) => pieces.freeze(),
        };
        if self.is_framed { unframe(body, self.bytes_max) } else { Ok(body) }
    }
}

/// Takes a stream of messages apart.
#[derive(Debug, Default)]
pub(super) struct Deframer {
    bytes: BytesMut,
}

impl Deframer {
    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The next whole message.
    pub(super) fn next(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Status> {
        match check_head(&self.bytes, bytes_max)? {
            Some(message_bytes) if self.bytes.len() >= HEAD_BYTES + message_bytes => {
                bytes::Buf::advance(&mut self.bytes, HEAD_BYTES);
                let message = Bytes::copy_from_slice(&self.bytes.split_to(message_bytes));
                if self.bytes.is_empty() {
                    // Streams are long and mostly silent.
                    self.bytes = BytesMut::new();
                }
                Ok(Some(message))
            }
            _ => Ok(None),
        }
    }
}

/// The message of a body that holds exactly one frame.
fn unframe(frame: Bytes, bytes_max: usize) -> Result<Bytes, Status> {
    match check_head(&frame, bytes_max)? {
        Some(message_bytes) if frame.len() == HEAD_BYTES + message_bytes => {
            let mut message = frame;
            bytes::Buf::advance(&mut message, HEAD_BYTES);
            Ok(message)
        }
        Some(message_bytes) if frame.len() > HEAD_BYTES + message_bytes => {
            Err(more_than_one_message())
        }
        _ => Err(Status::new(Code::Internal, "unexpected EOF")),
    }
}

/// Bytes of the message that a frame head announces, within the limit; `None` while the head is incomplete.
fn check_head(bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, Status> {
    let Some((&[flag, a, b, c, d], _)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    match flag {
        0 => {}
        1 => {
            return Err(Status::new(
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            ));
        }
        other => {
            return Err(Status::new(
                Code::Internal,
                format!("grpc: received unexpected payload format {other}"),
            ));
        }
    }
    let length = u32::from_be_bytes([a, b, c, d]);
    match usize::try_from(length) {
        Ok(length) if length <= bytes_max => Ok(Some(length)),
        _ => Err(larger_than(length, bytes_max)),
    }
}

fn larger_than(bytes: impl std::fmt::Display, bytes_max: usize) -> Status {
    let text = format!("grpc: received message larger than max ({bytes} vs. {bytes_max})");
    Status::new(Code::ResourceExhausted, text)
}

fn more_than_one_message() -> Status {
    Status::new(Code::Internal, "grpc: more than one request message in the call")
}

/// Whether a content type is gRPC's: `application/grpc`, alone or with a `+codec` or `;parameters`.
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    let base = b"application/grpc";
    content_type.split_at_checked(base.len()).is_some_and(|(head, rest)| {
        head.eq_ignore_ascii_case(base) && matches!(rest.first(), None | Some(b'+' | b';'))
    })
}

/// The refusal of a message encoding that a client announces, if it is not `identity`.
pub(super) fn check_encoding(encoding: &[u8]) -> Result<(), Status> {
    if encoding.is_empty() || encoding == b"identity" {
        return Ok(());
    }
    let encoding = String::from_utf8_lossy(encoding);
    Err(Status::new(
        Code::Unimplemented,
        format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}"),
    ))
}

/// Reads `grpc-timeout`: at most eight digits and a unit. A zero is a deadline that has passed.
pub(super) fn parse_timeout(value: &[u8]) -> Result<Duration, Status> {
    let parse = || -> Option<Duration> {
        let (&unit, digits) = value.split_last()?;
        if digits.is_empty() || digits.len() > 8 {
            return None;
        }
        let mut amount = 0u64;
        for &digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            amount = amount * 10 + u64::from(digit - b'0');
        }
        Some(match unit {
            b'n' => Duration::from_nanos(amount),
            b'u' => Duration::from_micros(amount),
            b'm' => Duration::from_millis(amount),
            b'S' => Duration::from_secs(amount),
            b'M' => Duration::from_secs(amount * 60),
            b'H' => Duration::from_secs(amount * 3600),
            _ => return None,
        })
    };
    parse().ok_or_else(|| {
        let value = String::from_utf8_lossy(value);
        Status::new(Code::Internal, format!("malformed grpc-timeout: {value:?}"))
    })
}

/// Percent-encodes a status text for `grpc-message`: everything but printable ASCII, and the percent sign itself.
pub(super) fn encode_message(text: &str) -> Bytes {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if text.bytes().all(plain) {
        return Bytes::copy_from_slice(text.as_bytes());
    }
    let mut encoded = Vec::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(byte);
        } else {
            encoded.extend_from_slice(&[b'%', hex_digit(byte >> 4), hex_digit(byte & 0xf)]);
        }
    }
    Bytes::from(encoded)
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + (nibble - 10),
    }
}

/// Why there is no such method, in the words of Go's gRPC, which tells an unknown service from an unknown method.
pub(super) fn unknown_method(path: &str, is_known_service: impl Fn(&str) -> bool) -> Status {
    let text = match path.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) {
        Some((service, method)) if is_known_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    };
    Status::new(Code::Unimplemented, text)
}

#[cfg(test)]
mod tests;
