//! Bytes that are not HTTP/2, or break its framing: the connection ends, nothing else does.

use std::time::Duration;

use fastrand::Rng;

use super::attack;
use super::wire::{
    CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS,
    WINDOW_UPDATE, call_headers, frame, frame_head, setting,
};
use crate::harness::only_urd;

const RANGE: &str = "/etcdserverpb.KV/Range";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage() {
    attack("garbage", |endpoint| {
        let mut rng = Rng::with_seed(1);
        for _ in 0..64 {
            let mut connection = Connection::open(endpoint);
            let bytes: Vec<u8> = (0..rng.usize(1..64 * 1024)).map(|_| rng.u8(..)).collect();
            // A server that has seen enough may close in the middle.
            connection.send(&bytes);
            connection.shut_writing();
            assert!(connection.is_closed_in_time(), "garbage keeps a connection open");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_after_a_good_preface() {
    attack("garbage after a good preface", |endpoint| {
        let mut rng = Rng::with_seed(2);
        for _ in 0..64 {
            let mut connection = Connection::handshake(endpoint, &[]);
            let bytes: Vec<u8> = (0..rng.usize(1..64 * 1024)).map(|_| rng.u8(..)).collect();
            connection.send(&bytes);
            connection.shut_writing();
            assert!(connection.is_closed_in_time(), "garbage keeps a connection open");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_protocols() {
    attack("other protocols", |endpoint| {
        let client_hello =
            [&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03][..], &[0x5a; 500]];
        let lines: &[&[u8]] = &[
            b"GET / HTTP/9.9\r\n\r\n",
            b"\r\n\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"GET /health HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"PRI * HTTP/1.1\r\n\r\n",
            b"POST /version HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
            &client_hello.concat(),
        ];
        for line in lines {
            let mut connection = Connection::open(endpoint);
            connection.send(line);
            connection.shut_writing();
            assert!(
                connection.is_closed_in_time(),
                "{:?} keeps a connection open",
                String::from_utf8_lossy(line)
            );
        }
        let mut connection = Connection::open(endpoint);
        let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 4 << 20]].concat();
        connection.send(&endless);
        assert!(connection.is_closed_in_time(), "a header without an end keeps a connection open");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence() {
    attack("silence", |endpoint| {
        let mut connections = Vec::new();
        for beginning in [
            &b""[..],
            &PREFACE[..5],
            PREFACE,
            &[PREFACE, &frame_head(0, SETTINGS, 0, 0)[..4]].concat(),
        ] {
            for _ in 0..50 {
                let mut connection = Connection::open(endpoint);
                connection.send(beginning);
                connections.push(connection);
            }
        }
        // Held open while the bystander works on.
        std::thread::sleep(Duration::from_millis(500));
    })
    .await;
}

/// Each breaks a rule of RFC 9113 that ends the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_framing() {
    if only_urd("its HTTP/2 library of 2018 lets some of it pass") {
        return;
    }
    let open = frame(HEADERS, END_HEADERS, 1, &call_headers(RANGE));
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("a frame of 16 MiB", [frame_head(0xff_ffff, DATA, 0, 1), vec![0; 1 << 20]].concat()),
        ("data on stream 0", frame(DATA, 0, 0, b"x")),
        ("headers on stream 0", frame(HEADERS, END_HEADERS, 0, &call_headers(RANGE))),
        ("headers on an even stream", frame(HEADERS, END_HEADERS, 2, &call_headers(RANGE))),
        ("data on an idle stream", frame(DATA, 0, 7, b"x")),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, b"")),
        ("settings of a wrong length", frame(SETTINGS, 0, 0, &[0; 5])),
        ("a window of more than 2^31", frame(SETTINGS, 0, 0, &setting(4, u32::MAX))),
        ("a frame size of 0", frame(SETTINGS, 0, 0, &setting(5, 0))),
        ("an empty window update", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "a window past its end",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2),
        ),
        ("headers that are not HPACK", frame(HEADERS, END_HEADERS, 1, &[0xff; 64])),
        ("padding longer than the frame", [open.clone(), frame(DATA, 8, 1, &[200, 0])].concat()),
        (
            "another frame inside a header block",
            [frame(HEADERS, 0, 1, &call_headers(RANGE)), frame(DATA, END_STREAM, 1, b"")].concat(),
        ),
    ];
    attack("broken framing", move |endpoint| {
        for (name, bytes) in broken {
            let mut connection = Connection::handshake(endpoint, &[]);
            connection.send(&bytes);
            assert!(connection.is_closed_in_time(), "{name} must end the connection");
        }
    })
    .await;
}
