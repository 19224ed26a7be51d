//! One client connection's HTTP/2 and gRPC, without I/O: bytes in, bytes and finished calls out.
//!
//! Written to cost little per call, because a load generator shares the machine with what it
//! measures. The kinds of calls are known ahead ([`RequestHead`]), so request headers are copied from
//! templates; frames of many calls gather in one output buffer; responses are parsed
//! where they were received; and a trailer block that equals the last good one is not decoded.
//!
//! The order of use: [`Connection::new`]; send [`output`](Connection::output); feed what arrives
//! to [`receive`](Connection::receive); as long as [`room`](Connection::room) says so, start calls
//! with [`start`](Connection::start) or [`open_stream`](Connection::open_stream); collect
//! [`take_messages`](Connection::take_messages), then [`take_finished`](Connection::take_finished).
//! After an error, or once [`draining`](Connection::draining) and without open calls, make a new one.
//!
//! Deliberately not here: the client's end of a stream before the server's (a connection that is
//! not wanted any more is dropped as a whole), server push, priorities, TLS, compressed messages, and
//! flow control towards the server's memory: our windows are as large as the protocol allows.

use super::request_head::{HeadEncoder, RequestHead};
use super::response::Incoming;
use super::status::CallError;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use urd_http2::frame::{
    ErrorCode, HEAD_BYTES, Head, PAYLOAD_BYTES_MAX, PREFACE, STREAM_ID_MAX, WINDOW_DEFAULT,
    WINDOW_MAX, flag, kind, setting,
};
use urd_http2::hpack::{Decoder, Fields, HeaderError};

/// gRPC's head of a message: compressed flag and length.
pub const MESSAGE_HEAD_BYTES: usize = 5;
/// The connection's receive window is topped up when this much of it is used.
const WINDOW_TOP_UP: u32 = (WINDOW_MAX / 2) as u32;
/// Bound of a header block spread over CONTINUATION frames.
const HEADER_BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Bound of what the server may make us answer (PING, SETTINGS) without reading the answers.
const ANSWERS_BYTES_MAX: usize = 1024 * 1024;

/// Why a connection cannot go on. All its open calls are lost with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    #[error("protocol error by the server: {0}")]
    Protocol(&'static str),
    #[error("protocol error by the server: {0}")]
    Headers(#[from] HeaderError),
    #[error("connection ended by the server: {code}{}{debug}", if debug.is_empty() { "" } else { ": " })]
    Goaway { code: ErrorCode, debug: String },
}

/// Whether a response's message is wanted, or only that it was there and whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Message,
    Nothing,
    /// The response is a stream of messages, each of which is [`Arrived`] by itself.
    Each,
}

/// A response, its status being OK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Size of the message.
    pub message_bytes: u64,
    /// The message, if it was to be kept.
    pub message: Vec<u8>,
}

/// A call that ended, with what its starter gave along.
#[derive(Debug)]
pub struct Finished<T> {
    pub context: T,
    pub outcome: Result<Response, CallError>,
}

/// A message of a streaming response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub stream: u32,
    pub message: Vec<u8>,
}

/// What is to be sent on a stream and the peer's windows did not admit yet.
struct Upload {
    stream: u32,
    /// Messages with their heads.
    bytes: Vec<u8>,
    /// How much of these was sent.
    sent: usize,
    /// The peer's window of the stream, less its initial size: WINDOW_UPDATEs and what was sent.
    credit: i64,
    /// Nothing follows.
    ends: bool,
}

/// What the peer's settings say.
struct Peer {
    /// No SETTINGS yet: nothing may be started, as limits are unknown.
    known: bool,
    streams_max: usize,
    window_initial: i64,
    frame_bytes_max: usize,
}

/// Stream ids are odd and ascend; multiplying spreads them well and costs a nanosecond.
#[derive(Default)]
struct StreamIdHasher(u64);

impl Hasher for StreamIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

type StreamMap<T> = HashMap<u32, Incoming<T>, BuildHasherDefault<StreamIdHasher>>;

