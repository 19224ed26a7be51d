//! Target `http2`: what a client sends on a connection, behind the preface.
//!
//! An input begins with two bytes of plan: into what pieces the bytes behind them are cut, and when and how large calls
//! are answered. The session's books are checked after every piece, and what it sends is read as a client would.

use fastrand::Rng;
use urd::net::probe::{Heard, Probe};
use urd_http2::frame::{HEAD_BYTES, Head, PAYLOAD_BYTES_MAX, flag, kind};
use urd_http2::hpack::{Decoder, Fields, TABLE_BYTES_DEFAULT, put_literal, put_string};

use super::{Outcome, Target, mutate, samples};
use crate::grpc::request_head::{HeadEncoder, RequestHead};

/// Streams at once, few enough that inputs reach the bound.
const STREAMS_MAX: u32 = 6;
/// The longest message, few enough that inputs reach the bound.
const MESSAGE_BYTES_MAX: usize = 4096;
const PLAN_BYTES: usize = 2;
const HEADER_LIST_BYTES: usize = 1 << 20;

/// Bits of the second byte of the plan.
mod plan {
    /// Calls are answered as they come; else when all was received.
    pub(super) const AT_ONCE: u8 = 1;
    /// Answers are longer than a window.
    pub(super) const LARGE: u8 = 2;
    /// The server says good-bye half-way.
    pub(super) const LEAVES: u8 = 4;
    /// Deadlines pass instead of answers.
    pub(super) const EXPIRES: u8 = 8;
    /// Calls are refused.
    pub(super) const FAILS: u8 = 16;
    /// Nobody answers at all.
    pub(super) const SILENT: u8 = 32;
}

/// See the module's page.
#[derive(Clone, Copy, Debug)]
pub struct Http2;

impl Target for Http2 {
    fn name(&self) -> &'static str {
        "http2"
    }

    fn about(&self) -> &'static str {
        "two bytes of plan, and what a client sends on an HTTP/2 connection"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        for (nth, mut wire) in conversations().into_iter().enumerate() {
            for (piece, how) in [(0, plan::AT_ONCE), (7, 0), (1, plan::LARGE | plan::AT_ONCE)] {
                let how = if nth % 2 == 0 { how } else { how | plan::LEAVES };
                let mut seed = vec![piece, how];
                seed.extend_from_slice(&wire);
                seeds.push(seed);
            }
            wire.splice(0..0, [0, plan::EXPIRES]);
            seeds.push(wire);
        }
        seeds
    }

    fn mutate(&self, input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
        input.resize(input.len().max(PLAN_BYTES), 0);
        if random.u8(..3) == 0 {
            return mutate::bytes(input, other, random);
        }
        let mut frames = split(&input[PLAN_BYTES..]);
        let others = split(other.get(PLAN_BYTES..).unwrap_or_default());
        if frames.is_empty() || random.bool() {
            mutate::list(&mut frames, &others, random);
        } else {
            let at = random.usize(..frames.len());
            change(&mut frames[at], other, random);
        }
        input.truncate(PLAN_BYTES);
        for Frame { head, payload } in frames {
            let length = payload.len().min(PAYLOAD_BYTES_MAX + 1);
            Head { length, ..head }.put(input);
            input.extend_from_slice(&payload[..length]);
        }
    }

    fn run(&self, input: &[u8]) -> Outcome {
        let (&[piece, how], wire) =
            input.split_first_chunk::<PLAN_BYTES>().unwrap_or((&[0, 0], &[]));
        let mut run = Run {
            probe: Probe::new(STREAMS_MAX, MESSAGE_BYTES_MAX),
            client: Client::default(),
            how,
            open: Vec::new(),
            streams: Vec::new(),
            outcome: Outcome::default(),
        };
        let piece = if piece == 0 { wire.len().max(1) } else { usize::from(piece) };
        let mut received = 0;
        for bytes in wire.chunks(piece) {
            received += bytes.len();
            if how & plan::LEAVES != 0 && received >= wire.len() / 2 {
                run.probe.leave();
            }
            if !run.receive(bytes) {
                return run.outcome;
            }
        }
        run.end();
        run.outcome
    }
}

struct Run {
    probe: Probe,
    client: Client,
    how: u8,
    /// Calls that wait to be answered.
    open: Vec<Heard>,
    /// Calls that stream.
    streams: Vec<usize>,
    outcome: Outcome,
}

