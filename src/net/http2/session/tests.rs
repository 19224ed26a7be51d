//! The session, frame by frame, without sockets.

use urd_http2::hpack::put_literal;

use super::super::guard::{Guard, Limits};
use super::*;
use crate::api::Encoded;

const PUT: &str = "/etcdserverpb.KV/Put";
const CALL: u8 = flag::END_HEADERS;

fn session() -> Session {
    let limits = Limits {
        idle_frames_per_second: 100,
        resets_per_second: 100,
        ping_interval_min: Duration::ZERO,
    };
    let mut session = Session::new(4, 1 << 20, Guard::new(limits));
    session.sender.out.clear();
    session
}

/// One that has had the client's settings.
fn greeted() -> Session {
    let mut session = session();
    assert!(feed(&mut session, &frame(kind::SETTINGS, 0, 0, b"")).unwrap().is_empty());
    assert_eq!(sent(&mut session), [(kind::SETTINGS, flag::ACK, 0, vec![])]);
    session
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHead { length: payload.len(), kind, flags, stream }.put(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn block(extra: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let fields = [(":path", PUT), ("content-type", "application/grpc")];
    for (name, value) in fields.iter().chain(extra) {
        put_literal(&mut block, 0x40, 6, 0, name.as_bytes(), value.as_bytes());
    }
    block
}

fn call(stream: u32, message: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(message);
    let data = frame(kind::DATA, flag::END_STREAM, stream, &body);
    [frame(kind::HEADERS, CALL, stream, &block(&[])), data].concat()
}

fn feed(session: &mut Session, mut bytes: &[u8]) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        events.extend(session.receive(&mut bytes)?);
    }
    Ok(events)
}

