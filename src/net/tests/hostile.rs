//! Clients that do what no client should, by frames written by hand.

use super::*;
use crate::net::sniff::PREFACE;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn raw_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The client preface and empty settings.
pub(super) fn preface() -> Vec<u8> {
    [&PREFACE[..], &raw_frame(SETTINGS, 0, 0, b"")].concat()
}

/// HPACK literals without indexing, which need no state.
fn headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &str, value: &str| {
        block.extend([0, u8::try_from(name.len()).unwrap()]);
        block.extend(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    };
    literal(":path", path);
    literal(":authority", "test");
    literal("content-type", "application/grpc");
    block
}

pub(super) fn call(stream: u32, path: &str, message: &[u8]) -> Vec<u8> {
    [
        raw_frame(HEADERS, END_HEADERS, stream, &headers(path)),
        raw_frame(DATA, END_STREAM, stream, &frame(message)),
    ]
    .concat()
}

/// The frames that a server sent: type, flags, stream, payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while bytes.len() >= 9 {
        let length = usize::try_from(bytes.get_uint(3)).unwrap();
        let (kind, flags, stream) = (bytes.get_u8(), bytes.get_u8(), bytes.get_u32());
        let payload = bytes[..length.min(bytes.len())].to_vec();
        bytes.advance(payload.len());
        frames.push((kind, flags, stream, payload));
    }
    frames
}

/// The debug data of the GOAWAY frame that calls for calm.
fn calm(bytes: &[u8]) -> Option<String> {
    frames(bytes).into_iter().find_map(|(kind, _, _, payload)| {
        (kind == GOAWAY && payload[4..8] == [0, 0, 0, 11])
            .then(|| String::from_utf8(payload[8..].to_vec()).unwrap())
    })
}

/// Writes `flood` again and again until the server ends the connection, and says what it said last.
async fn flood(server: &Server, begin: &[u8], mut flood: impl FnMut(u32) -> Vec<u8>) -> Vec<u8> {
    let mut raw = server.raw().await;
    write(&mut raw, &preface()).await;
    write(&mut raw, begin).await;
    // Few enough in one write that the server's answer comes before the socket is full.
    for round in 0..100_000 {
        if !write(&mut raw, &flood(round)).await {
            break;
        }
        if server.connections.statistics().open.get() == 0 {
            break;
        }
        glommio::executor().yield_now().await;
        if server.connections.statistics().floods.get() > 0 {
            break;
        }
    }
    let answer = read_all(&mut raw).await;
    drop(raw);
    until(|| server.connections.statistics().open.get() == 0).await;
    assert_eq!(server.connections.statistics().calls_open.get(), server.toy.held.borrow().len());
    answer
}

#[test]
fn pings_too_often_end_the_connection_as_in_grpc() {
    with_server(Options::default(), async |server| {
        let answer = flood(&server, b"", |_| raw_frame(PING, 0, 0, b"12345678")).await;
        assert_eq!(calm(&answer).as_deref(), Some("too_many_pings"));
        assert_eq!(server.connections.statistics().floods.get(), 1);
    });
}

