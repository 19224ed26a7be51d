//! Thousands of connections and streams, and clients that ask for much and read nothing: memory stays bounded.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use prost::Message;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use urd_proto::etcdserverpb as pb;

use super::wire::{
    Connection, DATA, END_HEADERS, END_STREAM, HEADERS, WINDOW_UPDATE, call_headers, frame,
    grpc_frame, setting,
};
use super::{attack, attack_server, calls};
use crate::harness::grpc::put_request;
use crate::harness::{Client, Launch, Program, Server, only_urd, process};

const IDLE_CONNECTIONS: usize = 1000;
const STREAM_CONNECTIONS: usize = 20;
const STREAMS_PER_CONNECTION: usize = 500;
const RANGE: &str = "/etcdserverpb.KV/Range";
/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Raises this process's limit of open files, which the servers it starts inherit.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .expect("raise the soft limit of open files to the hard one");
    let files = limit.maximum.unwrap_or(u64::MAX);
    assert!(files > 4000, "this test opens 1,000 connections; `ulimit -Hn` allows {files} files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections() {
    allow_many_files();
    let server = Server::start_fresh(Program::Subject);
    let pid = server.pid();
    let before = process::resident_bytes(pid);
    attack_server("1,000 idle connections", server, move |endpoint| {
        let mut connections: Vec<Connection> =
            (0..IDLE_CONNECTIONS).map(|_| Connection::handshake(endpoint, &[])).collect();
        // One call on each: whatever a connection allocates lazily is there.
        let get =
            grpc_frame(&pb::RangeRequest { key: "a".into(), ..Default::default() }.encode_to_vec());
        let call = [
            frame(HEADERS, END_HEADERS, 1, &call_headers(RANGE)),
            frame(DATA, END_STREAM, 1, &get),
        ]
        .concat();
        for connection in &mut connections {
            assert!(connection.send(&call), "an idle connection was closed");
        }
        for connection in &mut connections {
            connection.read_some();
        }
        let grown = process::resident_bytes(pid).saturating_sub(before);
        println!(
            "1,000 idle connections: {:.1} KiB each",
            grown as f64 / 1024.0 / IDLE_CONNECTIONS as f64
        );
    })
    .await;
}

/// Streams are opened, all of them, before any request is complete; then all are completed and answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams() {
    allow_many_files();
    let server = Server::start_fresh(Program::Subject);
    let before = process::resident_bytes(server.pid());
    let mut streams = Vec::new();
    for _ in 0..STREAM_CONNECTIONS {
        let client = calls::connect(&server.endpoint()).await;
        streams.append(&mut open_streams(client).await);
    }
    assert_eq!(streams.len(), STREAM_CONNECTIONS * STREAMS_PER_CONNECTION);
    let open = process::resident_bytes(server.pid());
    let get = Bytes::from(grpc_frame(
        &pb::RangeRequest { key: "a".into(), ..Default::default() }.encode_to_vec(),
    ));
    for (_, sender) in &mut streams {
        sender.send_data(get.clone(), true).expect("send a request");
    }
    for (response, _) in streams {
        let reply = tokio::time::timeout(Duration::from_secs(30), calls::reply(response));
        let reply =
            reply.await.expect("an answer within 30 s").expect("an answer, not a broken stream");
        assert_eq!(reply.grpc_status(), Some("0"), "{reply:?}");
    }
    let (after, peak) =
        (process::resident_bytes(server.pid()), process::resident_bytes_peak(server.pid()));
    println!(
        "10,000 streams: server memory {:.1} MiB before, {:.1} with all open ({:.1} KiB each), {:.1} after, {:.1} at most",
        process::mib(before),
        process::mib(open),
        open.saturating_sub(before) as f64 / 1024.0 / 10_000.0,
        process::mib(after),
        process::mib(peak)
    );
    assert!(peak < super::RESIDENT_MAX);
}

async fn open_streams(
    mut client: SendRequest<Bytes>,
) -> Vec<(ResponseFuture, h2::SendStream<Bytes>)> {
    let mut streams = Vec::new();
    for _ in 0..STREAMS_PER_CONNECTION {
        let ready = tokio::time::timeout(Duration::from_secs(10), client.ready());
        client = ready
            .await
            .expect("the server allows 500 streams on a connection")
            .expect("a living connection");
        streams.push(client.send_request(calls::request(RANGE), false).expect("open a stream"));
    }
    streams
}

/// 200 calls for 16 MiB each, and not a byte is read: 3 GiB if the server makes the answers first and asks later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stop_reading() {
    if only_urd("etcd holds every answer whole until it is read") {
        return;
    }
    let server = server_with_16_mib().await;
    attack_server("clients that stop reading", server, |endpoint| {
        // With a small window HTTP/2 stops the server, with a large one the socket does.
        let mut connections = Vec::new();
        for window in [0, 65_535, 0x7fff_ffff] {
            let mut connection =
                Connection::handshake(endpoint, &setting(INITIAL_WINDOW_SIZE, window));
            if window > 65_535 {
                connection.send(&frame(WINDOW_UPDATE, 0, 0, &0x7ffe_ffff_u32.to_be_bytes()));
            }
            let all = pb::RangeRequest {
                key: "large".into(),
                range_end: "largf".into(),
                ..Default::default()
            };
            let all = grpc_frame(&all.encode_to_vec());
            let calls: Vec<u8> = (0..200)
                .flat_map(|number| {
                    let stream = 2 * number + 1;
                    let open = frame(HEADERS, END_HEADERS, stream, &call_headers(RANGE));
                    [open, frame(DATA, END_STREAM, stream, &all)].concat()
                })
                .collect();
            connection.send_until_stuck(&calls, Duration::from_secs(1));
            connections.push(connection);
        }
        // Time to make answers that nobody fetches; the bystander is served meanwhile.
        std::thread::sleep(Duration::from_secs(2));
    })
    .await;
}

async fn server_with_16_mib() -> Server {
    let server = Launch::new(Program::Subject).start();
    let mut client = Client::connect(&server.endpoint()).await;
    for number in 0..16 {
        client
            .put(put_request(&format!("large/{number}"), &vec![b'x'; 1 << 20]))
            .await
            .expect("put 1 MiB");
    }
    server
}

/// Large puts that never end: each stream sends most of a message and waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_never_end() {
    attack("requests that never end", |endpoint| {
        let mut connections = Vec::new();
        for _ in 0..10 {
            let mut connection = Connection::handshake(endpoint, &[]);
            connection.drain();
            let head = [&[0][..], &1_500_000_u32.to_be_bytes()].concat();
            let bytes: Vec<u8> = (0..100)
                .flat_map(|number| {
                    let stream = 2 * number + 1;
                    let open =
                        frame(HEADERS, END_HEADERS, stream, &call_headers("/etcdserverpb.KV/Put"));
                    let part = frame(DATA, 0, stream, &[b'x'; 16_000]);
                    [open, frame(DATA, 0, stream, &head), part].concat()
                })
                .collect();
            // What flow control does not allow must not be read, or is an error that ends the connection.
            connection.send_until_stuck(&bytes, Duration::from_secs(1));
            connections.push(connection);
        }
        std::thread::sleep(Duration::from_millis(500));
    })
    .await;
}