impl Run {
    fn receive(&mut self, bytes: &[u8]) -> bool {
        let received = self.probe.receive(bytes);
        self.probe.check();
        let heard = match received {
            Ok(heard) => heard,
            Err(reason) => {
                self.outcome.text(&reason);
                self.client.read(&self.probe.sent());
                self.probe.close();
                self.probe.check();
                return false;
            }
        };
        for one in heard {
            match one {
                Heard::Stream(key, method) => {
                    self.outcome.once(&format!("{method:?}"));
                    self.probe.begin_stream(key);
                    self.streams.push(key);
                }
                Heard::Refused(code) => self.outcome.once(&format!("{code:?}")),
                Heard::Gone => self.outcome.once("gone"),
                Heard::Call(..) | Heard::Http(_) => self.open.push(one),
            }
        }
        if self.how & plan::AT_ONCE != 0 {
            self.answer();
        }
        let bytes = self.answer_bytes();
        let probe = &mut self.probe;
        self.streams.retain(|key| !probe.go_on_with_stream(*key, bytes));
        self.probe.check();
        self.client.read(&self.probe.sent());
        self.probe.check();
        true
    }

    fn answer_bytes(&self) -> usize {
        if self.how & plan::LARGE != 0 { 70_000 } else { 10 }
    }

    fn answer(&mut self) {
        if self.how & plan::SILENT != 0 {
            return;
        }
        let bytes = self.answer_bytes();
        for one in std::mem::take(&mut self.open) {
            match one {
                Heard::Http(key) => self.probe.answer_http(key, bytes),
                Heard::Call(key, ..) if self.how & plan::EXPIRES != 0 => {
                    self.probe.expire(key);
                    self.probe.answer(key, bytes);
                }
                Heard::Call(key, ..) if self.how & plan::FAILS != 0 => {
                    self.probe.fail(key, "no \u{2026} 100%");
                }
                Heard::Call(key, method, message) => {
                    self.outcome.once(&format!("{method:?}"));
                    let size = if message.is_empty() { "empty" } else { "message" };
                    self.outcome.once(size);
                    self.probe.answer(key, bytes);
                }
                _ => {}
            }
            self.probe.check();
        }
    }

    fn end(&mut self) {
        self.answer();
        self.client.read(&self.probe.sent());
        let Client { frames, .. } = &self.client;
        let frames: Vec<usize> = frames.to_vec();
        for (kind, count) in frames.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.outcome.count(&kind.to_string(), *count);
        }
        self.outcome.count("slots", self.probe.slots());
        self.probe.close();
        self.probe.check();
    }
}

/// Reads what the server sends.
struct Client {
    decoder: Decoder,
    fields: Fields,
    /// By kind.
    frames: Vec<usize>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            decoder: Decoder::new(TABLE_BYTES_DEFAULT),
            fields: Fields::new(HEADER_LIST_BYTES),
            frames: vec![0; usize::from(u8::MAX) + 1],
        }
    }
}

impl Client {
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some(head) = Head::parse(bytes) {
            let frame = bytes.split_at_checked(HEAD_BYTES + head.length);
            let (frame, rest) = frame.expect("the server sends whole frames");
            bytes = rest;
            assert!(head.length <= PAYLOAD_BYTES_MAX, "a frame of {} bytes", head.length);
            self.frames[usize::from(head.kind)] += 1;
            if head.kind == kind::HEADERS {
                assert!(head.has(flag::END_HEADERS) && head.stream % 2 == 1, "{head:?}");
                let decoded = self.decoder.decode(&frame[HEAD_BYTES..], &mut self.fields);
                decoded.expect("the server sends sound header blocks");
                assert!(self.fields.iter().all(|(name, _)| !name.is_empty()));
            }
        }
        assert!(bytes.is_empty(), "the server sends whole frames");
    }
}

#[derive(Clone, Debug)]
struct Frame {
    head: Head,
    payload: Vec<u8>,
}

/// The frames of `bytes`, as far as they are whole.
fn split(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(head) = Head::parse(bytes) {
        let end = (HEAD_BYTES + head.length).min(bytes.len());
        let (frame, rest) = bytes.split_at(end);
        frames.push(Frame { head, payload: frame[HEAD_BYTES..].to_vec() });
        bytes = rest;
    }
    frames
}