#[test]
fn pings_between_answers_are_forgiven() {
    with_server(Options::default(), async |server| {
        let mut raw = server.raw().await;
        write(&mut raw, &preface()).await;
        let ping = raw_frame(PING, 0, 0, b"12345678");
        for round in 0..50 {
            write(&mut raw, &[call(2 * round + 1, PUT, b""), ping.clone()].concat()).await;
            let put = || server.connections.statistics().method(Method::Put);
            until(|| put().handled[0] == u64::from(round) + 1).await;
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(server.connections.statistics().floods.get(), 0);
        assert_eq!(server.connections.statistics().open.get(), 1);
    });
}

#[test]
fn floods_of_settings_empty_data_and_unknown_frames_end_the_connection() {
    for frame in [
        raw_frame(SETTINGS, 0, 0, b""),
        raw_frame(PING, 1, 0, b"12345678"),
        raw_frame(2, 0, 1, b"12345"),
        raw_frame(0xbb, 0, 0, b"?"),
    ] {
        with_server(Options::default(), async |server| {
            let answer = flood(&server, b"", |_| frame.repeat(50)).await;
            assert_eq!(calm(&answer).as_deref(), Some("too_many_control_frames"));
        });
    }
    with_server(Options::default(), async |server| {
        let begin = raw_frame(HEADERS, END_HEADERS, 1, &headers(PUT));
        flood(&server, &begin, |_| raw_frame(DATA, 0, 1, b"").repeat(50)).await;
        assert_eq!(server.toy.taken.get(), 0);
    });
}

#[test]
fn streams_opened_and_reset_in_a_loop_end_the_connection() {
    with_server(Options { streams_max: 100, ..Options::default() }, async |server| {
        let answer = flood(&server, b"", |round| {
            let stream = 2 * round + 1;
            let reset = raw_frame(RESET, 0, stream, &[0, 0, 0, 8]);
            [call(stream, RANGE, b""), reset].concat().repeat(1)
        })
        .await;
        assert!(calm(&answer).is_some());
        assert!(server.toy.held.borrow().len() <= 100, "calls beyond the bound");
        server.toy.held.borrow_mut().clear();
    });
}

#[test]
fn continuations_without_end_are_refused() {
    with_server(Options::default(), async |server| {
        let begin = raw_frame(HEADERS, 0, 1, &headers(PUT));
        flood(&server, &begin, |_| raw_frame(CONTINUATION, 0, 1, b"").repeat(50)).await;
        let begin = raw_frame(HEADERS, 0, 1, &headers(PUT));
        let literal = [&b"\0\x01a\x7f\x81\x7f"[..], &[b'a'; 16_000]].concat();
        flood(&server, &begin, |_| raw_frame(CONTINUATION, 0, 1, &literal)).await;
        assert_eq!(server.toy.taken.get(), 0);
    });
}

#[test]
fn streams_that_were_reset_count_until_the_service_has_answered() {
    with_server(Options { streams_max: 10, ..Options::default() }, async |server| {
        let mut raw = server.raw().await;
        write(&mut raw, &preface()).await;
        for round in 0..30 {
            let stream = 2 * round + 1;
            write(&mut raw, &call(stream, RANGE, b"")).await;
            glommio::timer::sleep(Duration::from_millis(1)).await;
            write(&mut raw, &raw_frame(RESET, 0, stream, &[0, 0, 0, 8])).await;
        }
        until(|| server.toy.held.borrow().len() == 10).await;
        // One that is not reset waits until an answer makes room for it; those that were are forgotten.
        write(&mut raw, &call(101, RANGE, b"")).await;
        glommio::timer::sleep(Duration::from_millis(20)).await;
        assert_eq!(server.toy.taken.get(), 10);
        let reply = server.toy.held.borrow_mut().pop_front().expect("a call is held");
        assert!(reply.cancelled());
        reply.unary(encoded(b"for nobody"));
        until(|| server.toy.taken.get() == 11).await;
        let reply = server.toy.held.borrow_mut().pop_back().expect("a call is held");
        assert!(!reply.cancelled());
        reply.unary(encoded(b"for somebody"));
        server.toy.held.borrow_mut().clear();
        assert_eq!(server.connections.statistics().calls_open.get(), 0);
        assert_eq!(server.connections.statistics().open.get(), 1);
    });
}

#[test]
fn a_client_that_stops_reading_is_closed_and_hurts_nobody() {
    let options = Options {
        send_timeout: Duration::from_millis(50),
        tick: Duration::from_millis(5),
        ..Options::default()
    };
    with_server(options, async |server| {
        // Windows as wide as they go, and then nothing is read.
        let mut raw = server.raw().await;
        let window = raw_frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        write(&mut raw, PREFACE).await;
        write(&mut raw, &window).await;
        write(&mut raw, &raw_frame(8, 0, 0, &[0x7f, 0, 0, 0])).await;
        for round in 0..100 {
            write(&mut raw, &call(2 * round + 1, TXN, b"1000000")).await;
        }
        let client = server.client().await;
        for _ in 0..100 {
            assert_eq!(client.call(PUT, b"hello").await.status().0, 0);
        }
        until(|| server.connections.statistics().open.get() == 1).await;
        assert_eq!(server.connections.statistics().timeouts.get(), 1);
        drop(raw);
    });
}

/// What else was received when answers filled the buffer must not stay unread once they are sent.
#[test]
fn a_connection_that_had_no_room_reads_on() {
    use std::io::{Read, Write};
    with_server(Options::default(), async |server| {
        for answers_first in [true, false] {
            let mut client = std::net::TcpStream::connect(server.address).unwrap();
            let settings = raw_frame(SETTINGS, 0, 0, &[0, 4, 0, 0x10, 0, 0]);
            let window = raw_frame(WINDOW_UPDATE, 0, 0, &0x0100_0000_u32.to_be_bytes());
            client.write_all(&[&PREFACE[..], &settings, &window].concat()).unwrap();
            for nth in 0..14 {
                client.write_all(&call(2 * nth + 1, RANGE, b"")).unwrap();
            }
            until(|| server.toy.held.borrow().len() == 14).await;
            let listener = glommio::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut trigger = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut triggered = listener.accept().await.unwrap();
            let toy = Rc::clone(&server.toy);
            let answering = glommio::spawn_local(async move {
                triggered.read_exact(&mut [0]).await.unwrap();
                (0..14).for_each(|_| toy.answer_held(&[7; 10_000]));
            });
            // Both wait for their sockets; then both have something at once.
            glommio::timer::sleep(Duration::from_millis(20)).await;
            let ping = raw_frame(PING, 0, 0, &[3; 8]);
            let write_both =
                |first: &mut dyn Write, bytes: &[u8], second: &mut dyn Write, more: &[u8]| {
                    first.write_all(bytes).unwrap();
                    second.write_all(more).unwrap();
                };
            match answers_first {
                true => write_both(&mut trigger, b"1", &mut client, &ping),
                false => write_both(&mut client, &ping, &mut trigger, b"1"),
            }
            answering.await;
            client.set_nonblocking(true).unwrap();
            let (mut received, mut bytes) = (Vec::new(), vec![0; 65536]);
            let acknowledges = raw_frame(PING, ACK, 0, &[3; 8]);
            while !received.windows(acknowledges.len()).any(|part| part == acknowledges) {
                match client.read(&mut bytes) {
                    Ok(count) => received.extend_from_slice(&bytes[..count]),
                    Err(_) => glommio::timer::sleep(Duration::from_millis(1)).await,
                }
            }
        }
    });
}

#[test]
fn a_silent_client_is_pinged_and_then_closed() {
    let options = Options {
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: Duration::from_millis(20),
        tick: Duration::from_millis(5),
        ..Options::default()
    };
    with_server(options, async |server| {
        // This one answers pings.
        let client = server.client().await;
        assert_eq!(client.call(PUT, b"hello").await.status().0, 0);

        let mut raw = server.raw().await;
        write(&mut raw, &preface()).await;
        let answer = read_all(&mut raw).await;
        assert!(frames(&answer).iter().any(|(kind, flags, ..)| (*kind, *flags) == (PING, 0)));
        assert_eq!(server.connections.statistics().timeouts.get(), 1);
        assert!(client.ended.borrow().is_none());
        assert_eq!(client.call(PUT, b"hello").await.status().0, 0);
    });
}

#[test]
fn incomplete_requests_are_few_in_bytes_and_the_others_go_on() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let mut open = Vec::new();
        for _ in 0..300 {
            let mut send = client.send.clone().ready().await.unwrap();
            let (response, mut body) =
                send.send_request(request(PUT).body(()).unwrap(), false).unwrap();
            body.send_data(frame(b"hello").slice(..6), false).unwrap();
            open.push((response, body));
        }
        assert_eq!(client.call(PUT, b"hello").await.status().0, 0);
        assert_eq!(server.toy.taken.get(), 1);
        for (response, mut body) in open.into_iter().rev() {
            body.send_data(frame(b"hello").slice(6..), true).unwrap();
            assert_eq!(collect(response).await.unwrap().messages(), [b"hello"]);
        }
    });
}