/// The frames written since the last time: kind, flags, stream, payload.
fn sent(session: &mut Session) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let out = std::mem::take(&mut session.sender.out);
    let mut rest = &out[..];
    let mut frames = Vec::new();
    while let Some(head) = FrameHead::parse(rest) {
        let (payload, after) = rest[HEAD_BYTES..].split_at(head.length);
        frames.push((head.kind, head.flags, head.stream, payload.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    frames
}

fn encoded(bytes: usize) -> Encoded {
    let mut encoded = Encoded::with_capacity(bytes);
    encoded.buffer().extend(std::iter::repeat_n(7, bytes));
    encoded
}

/// What a client would make of an answer: bytes of data on each stream, and whether it ended.
fn data_on(frames: &[(u8, u8, u32, Vec<u8>)], stream: u32) -> (usize, bool) {
    let own = frames.iter().filter(|frame| frame.2 == stream);
    own.fold((0, false), |(bytes, ended), (kind, flags, _, payload)| {
        let data = if *kind == kind::DATA { payload.len() } else { 0 };
        (bytes + data, ended || flags & flag::END_STREAM != 0)
    })
}

#[test]
fn bytes_torn_anywhere_mean_the_same() {
    let bytes = [
        frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9]),
        call(1, b"first"),
        frame(kind::PING, 0, 0, b"12345678"),
        call(3, &[5; 2000]),
        frame(kind::HEADERS, 0, 5, &block(&[])[..20]),
        frame(kind::CONTINUATION, CALL, 5, &block(&[])[20..]),
        frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
    ]
    .concat();
    let outcome = |pieces: &[&[u8]]| {
        let mut session = session();
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(feed(&mut session, piece).unwrap());
        }
        let bodies: Vec<_> = (session.streams.iter())
            .map(|(key, stream)| (key, stream.id, stream.request.body.len()))
            .collect();
        (format!("{events:?}"), bodies, sent(&mut session))
    };
    let whole = outcome(&[&bytes]);
    for at in 1..bytes.len() {
        assert_eq!(outcome(&[&bytes[..at], &bytes[at..]]), whole, "torn at {at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(outcome(&single), whole);
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    let protocol = ErrorCode::PROTOCOL_ERROR;
    let (size, flow) = (ErrorCode::FRAME_SIZE_ERROR, ErrorCode::FLOW_CONTROL_ERROR);
    let open = frame(kind::HEADERS, CALL, 1, &block(&[]));
    let oversized = [0, 0x40, 1, kind::DATA, 0, 0, 0, 0, 1];
    let cases: [(&str, Vec<u8>, ErrorCode); 22] = [
        ("data on no stream", frame(kind::DATA, 0, 0, b""), protocol),
        ("data before headers", frame(kind::DATA, 0, 1, b"x"), protocol),
        ("headers on no stream", frame(kind::HEADERS, CALL, 0, &block(&[])), protocol),
        ("headers on a server's stream", frame(kind::HEADERS, CALL, 2, &block(&[])), protocol),
        ("too large a frame", oversized.to_vec(), size),
        ("padding alone", frame(kind::HEADERS, CALL | flag::PADDED, 1, &[9, 1]), protocol),
        ("no padding length", frame(kind::HEADERS, CALL | flag::PADDED, 1, &[]), size),
        ("short priority", frame(kind::HEADERS, CALL | flag::PRIORITY, 1, &[1; 4]), size),
        ("priority of a wrong size", frame(kind::PRIORITY, 0, 1, &[0; 4]), size),
        ("bad block", frame(kind::HEADERS, CALL, 1, &[0xff]), ErrorCode::COMPRESSION_ERROR),
        ("continuation of nothing", frame(kind::CONTINUATION, CALL, 1, b""), protocol),
        (
            "a frame within a block",
            [frame(kind::HEADERS, 0, 1, b""), frame(kind::PING, 0, 0, &[0; 8])].concat(),
            protocol,
        ),
        (
            "a block that goes on elsewhere",
            [frame(kind::HEADERS, 0, 1, b""), frame(kind::CONTINUATION, CALL, 3, b"")].concat(),
            protocol,
        ),
        ("reset of an idle stream", frame(kind::RST_STREAM, 0, 1, &[0; 4]), protocol),
        ("short reset", [&open[..], &frame(kind::RST_STREAM, 0, 1, &[0; 3])].concat(), size),
        ("settings of a stream", frame(kind::SETTINGS, 0, 1, b""), protocol),
        ("an acknowledgement of content", frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), size),
        ("short settings", frame(kind::SETTINGS, 0, 0, &[0; 5]), size),
        ("a huge window", frame(kind::SETTINGS, 0, 0, &[0, 4, 0xff, 0, 0, 0]), flow),
        ("a push", frame(kind::PUSH_PROMISE, CALL, 1, &[0; 4]), protocol),
        ("a short ping", frame(kind::PING, 0, 0, &[0; 7]), size),
        ("a window update of 0", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), protocol),
    ];
    for (what, bytes, code) in cases {
        match feed(&mut greeted(), &bytes) {
            Err(Failure::Protocol(found, _)) => assert_eq!(found, code, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    let wide = frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]);
    assert!(matches!(feed(&mut greeted(), &wide), Err(Failure::Protocol(code, _)) if code == flow));
    let first = feed(&mut session(), &frame(kind::PING, 0, 0, &[0; 8]));
    assert!(matches!(first, Err(Failure::Protocol(code, _)) if code == protocol));
}

