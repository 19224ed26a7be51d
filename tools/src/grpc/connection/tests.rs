//! The connection, byte by byte.

use super::*;
use crate::grpc::request_head::TABLE_RESIZE_TO_0;
use crate::grpc::status::Code;

mod streams;

const PATH: &str = "/etcdserverpb.KV/Put";
const OTHER_PATH: &str = "/etcdserverpb.Watch/Watch";

/// A block saying `:status: 200` and `content-type: application/grpc`.
fn headers_ok() -> Vec<u8> {
    [&[0x88, 0x5f, 16][..], b"application/grpc"].concat()
}

fn trailer(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

fn trailers_ok() -> Vec<u8> {
    trailer("grpc-status", "0")
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Head { length: payload.len(), kind, flags, stream }.put(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = pairs
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(kind::SETTINGS, 0, 0, &payload)
}

fn message(payload: &[u8]) -> Vec<u8> {
    [&[0][..], &(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// A whole good response.
fn response(stream: u32, payload: &[u8]) -> Vec<u8> {
    [
        frame(kind::HEADERS, flag::END_HEADERS, stream, &headers_ok()),
        frame(kind::DATA, 0, stream, &message(payload)),
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &trailers_ok()),
    ]
    .concat()
}

/// A connection that knows its peer's settings and has nothing to send.
fn open(pairs: &[(u16, u32)]) -> Connection<u32> {
    let mut connection =
        Connection::new(RequestHead::new("localhost:1", &[PATH, OTHER_PATH]).unwrap());
    assert_eq!(connection.room(), 0, "nothing starts before the peer's settings");
    receive(&mut connection, &settings(pairs));
    connection.output().clear();
    connection
}

fn receive(connection: &mut Connection<u32>, bytes: &[u8]) {
    assert_eq!(connection.receive(bytes), Ok(bytes.len()));
}

fn finished(connection: &mut Connection<u32>) -> Vec<(u32, Result<Response, CallError>)> {
    let mut finished = Vec::new();
    connection.take_finished(&mut finished);
    finished.into_iter().map(|call| (call.context, call.outcome)).collect()
}

/// Heads and payloads of what is to be sent.
fn sent(connection: &mut Connection<u32>) -> Vec<(Head, Vec<u8>)> {
    let output = std::mem::take(connection.output());
    let mut rest = &output[..];
    let mut frames = Vec::new();
    while let Some(head) = Head::parse(rest) {
        let (payload, tail) = rest[HEAD_BYTES..].split_at(head.length);
        frames.push((head, payload.to_vec()));
        rest = tail;
    }
    assert!(rest.is_empty());
    frames
}

fn data_bytes(frames: &[(Head, Vec<u8>)]) -> usize {
    frames.iter().filter(|(head, _)| head.kind == kind::DATA).map(|(head, _)| head.length).sum()
}

fn good(payload: &[u8]) -> Result<Response, CallError> {
    Ok(Response { message_bytes: payload.len() as u64, message: payload.to_vec() })
}

#[test]
fn begins_as_the_protocol_demands() {
    let mut connection: Connection<u32> =
        Connection::new(RequestHead::new("localhost:1", &[PATH, OTHER_PATH]).unwrap());
    let output = connection.output().split_off(PREFACE.len());
    assert_eq!(connection.output(), PREFACE);
    *connection.output() = output;
    let kinds: Vec<u8> = sent(&mut connection).iter().map(|(head, _)| head.kind).collect();
    assert_eq!(kinds, [kind::SETTINGS, kind::WINDOW_UPDATE]);
    receive(&mut connection, &settings(&[]));
    let frames = sent(&mut connection);
    assert_eq!((frames.len(), frames[0].0.kind, frames[0].0.flags), (1, kind::SETTINGS, flag::ACK));
}

#[test]
fn calls_are_answered_in_any_order() {
    let mut connection = open(&[]);
    for context in 0..3 {
        connection.start(&message(b"question"), Keep::Message, context);
    }
    assert_eq!(connection.calls_open(), 3);
    let bytes = [response(5, b"c"), response(1, b""), response(3, b"bb")].concat();
    receive(&mut connection, &bytes);
    assert_eq!(finished(&mut connection), [(2, good(b"c")), (0, good(b"")), (1, good(b"bb"))]);
    assert_eq!(connection.calls_open(), 0);
}

#[test]
fn responses_may_come_in_any_portions() {
    let bytes = [response(1, b"an answer"), response(3, b"another")].concat();
    for cut in 0..bytes.len() {
        let mut connection = open(&[]);
        connection.start(&message(b""), Keep::Message, 1);
        connection.start(&message(b""), Keep::Nothing, 2);
        let parsed = connection.receive(&bytes[..cut]).unwrap();
        assert!(parsed <= cut);
        receive(&mut connection, &bytes[parsed..]);
        let outcomes = finished(&mut connection);
        assert_eq!(outcomes[0], (1, good(b"an answer")), "cut at {cut}");
        let not_kept = Response { message_bytes: 7, message: Vec::new() };
        assert_eq!(outcomes[1], (2, Ok(not_kept)), "cut at {cut}");
    }
}

#[test]
fn request_headers_enter_the_peers_table_once() {
    let mut connection = open(&[]);
    let mut encoder =
        HeadEncoder::new(RequestHead::new("localhost:1", &[PATH, OTHER_PATH]).unwrap());
    connection.start(&message(b""), Keep::Nothing, 1);
    connection.start(&message(b""), Keep::Nothing, 2);
    connection.open_stream(1, 3);
    let blocks = |connection: &mut Connection<u32>| -> Vec<Vec<u8>> {
        let frames = sent(connection).into_iter();
        frames.filter(|(head, _)| head.kind == kind::HEADERS).map(|(_, block)| block).collect()
    };
    let expected = [0, 0, 1].map(|path| encoder.block(path).to_vec());
    assert_eq!(blocks(&mut connection), expected);

    // A peer with a smaller table is told that none is used, and gets literals.
    receive(&mut connection, &settings(&[(setting::HEADER_TABLE_SIZE, 100)]));
    encoder.table_size(100);
    connection.start(&message(b""), Keep::Nothing, 4);
    connection.start(&message(b""), Keep::Nothing, 5);
    let expected = [0, 0].map(|path| encoder.block(path).to_vec());
    assert_eq!(expected[0], [&[TABLE_RESIZE_TO_0][..], &expected[1]].concat());
    assert_eq!(blocks(&mut connection), expected);
}

#[test]
fn peers_windows_are_respected() {
    let mut connection = open(&[(setting::INITIAL_WINDOW_SIZE, 40_000)]);
    let large = vec![7; 50_000];
    connection.start(&large, Keep::Nothing, 1);
    connection.start(&large, Keep::Nothing, 2);
    let frames = sent(&mut connection);
    assert!(frames.iter().all(|(head, _)| head.length <= PAYLOAD_BYTES_MAX));
    assert_eq!(data_bytes(&frames), 65_535, "the window of the connection");

    let update =
        |stream, increment: u32| frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
    receive(&mut connection, &update(0, 100_000));
    let frames = sent(&mut connection);
    assert_eq!(data_bytes(&frames), 80_000 - 65_535, "the windows of both streams");
    receive(&mut connection, &update(3, 9_000));
    assert_eq!(data_bytes(&sent(&mut connection)), 9_000);
    receive(&mut connection, &settings(&[(setting::INITIAL_WINDOW_SIZE, 50_000)]));
    let frames = sent(&mut connection);
    assert_eq!(data_bytes(&frames), 11_000, "a setting moves the windows of open streams");
    let ended: Vec<u32> = frames
        .iter()
        .filter(|(head, _)| head.kind == kind::DATA && head.has(flag::END_STREAM))
        .map(|(head, _)| head.stream)
        .collect();
    assert_eq!(ended, [1, 3]);
}

#[test]
fn our_window_is_topped_up() {
    let mut connection = open(&[]);
    let mut topped_up = 0;
    // Data of an unknown stream counts too.
    let data = frame(kind::DATA, 0, 1, &vec![0; PAYLOAD_BYTES_MAX]);
    for _ in 0..(WINDOW_TOP_UP as usize / PAYLOAD_BYTES_MAX + 1) {
        receive(&mut connection, &data);
        topped_up += sent(&mut connection).len();
    }
    assert_eq!(topped_up, 1);
}

#[test]
fn room_is_what_the_peer_allows() {
    let mut connection = open(&[(setting::MAX_CONCURRENT_STREAMS, 2)]);
    assert_eq!(connection.room(), 2);
    connection.start(&message(b""), Keep::Nothing, 1);
    connection.start(&message(b""), Keep::Nothing, 2);
    assert_eq!(connection.room(), 0);
    receive(&mut connection, &response(1, b""));
    assert_eq!(connection.room(), 1);
}

#[test]
fn statuses_are_told() {
    let ends = flag::END_HEADERS | flag::END_STREAM;
    let status = [trailer("grpc-status", "11"), trailer("grpc-message", "a%20b%2")].concat();
    let trailers_only = [headers_ok(), status.clone()].concat();
    let late = [
        frame(kind::HEADERS, flag::END_HEADERS, 3, &headers_ok()),
        frame(kind::HEADERS, ends, 3, &status),
    ];
    let mut connection = open(&[]);
    connection.start(&message(b""), Keep::Nothing, 1);
    connection.start(&message(b""), Keep::Nothing, 2);
    receive(&mut connection, &frame(kind::HEADERS, ends, 1, &trailers_only));
    receive(&mut connection, &late.concat());
    let expected = CallError::Status { code: Code(11), message: "a b%2".into() };
    assert_eq!(expected.to_string(), "rpc error: code = OutOfRange desc = a b%2");
    let outcomes = finished(&mut connection);
    assert_eq!(outcomes, [(1, Err(expected.clone())), (2, Err(expected))]);
}

#[test]
fn ok_needs_a_whole_message() {
    let ends = flag::END_HEADERS | flag::END_STREAM;
    let begin = frame(kind::HEADERS, flag::END_HEADERS, 1, &headers_ok());
    let end = frame(kind::HEADERS, ends, 1, &trailers_ok());
    let data = |payload: &[u8]| frame(kind::DATA, 0, 1, payload);
    let outcome = |frames: &[&[u8]]| {
        let mut connection = open(&[]);
        // First a good one, so that blocks are known.
        connection.start(&message(b""), Keep::Nothing, 0);
        connection.start(&message(b""), Keep::Nothing, 1);
        receive(&mut connection, &response(3, b"good"));
        receive(&mut connection, &frames.concat());
        let mut outcomes = finished(&mut connection);
        assert_eq!(outcomes.len(), 2);
        outcomes.pop().unwrap().1.unwrap_err().to_string()
    };
    let none = "malformed response: it is OK but has no message";
    assert_eq!(outcome(&[&begin, &end]), none);
    assert_eq!(outcome(&[&begin, &data(&[0, 0]), &end]), none);
    let short = [&[0, 0, 0, 0, 9][..], b"short"].concat();
    assert!(outcome(&[&begin, &data(&short), &end]).contains("ended within"));
    let long = [message(b"abc"), vec![0]].concat();
    assert!(outcome(&[&begin, &data(&long)]).contains("longer than its message"));
    assert!(outcome(&[&begin, &data(&[1, 0, 0, 0, 0])]).contains("compressed"));
    let cut = frame(kind::DATA, flag::END_STREAM, 1, &message(b""));
    assert!(outcome(&[&begin, &cut]).contains("without a status"));
    // Trailers are good ones only after a beginning, however well known their bytes are.
    assert!(outcome(&[&end]).contains("no HTTP status"));
    let not_grpc = frame(kind::HEADERS, ends, 1, &[0x88]);
    assert!(outcome(&[&not_grpc]).contains("content type"));
    let not_found = frame(kind::HEADERS, flag::END_HEADERS, 1, &[0x8d]);
    assert_eq!(outcome(&[&not_found]), "HTTP status 404 instead of a gRPC response");
}

#[test]
fn informational_headers_are_passed_over() {
    let mut connection = open(&[]);
    connection.start(&message(b""), Keep::Message, 1);
    let early_hints = [&[0x08, 3][..], b"103"].concat();
    receive(&mut connection, &frame(kind::HEADERS, flag::END_HEADERS, 1, &early_hints));
    receive(&mut connection, &response(1, b"x"));
    assert_eq!(finished(&mut connection), [(1, good(b"x"))]);
}

#[test]
fn padding_priority_and_continuations_are_understood() {
    let mut connection = open(&[]);
    connection.start(&message(b""), Keep::Message, 1);
    let (first, last) = (&headers_ok()[..4], &headers_ok()[4..]);
    let begin = [&[3, 0, 0, 0, 0, 16][..], first, &[0, 0, 0]].concat();
    let padded = [&[2][..], &message(b"padded"), &[0, 0]].concat();
    let bytes = [
        frame(kind::HEADERS, flag::PADDED | flag::PRIORITY, 1, &begin),
        frame(kind::CONTINUATION, 0, 1, &[]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, last),
        frame(kind::DATA, flag::PADDED, 1, &padded),
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &trailers_ok()),
    ];
    receive(&mut connection, &bytes.concat());
    assert_eq!(finished(&mut connection), [(1, good(b"padded"))]);
}

#[test]
fn resets_fail_their_call_only() {
    let mut connection = open(&[]);
    for context in 1..=3 {
        connection.start(&message(b""), Keep::Message, context);
    }
    let reset = |stream, code: u32| frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes());
    receive(&mut connection, &[reset(1, 2), reset(3, 7), reset(1, 2)].concat());
    receive(&mut connection, &response(5, b"x"));
    let expected = [
        (1, Err(CallError::Reset(ErrorCode(2)))),
        (2, Err(CallError::Unprocessed)),
        (3, good(b"x")),
    ];
    assert_eq!(finished(&mut connection), expected);
}

#[test]
fn goaway_drains() {
    let mut connection = open(&[]);
    for context in 1..=3 {
        connection.start(&message(b""), Keep::Message, context);
    }
    let goaway = |last: u32, code: u32| {
        let payload = [&last.to_be_bytes()[..], &code.to_be_bytes(), b"why"].concat();
        frame(kind::GOAWAY, 0, 0, &payload)
    };
    receive(&mut connection, &goaway(3, 0));
    assert!(connection.draining());
    assert_eq!(connection.room(), 0);
    assert_eq!(finished(&mut connection), [(3, Err(CallError::Unprocessed))]);
    receive(&mut connection, &response(3, b"x"));
    assert_eq!(finished(&mut connection), [(2, good(b"x"))]);
    let error = connection.receive(&goaway(3, 11)).unwrap_err();
    assert_eq!(error.to_string(), "connection ended by the server: ENHANCE_YOUR_CALM: why");
    assert_eq!(connection.abandon().collect::<Vec<_>>(), [1]);
}

#[test]
fn used_up_ids_drain() {
    let mut connection = open(&[]);
    connection.stream_next = STREAM_ID_MAX;
    connection.start(&message(b""), Keep::Message, 1);
    assert!(connection.draining());
    receive(&mut connection, &response(STREAM_ID_MAX, b"last"));
    assert_eq!(finished(&mut connection), [(1, good(b"last"))]);
}

#[test]
fn pings_are_answered_to_a_bound() {
    let mut connection = open(&[]);
    let ping = frame(kind::PING, 0, 0, b"12345678");
    receive(&mut connection, &ping);
    let frames = sent(&mut connection);
    assert_eq!((frames[0].0.kind, frames[0].0.flags), (kind::PING, flag::ACK));
    assert_eq!(frames[0].1, b"12345678");
    let flood = ping.repeat(ANSWERS_BYTES_MAX / ping.len() + 2);
    assert!(connection.receive(&flood).unwrap_err().to_string().contains("flood"));
}

#[test]
fn what_breaks_the_protocol_breaks_the_connection() {
    let broken: [&[u8]; 9] = [
        &frame(kind::PING, 0, 0, b"short"),
        &frame(kind::SETTINGS, 0, 0, b"short"),
        &settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]),
        &frame(kind::PUSH_PROMISE, 0, 1, &[]),
        &frame(kind::CONTINUATION, 0, 1, &[]),
        &frame(kind::DATA, flag::PADDED, 1, &[9, 0]),
        &frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        &[frame(kind::HEADERS, 0, 1, &[]), frame(kind::PING, 0, 0, b"12345678")].concat(),
        &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0],
    ];
    for bytes in broken {
        let error = open(&[]).receive(bytes);
        assert!(matches!(error, Err(ConnectionError::Protocol(_))), "{bytes:02x?}: {error:?}");
    }
    let mut connection: Connection<u32> =
        Connection::new(RequestHead::new("localhost:1", &[PATH, OTHER_PATH]).unwrap());
    let http1 = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    assert!(connection.receive(http1).is_err());
}

#[test]
fn any_bytes_are_survived() {
    let seed = 11;
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..5_000 {
        let mut connection = open(&[]);
        connection.start(&message(b"question"), Keep::Message, 1);
        connection.start(&vec![0; 100_000], Keep::Message, 2);
        let stream = connection.open_stream(1, 3);
        connection.send(stream, &vec![0; 100_000]);
        // Well-formed heads, so that the bytes get past them.
        let bytes: Vec<u8> = (0..rng.usize(1..20))
            .flat_map(|_| {
                let payload: Vec<u8> = (0..rng.usize(..30)).map(|_| rng.u8(..)).collect();
                frame(rng.u8(..11), rng.u8(..), [0, 1, 3, 5][rng.usize(..4)], &payload)
            })
            .collect();
        let parsed = connection.receive(&bytes);
        let whole = !matches!(parsed, Ok(parsed) if parsed != bytes.len());
        assert!(whole, "seed {seed}, round {round}: {parsed:?}");
    }
}