#[test]
fn a_client_that_never_stops_sending_shares_the_executor() {
    with_server(Options::default(), async |server| {
        let mut raw = server.raw().await;
        write(&mut raw, &preface()).await;
        let stop = Rc::new(Cell::new(false));
        let stopped = Rc::clone(&stop);
        let sender = glommio::spawn_local(async move {
            let mut stream = 1;
            while !stopped.get() {
                let calls: Vec<u8> =
                    (0..200).flat_map(|index| call(stream + 2 * index, COMPACT, b"")).collect();
                stream += 400;
                // It reads no answers either, so the server ends the connection in the end.
                if !write(&mut raw, &calls).await {
                    break;
                }
            }
        });
        let client = server.client().await;
        for _ in 0..20 {
            assert_eq!(client.call(PUT, b"hello").await.status().0, 0);
        }
        stop.set(true);
        until(|| server.connections.statistics().method(Method::Compact).started > 0).await;
        sender.cancel().await;
    });
}

#[test]
fn random_frames_never_panic() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    with_server(Options::default(), async |server| {
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..150 {
            let mut raw = server.raw().await;
            let mut bytes = preface();
            for _ in 0..random.usize(1..20) {
                let stream = random.u32(..8);
                match random.u8(..6) {
                    0 => bytes.extend(call(stream | 1, PUT, b"hello")),
                    1 => bytes.extend(raw_frame(HEADERS, END_HEADERS, stream, &headers(RANGE))),
                    2 => {
                        let at = random.usize(..bytes.len());
                        bytes[at] = random.u8(..);
                    }
                    _ => {
                        let payload: Vec<u8> =
                            std::iter::repeat_with(|| random.u8(..)).take(12).collect();
                        let payload = &payload[..random.usize(..12)];
                        bytes.extend(raw_frame(random.u8(..11), random.u8(..), stream, payload));
                    }
                }
            }
            write(&mut raw, &bytes).await;
            raw.shutdown(std::net::Shutdown::Write).await.ok();
            read_all(&mut raw).await;
        }
        server.toy.held.borrow_mut().clear();
        until(|| server.connections.statistics().open.get() == 0).await;
        assert_eq!(server.connections.statistics().calls_open.get(), 0);
    });
}