#[test]
fn what_breaks_a_request_resets_its_stream() {
    let open = |extra: &[(&str, &str)]| frame(kind::HEADERS, CALL, 1, &block(extra));
    let data = |flags, payload: &[u8]| frame(kind::DATA, flags, 1, payload);
    let end = flag::END_STREAM;
    let protocol = ErrorCode::PROTOCOL_ERROR;
    let cases: [(&str, Vec<u8>, ErrorCode); 7] = [
        ("a malformed head", open(&[("Upper", "case")]), protocol),
        (
            "a body longer than announced",
            [open(&[("content-length", "5")]), data(0, &[0, 0, 0, 0, 9, 9])].concat(),
            protocol,
        ),
        (
            "a body shorter than announced",
            [open(&[("content-length", "9")]), data(end, &[0, 0, 0, 0, 0])].concat(),
            protocol,
        ),
        (
            "data after the end",
            [open(&[]), data(end, &[0; 5]), data(0, &[1])].concat(),
            ErrorCode::STREAM_CLOSED,
        ),
        ("trailers that do not end", [open(&[]), open(&[])].concat(), protocol),
        (
            "a window update of 0",
            [open(&[]), frame(kind::WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            protocol,
        ),
        (
            "a window too wide",
            [open(&[]), frame(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])].concat(),
            ErrorCode::FLOW_CONTROL_ERROR,
        ),
    ];
    for (what, bytes, code) in cases {
        let mut session = greeted();
        feed(&mut session, &bytes).unwrap();
        let reset = (kind::RST_STREAM, 0, 1, code.0.to_be_bytes().to_vec());
        assert_eq!(sent(&mut session), [reset], "{what}");
        assert!(session.open.is_empty(), "{what}");
        // Others go on, and the table is still the client's.
        let events = feed(&mut session, &call(3, b"x")).unwrap();
        assert!(matches!(events.last(), Some(Event::Whole(_))), "{what}: {events:?}");
    }
}

#[test]
fn frames_for_a_closed_stream_are_skipped() {
    let mut session = greeted();
    feed(&mut session, &call(1, b"x")).unwrap();
    let (_, body, _) = session.take_request(0).unwrap();
    assert_eq!(body.unwrap(), b"x"[..]);
    session.answer_unary(0, encoded(3)).unwrap();
    session.release(0);
    assert!(session.streams.is_empty() && session.open.is_empty());
    for late in [
        frame(kind::DATA, 0, 1, b"late"),
        frame(kind::RST_STREAM, 0, 1, &[0; 4]),
        frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        frame(kind::HEADERS, CALL | flag::END_STREAM, 1, &block(&[])),
    ] {
        assert!(feed(&mut session, &late).unwrap().is_empty());
    }
    assert!(matches!(feed(&mut session, &call(3, b"y")).unwrap()[..], [_, Event::Whole(0)]));
}

#[test]
fn streams_beyond_the_bound_are_refused() {
    let mut session = greeted();
    for nth in 0..4 {
        feed(&mut session, &call(2 * nth + 1, b"x")).unwrap();
    }
    assert!(sent(&mut session).is_empty());
    assert!(feed(&mut session, &call(9, b"x")).unwrap().is_empty());
    let refused = ErrorCode::REFUSED_STREAM.0.to_be_bytes().to_vec();
    assert_eq!(sent(&mut session), [(kind::RST_STREAM, 0, 9, refused)]);
    // One that was reset makes room, as long as the service has not too many of those.
    for nth in 0..4 {
        assert!(session.take_request(nth).unwrap().1.is_ok());
        session.streams[nth].call.handed = true;
        let reset = frame(kind::RST_STREAM, 0, 2 * nth as u32 + 1, &[0; 4]);
        assert!(matches!(feed(&mut session, &reset).unwrap()[..], [Event::Gone(_)]));
    }
    for nth in 5..9 {
        assert_eq!(feed(&mut session, &call(2 * nth + 1, b"x")).unwrap().len(), 2);
    }
    feed(&mut session, &frame(kind::RST_STREAM, 0, 11, &[0; 4])).unwrap();
    assert!(feed(&mut session, &call(19, b"x")).unwrap().is_empty(), "eight slots are taken");
}

#[test]
fn answers_keep_to_the_windows_and_go_on_when_they_open() {
    let mut session = greeted();
    feed(&mut session, &[call(1, b"x"), call(3, b"x"), call(5, b"x")].concat()).unwrap();
    for key in 0..3 {
        assert!(session.take_request(key).unwrap().1.is_ok());
        session.answer_unary(key, encoded(100_000)).unwrap();
    }
    let first = sent(&mut session);
    assert_eq!(data_on(&first, 1), (65_535, false), "the stream's window, and the connection's");
    assert_eq!(data_on(&first, 3), (0, false));
    assert_eq!(session.queued, 300_015 - 65_535);

    // The connection's window opens: the second has one of its own, the first has not.
    feed(&mut session, &frame(kind::WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0])).unwrap();
    session.pump();
    let second = sent(&mut session);
    assert_eq!(data_on(&second, 1).0, 0);
    assert_eq!(data_on(&second, 3).0 + data_on(&second, 5).0, 65_536);

    // Larger windows for all streams, and a reset of one.
    feed(&mut session, &frame(kind::RST_STREAM, 0, 5, &[0; 4])).unwrap();
    feed(&mut session, &frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 8, 0, 0])).unwrap();
    feed(&mut session, &frame(kind::WINDOW_UPDATE, 0, 0, &[0, 8, 0, 0])).unwrap();
    session.pump();
    let third = sent(&mut session);
    let bytes =
        |stream| data_on(&first, stream).0 + data_on(&second, stream).0 + data_on(&third, stream).0;
    assert_eq!((bytes(1), bytes(3)), (100_005, 100_005));
    assert!(data_on(&third, 1).1 && data_on(&third, 3).1);
    assert_eq!((session.queued, session.open.len()), (0, 0));
    (0..3).for_each(|key| session.release(key));
    assert!(session.streams.is_empty());
}

