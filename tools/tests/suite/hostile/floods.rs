//! Valid frames, far too many: the server closes the connection instead of working for it.

use urd_proto::etcdserverpb as pb;

use prost::Message;

use super::attack;
use super::wire::{
    ACK, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, call_headers, frame, grpc_frame, header, header_indexed,
    setting,
};
use crate::harness::only_urd;

/// More of anything than a client has reason to send.
const FLOOD: u32 = 100_000;
/// Sent in one write.
const CHUNK: u32 = 500;
const RANGE: &str = "/etcdserverpb.KV/Range";

/// Why etcd 3.4 is not asked.
const OLD_LIBRARY: &str = "its HTTP/2 library of 2018 works through most floods";

/// Sends `flood(number)` for every number until the server closes, which it must before long.
fn flood_until_closed(connection: &mut Connection, name: &str, flood: impl Fn(u32) -> Vec<u8>) {
    // The server's answers are read, so that it cannot just wait for us.
    connection.drain();
    for chunk in 0..FLOOD / CHUNK {
        let bytes: Vec<u8> = (0..CHUNK).flat_map(|number| flood(chunk * CHUNK + number)).collect();
        if !connection.send(&bytes) {
            println!("{name}: closed after {} or fewer", (chunk + 1) * CHUNK);
            return;
        }
    }
    // The kernel may have taken the last of it before the server closed.
    assert!(connection.is_closed_in_time(), "{name}: {FLOOD} and the connection is still open");
}

fn get(key: &'static str) -> Vec<u8> {
    grpc_frame(&pb::RangeRequest { key: key.into(), ..Default::default() }.encode_to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets() {
    if only_urd(OLD_LIBRARY) {
        return;
    }
    attack("rapid resets", |endpoint| {
        let mut connection = Connection::handshake(endpoint, &[]);
        let headers = call_headers(RANGE);
        flood_until_closed(&mut connection, "open and reset", |number| {
            let stream = 2 * number + 1;
            let open = frame(HEADERS, END_HEADERS, stream, &headers);
            let data = frame(DATA, END_STREAM, stream, &get("a"));
            [open, data, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings() {
    attack("pings", |endpoint| {
        let mut connection = Connection::handshake(endpoint, &[]);
        flood_until_closed(&mut connection, "ping", |number| {
            frame(PING, 0, 0, &u64::from(number).to_be_bytes())
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings() {
    if only_urd(OLD_LIBRARY) {
        return;
    }
    attack("settings", |endpoint| {
        let mut connection = Connection::handshake(endpoint, &[]);
        flood_until_closed(&mut connection, "settings", |number| {
            frame(SETTINGS, 0, 0, &setting(4, 65_535 + number % 2))
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_data() {
    if only_urd(OLD_LIBRARY) {
        return;
    }
    attack("empty data", |endpoint| {
        let mut connection = Connection::handshake(endpoint, &[]);
        connection.send(&frame(HEADERS, END_HEADERS, 1, &call_headers(RANGE)));
        flood_until_closed(&mut connection, "empty data", |_| frame(DATA, 0, 1, b""));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn continuations() {
    if only_urd(OLD_LIBRARY) {
        return;
    }
    attack("continuations", |endpoint| {
        for piece in [0, 100] {
            let mut connection = Connection::handshake(endpoint, &[]);
            connection.send(&frame(HEADERS, 0, 1, &call_headers(RANGE)));
            let mut block = Vec::new();
            header(&mut block, b"x", &vec![b'y'; piece]);
            let block = if piece == 0 { Vec::new() } else { block };
            flood_until_closed(&mut connection, "continuation", |_| {
                frame(CONTINUATION, 0, 1, &block)
            });
        }
    })
    .await;
}

/// One entry of the header table, named thousands of times: small on the wire, large when unpacked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_bombs() {
    attack("header bombs", |endpoint| {
        let mut connection = Connection::handshake(endpoint, &[]);
        connection.drain();
        let mut first = call_headers(RANGE);
        header_indexed(&mut first, b"x", &[b'y'; 4000]);
        if !connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &first)) {
            return;
        }
        let bomb = [call_headers(RANGE), vec![0xbe; 15_000]].concat();
        for stream in (3..203).step_by(2) {
            // Refusing the streams or closing the connection are both fine: what counts is memory.
            if !connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb)) {
                return;
            }
        }
    })
    .await;
}

/// Frames that a server may ignore, and must not choke on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ignorable_frames() {
    attack("ignorable frames", |endpoint| {
        let mut connection = Connection::handshake(endpoint, &[]);
        connection.drain();
        for chunk in 0..FLOOD / CHUNK {
            let bytes: Vec<u8> = (0..CHUNK)
                .flat_map(|number| match number % 4 {
                    0 => frame(PRIORITY, 0, 2 * (chunk * CHUNK + number) + 1, &[0, 0, 0, 0, 16]),
                    1 => frame(0x42, 0xff, 0, b"an unknown kind of frame"),
                    2 => frame(PING, ACK, 0, &[0; 8]),
                    _ => frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
                })
                .collect();
            // Closing is the server's right here as well.
            if !connection.send(&bytes) {
                return;
            }
        }
    })
    .await;
}
