//! Ordered stops: a signal under load, an end in time with exit code 0, and nothing acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::grpc::{get_request, put_request};
use crate::harness::{Client, Program, Server, subject_is_etcd, wait_for};

const WRITERS: usize = 16;
/// Acknowledged before the signal.
const PUTS: u64 = 300;
/// The server's own limit for calls under way is 5 s.
const STOP_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_in_order_on_sigterm() {
    ends_in_order_on(Signal::TERM).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_in_order_on_sigint() {
    ends_in_order_on(Signal::INT).await;
}

async fn ends_in_order_on(signal: Signal) {
    let mut server = Server::start_fresh(Program::Subject);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let client = Client::connect(&server.endpoint()).await;
        writers.push(tokio::spawn(write_until_refused(number, client, acknowledged.clone())));
    }
    while acknowledged.load(Ordering::SeqCst) < PUTS {
        assert!(
            !writers.iter().all(|writer| writer.is_finished()),
            "all writers failed before the signal"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.signal(signal);
    let status = tokio::task::block_in_place(|| server.wait_exit(STOP_MAX));
    if !subject_is_etcd() {
        // etcd ends itself by the same signal.
        assert_eq!(status.code(), Some(0), "{signal:?}: {status}\n{}", server.log());
    }
    let mut last = Vec::new();
    for writer in writers {
        // Answered or refused, but ended: no call hangs when the server is gone.
        let writer =
            tokio::time::timeout(STOP_MAX, writer).await.expect("a call outlives the server");
        last.push(writer.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
    }
    server.restart();
    let mut client = Client::connect(&server.endpoint()).await;
    for (number, last) in last.into_iter().enumerate() {
        let answer = client.range(get_request(&format!("stop/{number}"))).await.expect("get");
        let stored: u64 =
            answer.kvs.first().map_or(0, |pair| text(&pair.value).parse().expect("a number"));
        // One more than acknowledged may be there: the put that was refused or cut off while it was under way.
        assert!(
            (last..=last + 1).contains(&stored),
            "writer {number}: acknowledged {last}, stored {stored}"
        );
    }
}

/// Puts 1, 2, 3... under one key; the last acknowledged.
async fn write_until_refused(
    number: usize,
    mut client: Client,
    acknowledged: Arc<AtomicU64>,
) -> u64 {
    for value in 1.. {
        let put = put_request(&format!("stop/{number}"), value.to_string().as_bytes());
        if client.put(put).await.is_err() {
            return value - 1;
        }
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    unreachable!("the server is stopped long before u64 ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn ends_at_once_when_idle() {
    let mut server = Server::start_fresh(Program::Subject);
    let connection = std::net::TcpStream::connect(server.endpoint()).expect("connect");
    server.signal(Signal::TERM);
    server.wait_exit(STOP_MAX);
    drop(connection);
}

/// Two signals, the second while the first is obeyed: still an end, not a hang.
#[test]
fn survives_a_second_signal() {
    let mut server = Server::start_fresh(Program::Subject);
    server.signal(Signal::TERM);
    server.signal(Signal::INT);
    server.wait_exit(STOP_MAX);
    wait_for("the port to be free", STOP_MAX, || {
        std::net::TcpListener::bind(server.endpoint()).ok()
    });
    server.restart();
}