fn change(frame: &mut Frame, other: &[u8], random: &mut Rng) {
    match random.u8(..8) {
        0 => frame.head.kind = random.u8(..11),
        1 => frame.head.flags ^= 1 << random.u32(..8),
        2 => frame.head.stream = random.u32(..16),
        3 => frame.head.stream = mutate::number(random) as u32 & 0x7fff_ffff,
        4 => {
            // A block of other headers.
            frame.payload = block(&[(":path", "/health"), ("te", "trailers")]);
            let name: String = (0..random.usize(..6)).map(|_| random.lowercase()).collect();
            put_literal(&mut frame.payload, 0x40, 6, random.usize(..70), name.as_bytes(), b"v");
        }
        _ => mutate::bytes(&mut frame.payload, other, random),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Head { length: payload.len(), kind, flags, stream }.put(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// `POST`, `http`, and these.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in fields {
        put_literal(&mut block, 0x40, 6, 0, name.as_bytes(), value.as_bytes());
    }
    block
}

fn data(stream: u32, flags: u8, message: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    body.extend_from_slice(message);
    frame(kind::DATA, flags, stream, &body)
}

fn conversations() -> Vec<Vec<u8>> {
    const PATHS: &[&str] = &[
        "/etcdserverpb.KV/Put",
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.Watch/Watch",
        "/etcdserverpb.Lease/LeaseKeepAlive",
    ];
    let settings = frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0, 0, 1, 0, 0, 16, 0]);
    let end = flag::END_STREAM;
    let headers = flag::END_HEADERS;
    let head = RequestHead::new("localhost:2379", PATHS).expect("short names");
    let mut encoder = HeadEncoder::new(head);
    let mut calls = settings.clone();
    let messages = [samples::calls()[3].1.clone(), samples::calls()[0].1.clone()];
    for (nth, stream) in (1..12).step_by(2).enumerate() {
        calls.extend(frame(kind::HEADERS, headers, stream, encoder.block(nth % 2)));
        calls.extend(data(stream, end, &messages[nth % 2]));
    }
    let mut streams = settings.clone();
    for (path, stream) in [(2, 1), (3, 3)] {
        streams.extend(frame(kind::HEADERS, headers, stream, encoder.block(path)));
        streams.extend(data(stream, 0, b""));
        streams.extend(data(stream, 0, b"more"));
        streams.extend(data(stream, end, b"last"));
    }
    let mut rest = settings.clone();
    rest.extend(frame(kind::SETTINGS, flag::ACK, 0, b""));
    rest.extend(frame(kind::PING, 0, 0, b"12345678"));
    rest.extend(frame(kind::PING, flag::ACK, 0, b"shutdown"));
    rest.extend(frame(kind::WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]));
    let plain = block(&[(":path", "/version"), ("content-length", "3"), ("grpc-timeout", "1S")]);
    rest.extend(frame(kind::HEADERS, 0, 1, &plain[..9]));
    rest.extend(frame(kind::CONTINUATION, headers, 1, &plain[9..]));
    rest.extend(frame(kind::DATA, end | flag::PADDED, 1, &[2, b'a', b'b', b'c', 0, 0]));
    let timed = block(&[
        (":path", PATHS[0]),
        ("content-type", "application/grpc+proto"),
        ("grpc-timeout", "0n"),
        ("hasleader", "true"),
    ]);
    rest.extend(frame(kind::HEADERS, headers | end, 3, &timed));
    let mut huffman = block(&[(":path", PATHS[1]), ("content-type", "application/grpc")]);
    huffman.push(0x40);
    put_string(&mut huffman, b"x-header");
    huffman.extend_from_slice(&[0x84, 0x25, 0xa8, 0x49, 0xe9]);
    rest.extend(frame(
        kind::HEADERS,
        headers | flag::PRIORITY,
        5,
        &[&[0; 5][..], &huffman].concat(),
    ));
    rest.extend(frame(kind::PRIORITY, 0, 5, &[0; 5]));
    rest.extend(frame(kind::WINDOW_UPDATE, 0, 5, &[0, 1, 0, 0]));
    rest.extend(data(5, 0, b"\x0a\x01a"));
    rest.extend(frame(kind::HEADERS, headers | end, 5, &[0x00, 1, b't', 1, b'v']));
    rest.extend(frame(kind::RST_STREAM, 0, 5, &[0, 0, 0, 8]));
    rest.extend(frame(kind::GOAWAY, 0, 0, &[0; 8]));
    vec![calls, streams, rest]
}