/// Many sizes in one frame are worth one walk over the streams: the last counts.
#[test]
fn the_last_window_size_of_a_frame_counts() {
    let mut session = greeted();
    feed(&mut session, &call(1, b"x")).unwrap();
    let settings: Vec<u8> = (0..2000u32)
        .flat_map(|size| [&[0, 4][..], &size.to_be_bytes()[..]].concat())
        .chain([0, 4, 0, 0, 0, 9])
        .collect();
    feed(&mut session, &frame(kind::SETTINGS, 0, 0, &settings)).unwrap();
    assert_eq!(session.streams[0].answer.window, 9);
}

/// A stream of requests that nobody takes is bounded like bodies are, though the service has the call.
#[test]
fn requests_that_nobody_takes_are_bounded() {
    let mut session = greeted();
    let mut head = vec![0x83, 0x86];
    for (name, value) in
        [(":path", "/etcdserverpb.Watch/Watch"), ("content-type", "application/grpc")]
    {
        put_literal(&mut head, 0, 4, 0, name.as_bytes(), value.as_bytes());
    }
    feed(&mut session, &frame(kind::HEADERS, CALL, 1, &head)).unwrap();
    session.streams[0].call.handed = true;
    let piece = frame(kind::DATA, 0, 1, &[0; 16_000]);
    let mut most = 0;
    let gone = (0..10_000).any(|_| {
        let events = feed(&mut session, &piece).unwrap();
        most = most.max(session.bodies_bytes);
        matches!(events[..], [Event::Gone(0)])
    });
    assert!(gone && most <= BODIES_BYTES_MAX + 16_000, "{most}");
    assert_eq!(session.bodies_bytes, 0);
}

/// What was held of a body that is refused for its next piece is given back to the connection's sum.
#[test]
fn a_refused_body_is_not_held() {
    let mut session = greeted();
    feed(&mut session, &frame(kind::HEADERS, CALL, 1, &block(&[]))).unwrap();
    let whole = frame(kind::DATA, 0, 1, &[0, 0, 0, 0, 3, 1, 2, 3]);
    feed(&mut session, &whole).unwrap();
    assert_eq!(session.bodies_bytes, 8);
    // A second message, where one may come.
    let events = feed(&mut session, &whole).unwrap();
    let [Event::Refused(0, status)] = &events[..] else { panic!("{events:?}") };
    session.answer_status(0, StatusCode::OK, status);
    session.release(0);
    assert_eq!((session.bodies_bytes, session.streams.len()), (0, 0));
}

#[test]
fn an_answer_before_the_body_is_whole_stops_it() {
    let mut session = greeted();
    feed(&mut session, &frame(kind::HEADERS, CALL, 1, &block(&[]))).unwrap();
    let status = Status::new(Code::ResourceExhausted, "too large");
    session.answer_status(0, StatusCode::OK, &status);
    session.release(0);
    let frames = sent(&mut session);
    assert_eq!((frames[0].0, frames[0].1), (kind::HEADERS, flag::END_HEADERS | flag::END_STREAM));
    assert_eq!(frames[1], (kind::RST_STREAM, 0, 1, vec![0; 4]));
    assert!(session.streams.is_empty());
    assert!(feed(&mut session, &frame(kind::DATA, 0, 1, &[0; 100])).unwrap().is_empty());
}