/// See the module's documentation.
pub struct Connection<T> {
    head: HeadEncoder,
    peer: Peer,
    /// To be sent: whole frames.
    output: Vec<u8>,
    /// Open calls.
    streams: StreamMap<T>,
    stream_next: u32,
    /// Room in the peer's window of the connection.
    send_window: i64,
    /// Requests of which something is left to send.
    uploads: VecDeque<Upload>,
    /// What streams that we have not ended send, in the order of their numbers.
    open_ended: BTreeMap<u32, Upload>,
    /// Bytes of the connection's receive window used since it was topped up.
    received: u32,
    /// A header block whose end has not come yet.
    continued: Option<(Head, Vec<u8>)>,
    /// The block that ended the last good response.
    trailers_ok: Vec<u8>,
    /// The block that began the last good response.
    headers_ok: Vec<u8>,
    draining: bool,
    finished: Vec<Finished<T>>,
    arrived: Vec<Arrived>,
}

impl<T> Connection<T> {
    /// A connection whose preface waits in the output.
    pub fn new(head: RequestHead) -> Connection<T> {
        let mut output = PREFACE.to_vec();
        let settings = [
            (setting::HEADER_TABLE_SIZE, 0),
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, WINDOW_MAX as u32),
        ];
        Head { length: settings.len() * 6, kind: kind::SETTINGS, flags: 0, stream: 0 }
            .put(&mut output);
        for (id, value) in settings {
            output.extend_from_slice(&id.to_be_bytes());
            output.extend_from_slice(&value.to_be_bytes());
        }
        put_window_update(&mut output, 0, (WINDOW_MAX - WINDOW_DEFAULT) as u32);
        Connection {
            head: HeadEncoder::new(head),
            peer: Peer {
                known: false,
                streams_max: usize::MAX,
                window_initial: WINDOW_DEFAULT,
                frame_bytes_max: PAYLOAD_BYTES_MAX,
            },
            output,
            streams: StreamMap::default(),
            stream_next: 1,
            send_window: WINDOW_DEFAULT,
            uploads: VecDeque::new(),
            open_ended: BTreeMap::new(),
            received: 0,
            continued: None,
            trailers_ok: Vec::new(),
            headers_ok: Vec::new(),
            draining: false,
            finished: Vec::new(),
            arrived: Vec::new(),
        }
    }

    /// Frames to be sent. The caller clears what it sent.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether the peer's settings arrived, so that calls may start.
    pub fn is_open(&self) -> bool {
        self.peer.known
    }

    /// How many calls may be started now.
    pub fn room(&self) -> usize {
        if !self.peer.known || self.draining {
            return 0;
        }
        self.peer.streams_max.saturating_sub(self.streams.len())
    }

    /// Calls that have not ended.
    pub fn calls_open(&self) -> usize {
        self.streams.len()
    }

    /// No call will be started any more, though open ones go on.
    pub fn draining(&self) -> bool {
        self.draining
    }

    /// Takes the calls that ended since last time, into `finished` (which keeps its capacity).
    pub fn take_finished(&mut self, finished: &mut Vec<Finished<T>>) {
        finished.append(&mut self.finished);
    }

    /// Takes the messages of streams since last time, each stream's in their order.
    pub fn take_messages(&mut self, messages: &mut Vec<Arrived>) {
        messages.append(&mut self.arrived);
    }

    /// Ends the connection; returns what its open calls gave along.
    pub fn abandon(self) -> impl Iterator<Item = T> {
        self.streams.into_values().map(|incoming| incoming.context)
    }

    /// Starts a call of the head's first path. `message` begins with gRPC's message head. There
    /// must be [room](Self::room).
    pub fn start(&mut self, message: &[u8], keep: Keep, context: T) {
        self.start_at(0, message, keep, context);
    }

    /// Starts a call of the head's path number `path`. Returns its stream.
    pub fn start_at(&mut self, path: usize, message: &[u8], keep: Keep, context: T) -> u32 {
        let stream = self.begin(path, keep, context);
        let length = message.len() as i64;
        let fits = length <= self.send_window
            && length <= self.peer.window_initial
            && message.len() <= self.peer.frame_bytes_max;
        if fits && self.uploads.is_empty() {
            self.send_window -= length;
            put_data(&mut self.output, stream, message, flag::END_STREAM);
        } else {
            let bytes = message.into();
            self.uploads.push_back(Upload { stream, bytes, sent: 0, credit: 0, ends: true });
            self.upload();
        }
        stream
    }

    /// Opens a stream of the head's path number `path`, on which [`send`](Self::send) sends as
    /// often as one likes. There must be [room](Self::room).
    pub fn open_stream(&mut self, path: usize, context: T) -> u32 {
        let stream = self.begin(path, Keep::Each, context);
        let upload = Upload { stream, bytes: Vec::new(), sent: 0, credit: 0, ends: false };
        self.open_ended.insert(stream, upload);
        stream
    }

    /// Sends a message, which begins with gRPC's message head, on a stream that was opened. If the
    /// stream has ended meanwhile, nothing happens: its end says so.
    pub fn send(&mut self, stream: u32, message: &[u8]) {
        if let Some(upload) = self.open_ended.get_mut(&stream) {
            upload.bytes.extend_from_slice(message);
            upload.put(&self.peer, &mut self.send_window, &mut self.output);
        }
    }

    fn begin(&mut self, path: usize, keep: Keep, context: T) -> u32 {
        assert!(self.room() > 0, "no room for a call");
        let stream = self.stream_next;
        self.stream_next += 2;
        // Ids do not come back: a used-up connection drains and is replaced.
        self.draining |= self.stream_next > STREAM_ID_MAX;

        let block = self.head.block(path);
        let head =
            Head { length: block.len(), kind: kind::HEADERS, flags: flag::END_HEADERS, stream };
        head.put(&mut self.output);
        self.output.extend_from_slice(block);
        self.streams.insert(stream, Incoming::new(context, keep));
        stream
    }

    /// Sends as much of what waits as the peer's windows admit.
    fn upload(&mut self) {
        let (peer, window, output) = (&self.peer, &mut self.send_window, &mut self.output);
        // What was reset, or answered early, is wanted no more.
        self.uploads.retain_mut(|upload| {
            self.streams.contains_key(&upload.stream) && !upload.put(peer, window, output)
        });
        for upload in self.open_ended.values_mut() {
            upload.put(peer, window, output);
        }
    }

    /// Parses what arrived. Returns how much of it was whole frames; the rest, always shorter than
    /// [`RECEIVE_BYTES_MIN`], must come again with what follows it.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<usize, ConnectionError> {
        let mut parsed = 0;
        while let Some(head) = Head::parse(&bytes[parsed..]) {
            if head.length > PAYLOAD_BYTES_MAX {
                return Err(ConnectionError::Protocol("frame larger than allowed"));
            }
            let begin = parsed + HEAD_BYTES;
            let Some(payload) = bytes.get(begin..begin + head.length) else { break };
            self.frame(head, payload)?;
            parsed = begin + head.length;
        }
        Ok(parsed)
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        if self.continued.is_some() && head.kind != kind::CONTINUATION {
            return Err(ConnectionError::Protocol("header block interrupted"));
        }
        if !self.peer.known && head.kind != kind::SETTINGS {
            return Err(ConnectionError::Protocol("not HTTP/2: the first frame is not SETTINGS"));
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::RST_STREAM => self.reset(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY => self.goaway(payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::PUSH_PROMISE => Err(ConnectionError::Protocol("push, though disabled")),
            _ => Ok(()), // Unknown types are to be ignored.
        }
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        // Padding counts too, and so does data of streams that ended.
        self.received += payload.len() as u32;
        if self.received >= WINDOW_TOP_UP {
            put_window_update(&mut self.output, 0, self.received);
            self.received = 0;
        }
        let payload = without_padding(head, payload)?;
        let Some(incoming) = self.streams.get_mut(&head.stream) else { return Ok(()) };
        incoming.received += head.length as u32;
        if incoming.received >= WINDOW_TOP_UP && !head.has(flag::END_STREAM) {
            put_window_update(&mut self.output, head.stream, incoming.received);
            incoming.received = 0;
        }
        let stream = head.stream;
        let arrived = |message| self.arrived.push(Arrived { stream, message });
        let outcome = match incoming.body.receive(payload, arrived) {
            Err(error) => Err(error),
            Ok(()) if !head.has(flag::END_STREAM) => return Ok(()),
            Ok(()) => Err(CallError::Malformed("it ended without a status")),
        };
        if !head.has(flag::END_STREAM) {
            self.put_reset(head.stream);
        }
        self.finish(head.stream, outcome);
        Ok(())
    }

    fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        let mut block = without_padding(head, payload)?;
        if head.has(flag::PRIORITY) {
            let short = ConnectionError::Protocol("HEADERS too short for its priority");
            block = block.get(5..).ok_or(short)?;
        }
        if head.has(flag::END_HEADERS) {
            self.header_block(head, block)
        } else {
            self.continued = Some((head, block.to_vec()));
            Ok(())
        }
    }

    fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        let Some((first, mut block)) = self.continued.take() else {
            return Err(ConnectionError::Protocol("CONTINUATION of nothing"));
        };
        if first.stream != head.stream || block.len() + payload.len() > HEADER_BLOCK_BYTES_MAX {
            return Err(ConnectionError::Protocol("CONTINUATION of another stream, or too long"));
        }
        block.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            self.header_block(first, &block)
        } else {
            self.continued = Some((first, block));
            Ok(())
        }
    }

    /// A whole header block: a response's beginning or its end.
    fn header_block(&mut self, head: Head, block: &[u8]) -> Result<(), ConnectionError> {
        let Some(incoming) = self.streams.get_mut(&head.stream) else {
            // Late, for a stream that was reset. Nothing is lost, as no table depends on it.
            return Ok(());
        };
        let ends = head.has(flag::END_STREAM);
        let known = if ends { &mut self.trailers_ok } else { &mut self.headers_ok };
        let known_good = (!ends || incoming.begun) && known == block;
        let checked = if known_good {
            Ok(())
        } else {
            let mut fields = Fields::new(HEADER_BLOCK_BYTES_MAX);
            Decoder::new(0).decode(block, &mut fields)?;
            let checked = super::status::check_block(&fields, ends, incoming.begun);
            // What is good after a beginning need not be good without one.
            if checked.is_ok() && (!ends || incoming.begun) {
                known.clear();
                known.extend_from_slice(block);
            }
            checked
        };
        match (checked, ends) {
            (Ok(()), false) => incoming.begun = true,
            (Ok(()), true) => {
                let outcome = incoming.body.take_response();
                self.finish(head.stream, outcome);
            }
            (Err(CallError::Interim), false) => {}
            (Err(error), ends) => {
                if !ends {
                    self.put_reset(head.stream);
                }
                self.finish(head.stream, Err(error));
            }
        }
        Ok(())
    }

    fn reset(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        let code = ErrorCode(take_u32(payload, "RST_STREAM of the wrong size")?);
        let error = match code {
            ErrorCode::REFUSED_STREAM => CallError::Unprocessed,
            code => CallError::Reset(code),
        };
        if self.streams.contains_key(&head.stream) {
            self.finish(head.stream, Err(error));
        }
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        if head.has(flag::ACK) {
            return Ok(());
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(ConnectionError::Protocol("SETTINGS of the wrong size"));
        }
        for &[id_high, id_low, v0, v1, v2, v3] in settings {
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match u16::from_be_bytes([id_high, id_low]) {
                setting::HEADER_TABLE_SIZE => self.head.table_size(value as usize),
                setting::MAX_CONCURRENT_STREAMS => self.peer.streams_max = value as usize,
                setting::INITIAL_WINDOW_SIZE => {
                    if i64::from(value) > WINDOW_MAX {
                        return Err(ConnectionError::Protocol("initial window too large"));
                    }
                    self.peer.window_initial = value.into();
                }
                setting::MAX_FRAME_SIZE => {
                    // Larger frames than everybody takes would gain nothing here.
                    self.peer.frame_bytes_max = PAYLOAD_BYTES_MAX.min(value as usize).max(1);
                }
                _ => {}
            }
        }
        self.peer.known = true;
        self.put_answer(
            Head { length: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 },
            &[],
        )?;
        self.upload();
        Ok(())
    }

    fn ping(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        if head.has(flag::ACK) {
            return Ok(());
        }
        if payload.len() != 8 {
            return Err(ConnectionError::Protocol("PING of the wrong size"));
        }
        self.put_answer(Head { length: 8, kind: kind::PING, flags: flag::ACK, stream: 0 }, payload)
    }

    fn put_answer(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        if self.output.len() > ANSWERS_BYTES_MAX && self.streams.is_empty() {
            return Err(ConnectionError::Protocol("a flood of frames that want answers"));
        }
        head.put(&mut self.output);
        self.output.extend_from_slice(payload);
        Ok(())
    }

    /// The server takes no new calls; what it names as not processed may safely be tried again.
    fn goaway(&mut self, payload: &[u8]) -> Result<(), ConnectionError> {
        let (Some(last), Some(code)) = (payload.first_chunk::<4>(), payload.get(4..8)) else {
            return Err(ConnectionError::Protocol("GOAWAY too short"));
        };
        let last = u32::from_be_bytes(*last) & STREAM_ID_MAX;
        let code = ErrorCode(take_u32(code, "GOAWAY too short")?);
        if code != ErrorCode::NO_ERROR {
            let debug = String::from_utf8_lossy(&payload[8..]).into_owned();
            return Err(ConnectionError::Goaway { code, debug });
        }
        self.draining = true;
        let unprocessed: Vec<u32> = self.streams.keys().copied().filter(|&id| id > last).collect();
        for stream in unprocessed {
            self.finish(stream, Err(CallError::Unprocessed));
        }
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), ConnectionError> {
        let increment = take_u32(payload, "WINDOW_UPDATE of the wrong size")? & STREAM_ID_MAX;
        if head.stream == 0 {
            self.send_window += i64::from(increment);
            if self.send_window > WINDOW_MAX {
                return Err(ConnectionError::Protocol("window of the connection too large"));
            }
        } else if let Some(upload) = self.open_ended.get_mut(&head.stream) {
            upload.credit += i64::from(increment);
            upload.put(&self.peer, &mut self.send_window, &mut self.output);
            return Ok(());
        } else if let Some(upload) = self.uploads.iter_mut().find(|u| u.stream == head.stream) {
            upload.credit += i64::from(increment);
        }
        self.upload();
        Ok(())
    }

    /// Tells the server that a response is not wanted any more.
    fn put_reset(&mut self, stream: u32) {
        const CANCEL: u32 = 8;
        Head { length: 4, kind: kind::RST_STREAM, flags: 0, stream }.put(&mut self.output);
        self.output.extend_from_slice(&CANCEL.to_be_bytes());
    }

    fn finish(&mut self, stream: u32, outcome: Result<Response, CallError>) {
        self.open_ended.remove(&stream);
        if let Some(incoming) = self.streams.remove(&stream) {
            self.finished.push(Finished { context: incoming.context, outcome });
        }
    }
}

