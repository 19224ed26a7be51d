//! The channel against a small server of another make (`h2`).

use super::*;
use crate::grpc::request_head::RequestHead;
use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use std::thread;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

const CALL: usize = 0;
const ECHO: usize = 1;
const PATHS: [&str; 2] = ["/test/Call", "/test/Echo"];

/// Serves `connections` connections, ending each after `calls` calls, then listens no more.
fn server(connections: usize, calls: usize) -> Dial {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            for _ in 0..connections {
                serve(listener.accept().await.unwrap().0, calls).await;
            }
        });
    });
    let head = RequestHead::new(&address.to_string(), &PATHS).unwrap();
    Dial { address, head, timeout: Duration::from_secs(5) }
}

async fn serve(stream: TcpStream, calls: usize) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut nth = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        nth += 1;
        if nth > calls {
            return;
        }
        tokio::spawn(echo(request.into_body(), respond));
    }
}

/// Sends every byte back, and at the request's end that all is well.
async fn echo(mut body: h2::RecvStream, mut respond: h2::server::SendResponse<Bytes>) {
    let head = http::Response::builder().header("content-type", "application/grpc").body(());
    let mut answer = respond.send_response(head.unwrap(), false).unwrap();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        answer.send_data(data, false).unwrap();
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    // The client may be gone.
    answer.send_trailers(trailers).ok();
}

fn message(text: &[u8]) -> Vec<u8> {
    [&[0][..], &(text.len() as u32).to_be_bytes(), text].concat()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::new(Placement::Unbound).make().unwrap().run(future)
}

#[test]
fn calls_and_streams_share_a_connection() {
    run(async {
        let channel = Channel::connect(server(1, usize::MAX)).await.unwrap();
        let stream = channel.open(ECHO);
        for text in [&b"one"[..], b"two"] {
            stream.send(&message(text));
            let answer = channel.call(CALL, message(b"hello"), Keep::Message).await;
            assert_eq!(answer.outcome.unwrap().message, b"hello");
            assert_eq!(stream.next().await.unwrap().unwrap().bytes, text);
        }
        let streamed = channel.stream(CALL, message(b"an answer in a stream"));
        assert_eq!(streamed.next().await.unwrap().unwrap().bytes, b"an answer in a stream");
        assert!(streamed.next().await.unwrap().is_none(), "it ended in good order");
        let (sent, received) = channel.traffic();
        assert!(sent > 100 && received > 50, "{sent} {received}");
    });
}

#[test]
fn loss_fails_what_was_open_and_is_made_good() {
    run(async {
        let channel = Channel::connect(server(2, 2)).await.unwrap();
        let stream = channel.open(ECHO);
        stream.send(&message(b"echo"));
        assert!(stream.next().await.unwrap().is_some());
        assert!(channel.call(CALL, message(b""), Keep::Nothing).await.outcome.is_ok());
        // The third call ends the connection.
        let lost = channel.call(CALL, message(b""), Keep::Nothing).await.outcome;
        assert!(matches!(lost, Err(CallError::Lost(_))), "{lost:?}");
        assert!(matches!(stream.next().await, Err(CallError::Lost(_))));
        assert!(channel.call(CALL, message(b""), Keep::Nothing).await.outcome.is_ok());
    });
}

#[test]
fn server_that_stays_away_fails_all_calls() {
    run(async {
        let dial = Dial { timeout: Duration::from_millis(50), ..server(1, 0) };
        let channel = Channel::connect(dial).await.unwrap();
        for _ in 0..3 {
            let lost = channel.call(CALL, message(b""), Keep::Nothing).await.outcome;
            assert!(matches!(lost, Err(CallError::Lost(_))), "{lost:?}");
        }
        let stream = channel.open(ECHO);
        stream.send(&message(b"lost"));
        assert!(matches!(stream.next().await, Err(CallError::Lost(_))));
    });
}
