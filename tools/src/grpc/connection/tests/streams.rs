//! Calls with streams of messages, either way.

use super::*;

fn arrived(connection: &mut Connection<u32>) -> Vec<(u32, Vec<u8>)> {
    let mut messages = Vec::new();
    connection.take_messages(&mut messages);
    messages.into_iter().map(|arrived| (arrived.stream, arrived.message)).collect()
}

/// The bytes sent on `stream`.
fn data_of(frames: &[(Head, Vec<u8>)], stream: u32) -> Vec<u8> {
    let data = frames.iter().filter(|(head, _)| head.kind == kind::DATA && head.stream == stream);
    data.flat_map(|(_, payload)| payload.clone()).collect()
}

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

#[test]
fn messages_go_both_ways_until_the_server_ends() {
    let mut connection = open(&[]);
    let stream = connection.open_stream(1, 7);
    assert_eq!(stream, 1);
    connection.send(stream, &message(b"one"));
    connection.send(stream, &message(b"two"));
    let frames = sent(&mut connection);
    assert_eq!(data_of(&frames, stream), [message(b"one"), message(b"two")].concat());
    assert!(frames.iter().all(|(head, _)| !head.has(flag::END_STREAM)), "we do not end it");

    receive(&mut connection, &frame(kind::HEADERS, flag::END_HEADERS, stream, &headers_ok()));
    let both = [message(b"first"), message(b"")].concat();
    receive(&mut connection, &frame(kind::DATA, 0, stream, &both));
    let expected = [(stream, b"first".to_vec()), (stream, Vec::new())];
    assert_eq!(arrived(&mut connection), expected);
    assert_eq!(connection.calls_open(), 1);

    let end = flag::END_HEADERS | flag::END_STREAM;
    receive(&mut connection, &frame(kind::HEADERS, end, stream, &trailers_ok()));
    assert_eq!(finished(&mut connection), [(7, Ok(Response::default()))]);
    sent(&mut connection);
    connection.send(stream, &message(b"too late"));
    assert_eq!(sent(&mut connection).len(), 0);
}

#[test]
fn stream_messages_may_come_in_any_portions() {
    let whole = [message(b"a message"), message(b""), message(b"another")].concat();
    for cut in 0..=whole.len() {
        let mut connection = open(&[]);
        let stream = connection.start_at(1, &message(b""), Keep::Each, 1);
        receive(&mut connection, &frame(kind::HEADERS, flag::END_HEADERS, stream, &headers_ok()));
        receive(&mut connection, &frame(kind::DATA, 0, stream, &whole[..cut]));
        receive(&mut connection, &frame(kind::DATA, 0, stream, &whole[cut..]));
        let expected = [&b"a message"[..], b"", b"another"].map(|text| (stream, text.to_vec()));
        assert_eq!(arrived(&mut connection), expected, "cut at {cut}");
    }
}

#[test]
fn end_within_a_message_is_an_error() {
    let mut connection = open(&[]);
    let stream = connection.open_stream(1, 1);
    receive(&mut connection, &frame(kind::HEADERS, flag::END_HEADERS, stream, &headers_ok()));
    receive(&mut connection, &frame(kind::DATA, 0, stream, &message(b"cut off")[..8]));
    let end = flag::END_HEADERS | flag::END_STREAM;
    receive(&mut connection, &frame(kind::HEADERS, end, stream, &trailers_ok()));
    let error = CallError::Malformed("it ended within its message");
    assert_eq!(finished(&mut connection), [(1, Err(error))]);
    assert_eq!(arrived(&mut connection), []);
}

#[test]
fn status_ends_a_stream_that_never_began() {
    let mut connection = open(&[]);
    let stream = connection.open_stream(1, 1);
    let block = [&headers_ok()[..], &trailer("grpc-status", "12")].concat();
    let end = flag::END_HEADERS | flag::END_STREAM;
    receive(&mut connection, &frame(kind::HEADERS, end, stream, &block));
    let error = CallError::Status { code: Code(12), message: String::new() };
    assert_eq!(finished(&mut connection), [(1, Err(error))]);
}

#[test]
fn windows_hold_for_what_a_stream_sends_in_all() {
    let mut connection = open(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    let stream = connection.open_stream(1, 1);
    let other = connection.open_stream(1, 2);
    let texts = [message(b"abc"), message(b"defg"), message(b"h")];
    for text in &texts {
        connection.send(stream, text);
    }
    let whole = texts.concat();
    assert_eq!(data_of(&sent(&mut connection), stream), whole[..10]);
    receive(&mut connection, &window_update(0, 1000));
    assert_eq!(data_bytes(&sent(&mut connection)), 0, "the stream's own window is used up");
    receive(&mut connection, &window_update(stream, 6));
    assert_eq!(data_of(&sent(&mut connection), stream), whole[10..16]);
    receive(&mut connection, &window_update(stream, 100));
    assert_eq!(data_of(&sent(&mut connection), stream), whole[16..]);
    // What one stream was given is not the other's.
    connection.send(other, &whole);
    assert_eq!(data_of(&sent(&mut connection), other), whole[..10]);
    // A larger initial window counts for streams that stand already.
    receive(&mut connection, &settings(&[(setting::INITIAL_WINDOW_SIZE, 15)]));
    assert_eq!(data_of(&sent(&mut connection), other), whole[10..15]);
}

#[test]
fn receive_window_of_a_long_stream_is_topped_up() {
    let mut connection = open(&[]);
    let stream = connection.open_stream(1, 1);
    sent(&mut connection);
    receive(&mut connection, &frame(kind::HEADERS, flag::END_HEADERS, stream, &headers_ok()));
    let payload = message(&[0; PAYLOAD_BYTES_MAX - MESSAGE_HEAD_BYTES]);
    let data = frame(kind::DATA, 0, stream, &payload);
    let mut topped_up = 0;
    for _ in 0..=WINDOW_TOP_UP as usize / payload.len() {
        receive(&mut connection, &data);
        connection.take_messages(&mut Vec::new());
        for (head, payload) in sent(&mut connection) {
            assert_eq!(head.kind, kind::WINDOW_UPDATE);
            if head.stream == stream {
                topped_up += u32::from_be_bytes(payload.try_into().unwrap());
            }
        }
    }
    assert!(topped_up >= WINDOW_TOP_UP, "{topped_up}");
}