impl Upload {
    /// Sends as much as the windows admit. Whether that was the end of the stream.
    fn put(&mut self, peer: &Peer, send_window: &mut i64, output: &mut Vec<u8>) -> bool {
        loop {
            let rest = self.bytes.len() - self.sent;
            let window = (peer.window_initial + self.credit).min(*send_window);
            let admitted = usize::try_from(window.max(0)).unwrap_or(usize::MAX);
            let length = rest.min(admitted).min(peer.frame_bytes_max);
            if length == 0 {
                break;
            }
            let end = self.sent + length;
            let flags = if self.ends && length == rest { flag::END_STREAM } else { 0 };
            put_data(output, self.stream, &self.bytes[self.sent..end], flags);
            *send_window -= length as i64;
            self.credit -= length as i64;
            self.sent = end;
        }
        let all = self.sent == self.bytes.len();
        if all {
            self.bytes.clear();
            self.sent = 0;
        }
        all && self.ends
    }
}

/// No unparsed rest is ever longer: a receive buffer must hold one whole frame.
pub const RECEIVE_BYTES_MIN: usize = HEAD_BYTES + PAYLOAD_BYTES_MAX;

fn put_data(output: &mut Vec<u8>, stream: u32, payload: &[u8], flags: u8) {
    Head { length: payload.len(), kind: kind::DATA, flags, stream }.put(output);
    output.extend_from_slice(payload);
}

fn put_window_update(output: &mut Vec<u8>, stream: u32, increment: u32) {
    Head { length: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream }.put(output);
    output.extend_from_slice(&increment.to_be_bytes());
}

fn take_u32(payload: &[u8], wrong: &'static str) -> Result<u32, ConnectionError> {
    let bytes = payload.try_into().map_err(|_| ConnectionError::Protocol(wrong))?;
    Ok(u32::from_be_bytes(bytes))
}

fn without_padding(head: Head, payload: &[u8]) -> Result<&[u8], ConnectionError> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let split = payload.split_first();
    let unpadded = split.and_then(|(&padding, rest)| {
        rest.len().checked_sub(padding.into()).map(|length| &rest[..length])
    });
    unpadded.ok_or(ConnectionError::Protocol("more padding than payload"))
}

#[cfg(test)]
mod tests;
