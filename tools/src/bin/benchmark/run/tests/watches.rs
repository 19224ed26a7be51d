//! Runs with watchers against a server that loses events or repeats them: all of it must be noticed.

use super::*;
use prost::Message;
use std::sync::Mutex;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use urd_proto::etcdserverpb::{
    PutResponse, ResponseHeader, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use urd_proto::mvccpb::{Event, KeyValue};
use urd_tools::grpc::unary::framed;

/// What goes wrong with the event of the third put.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Lost,
    Repeated,
    /// It comes after the fourth.
    Overtaken,
    /// The watcher is canceled instead.
    Canceled,
    /// It comes again for a watcher that nobody made.
    Strange,
}

/// The revision, and where the only watcher of each stream gets its messages from.
#[derive(Default)]
struct State {
    revision: i64,
    watchers: Vec<UnboundedSender<WatchResponse>>,
}

/// Serves Put and Watch on 127.0.0.1, as long as the test's process lives.
fn serve(fault: Fault) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let state = Arc::new(Mutex::new(State::default()));
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, fault, state.clone()));
            }
        });
    });
    address
}

async fn connection(stream: TcpStream, fault: Fault, state: Arc<Mutex<State>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let head = http::Response::builder().header("content-type", "application/grpc").body(());
        let mut answer = respond.send_response(head.unwrap(), false).unwrap();
        if request.uri().path().ends_with("/Watch") {
            tokio::spawn(watch(request.into_body(), answer, state.clone()));
        } else {
            let revision = put(fault, &mut state.lock().unwrap());
            let header = ResponseHeader { revision, ..ResponseHeader::default() };
            let response = PutResponse { header: Some(header), prev_kv: None };
            answer.send_data(framed(&response).into(), false).unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            answer.send_trailers(trailers).unwrap();
        }
    }
}

async fn watch(
    mut body: h2::RecvStream,
    mut answer: h2::SendStream<Bytes>,
    state: Arc<Mutex<State>>,
) {
    let data = body.data().await.unwrap().unwrap();
    let request = WatchRequest::decode(&data[5..]).unwrap();
    let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
        panic!("{request:?}")
    };
    let (sender, mut receiver) = unbounded_channel();
    let created = WatchResponse { created: true, ..Default::default() };
    sender.send(created).unwrap();
    state.lock().unwrap().watchers.push(sender);
    while let Some(response) = receiver.recv().await {
        // What is sent for each watcher says how far its id is off.
        let response = WatchResponse { watch_id: create.watch_id + response.watch_id, ..response };
        answer.send_data(framed(&response).into(), false).unwrap();
    }
}

/// Makes the next revision, and tells the watchers more or less.
fn put(fault: Fault, state: &mut State) -> i64 {
    state.revision += 1;
    let event = |mod_revision| WatchResponse {
        events: vec![Event {
            kv: Some(KeyValue { mod_revision, ..KeyValue::default() }),
            ..Event::default()
        }],
        ..WatchResponse::default()
    };
    let revision = state.revision;
    let canceled =
        WatchResponse { canceled: true, cancel_reason: "a test".into(), ..Default::default() };
    let messages = match (fault, revision) {
        (Fault::Lost | Fault::Overtaken, 3) => vec![],
        (Fault::Repeated, 3) => vec![event(3), event(3)],
        (Fault::Overtaken, 4) => vec![event(4), event(3)],
        (Fault::Canceled, 3) => vec![canceled],
        (Fault::Strange, 3) => vec![event(3), WatchResponse { watch_id: 1, ..event(3) }],
        _ => vec![event(revision)],
    };
    for watcher in &state.watchers {
        for message in &messages {
            watcher.send(message.clone()).ok();
        }
    }
    revision
}

fn benchmark(fault: Fault, line: &str) -> Report {
    let line = format!("benchmark --endpoints={} {line} --event-timeout=200ms", serve(fault));
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let endpoints = cli.checked_endpoints().unwrap();
    run(&cli, &endpoints, &endpoints, Task::new(&cli).unwrap()).unwrap()
}

#[test]
fn wrong_events_are_noticed() {
    for (fault, expected) in [
        (Fault::None, ""),
        (Fault::Lost, "watch: 2 events missing, none within 200ms"),
        (Fault::Repeated, "watch: an event came twice, or after a later one"),
        (Fault::Overtaken, "watch: an event came twice, or after a later one"),
        (Fault::Canceled, "watch: canceled by the server: a test"),
        (Fault::Strange, "watch: events of a watcher that does not exist"),
    ] {
        let line = "--conns=2 watch --put-total=6 --streams=2 --watch-per-stream=1";
        let report = benchmark(fault, line);
        let errors: Vec<&String> = report.error_counts.keys().collect();
        match expected {
            "" => assert_eq!((report.errors, errors.len()), (0, 0), "{errors:?}"),
            expected => assert!(errors.iter().any(|e| *e == expected), "{fault:?}: {errors:?}"),
        }
        assert_eq!(report.requests, 6, "the puts went well");
    }
}

#[test]
fn put_whose_events_do_not_come_ends_the_run() {
    let line = "watch-latency --put-total=6 --put-rate=0 --streams=2 --watchers-per-stream=1";
    let report = benchmark(Fault::Lost, line);
    let text = "watch: not all events of a put arrived";
    assert!(report.error_counts.contains_key(text), "{:?}", report.error_counts);
    assert_eq!(report.requests, 3);
}