#[test]
fn leaving_lets_streams_under_way_end() {
    let mut session = greeted();
    feed(&mut session, &call(1, b"x")).unwrap();
    session.leave();
    session.leave();
    let frames = sent(&mut session);
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [kind::GOAWAY, kind::PING]);
    // Opened before the client knew.
    assert_eq!(feed(&mut session, &call(3, b"x")).unwrap().len(), 2);
    feed(&mut session, &frame(kind::PING, flag::ACK, 0, &frames[1].3)).unwrap();
    assert_eq!(session.leaving, Leaving::Told);
    assert_eq!(sent(&mut session)[0].3[..4], [0, 0, 0, 3]);
    assert!(feed(&mut session, &call(5, b"x")).unwrap().is_empty());
}

#[test]
fn a_header_list_too_large_is_answered() {
    let mut session = greeted();
    let value = "v".repeat(3000);
    let mut block = block(&[("x", &value)]);
    block.extend([0x80 | 62; 100]);
    let head = frame(kind::HEADERS, CALL | flag::END_STREAM, 1, &block);
    assert!(feed(&mut session, &head).unwrap().is_empty());
    assert!(session.streams.is_empty());
    assert_eq!(sent(&mut session).len(), 1);
}

/// Whatever comes, the books stay right: sums, slots, and what is open.
#[test]
fn random_frames_keep_the_books_right() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut session = greeted();
        let mut stream_next = 1;
        for _ in 0..random.usize(1..60) {
            let stream = random.u32(..stream_next + 2) | 1;
            let bytes = match random.u8(..8) {
                0..3 => {
                    stream_next += 2;
                    call(stream_next, &vec![1; random.usize(..3000)])
                }
                3 => {
                    stream_next += 2;
                    frame(kind::HEADERS, CALL, stream_next, &block(&[]))
                }
                4 => frame(kind::DATA, random.u8(..2), stream, &[0, 0, 0, 9, 9, 1, 2]),
                5 => frame(kind::RST_STREAM, 0, stream, &[0; 4]),
                6 => frame(kind::WINDOW_UPDATE, 0, random.u32(..2) * stream, &[0, 0, 9, 9]),
                _ => frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, random.u8(..), 9]),
            };
            let Ok(events) = feed(&mut session, &bytes) else { break };
            for event in events {
                match event {
                    Event::Whole(key) => {
                        session.take_request(key);
                        session.streams[key].call.handed = true;
                    }
                    // A slot that is free already had been answered.
                    Event::Gone(key)
                        if session.streams.get(key).is_some_and(|s| !s.call.handed) =>
                    {
                        session.release(key);
                    }
                    Event::Refused(key, status) => {
                        session.answer_status(key, StatusCode::OK, &status);
                        session.release(key);
                    }
                    _ => {}
                }
            }
            let handed: Vec<usize> = (session.streams.iter())
                .filter_map(|(key, stream)| stream.call.handed.then_some(key))
                .collect();
            if random.bool()
                && let Some(key) = random.choice(&handed)
            {
                session.answer_unary(*key, encoded(random.usize(..60_000))).ok();
                session.release(*key);
            }
            session.pump();
            let pending: usize = session.streams.iter().map(|(_, s)| s.pending_bytes()).sum();
            assert_eq!(session.queued, pending, "seed {seed}");
            let bodies: usize = session.streams.iter().map(|(_, s)| s.request.body.len()).sum();
            assert_eq!(session.bodies_bytes, bodies, "seed {seed}");
            for (id, key) in &session.open {
                assert!(!session.streams[*key].is_closed() && session.streams[*key].id == *id);
            }
            assert!(session.streams.len() <= 8, "seed {seed}");
        }
        session.close();
        assert_eq!((session.queued, session.bodies_bytes, session.open.len()), (0, 0, 0));
    }
}
