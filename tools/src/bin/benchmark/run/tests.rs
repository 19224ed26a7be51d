//! Whole runs against a small server of another make (`h2`), which behaves well or not.

mod watches;

use super::*;
use bytes::Bytes;
use clap::Parser;
use h2::server::SendResponse;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What the server does.
#[derive(Clone, Debug)]
struct Behaviour {
    /// Its limit of streams on a connection.
    streams_max: u32,
    /// Each connection is shut down in good order after so many calls.
    calls_per_connection: usize,
    /// After so many calls, all is dropped where it stands.
    calls_before_crash: usize,
    /// Whether it comes back after that.
    recovers: bool,
    /// Every so-manieth call is answered with an error, of this status.
    fails_every: usize,
    fails_with: &'static str,
    /// How long the first call takes.
    first_takes: Duration,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            streams_max: 1000,
            calls_per_connection: usize::MAX,
            calls_before_crash: usize::MAX,
            recovers: false,
            fails_every: usize::MAX,
            fails_with: "8",
            first_takes: Duration::ZERO,
        }
    }
}

/// A server on a thread of its own, until dropped.
struct Server {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(behaviour: Behaviour) -> Server {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        let of_thread = calls.clone();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, behaviour, of_thread) => {}
                    _ = stopped => {}
                }
            });
        });
        Server { address, calls, stop: Some(stop), thread: Some(thread) }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the server panicked");
    }
}

async fn serve(listener: std::net::TcpListener, behaviour: Behaviour, calls: Arc<AtomicUsize>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                connections.spawn(connection(stream, behaviour.clone(), calls.clone()));
            }
            Some(crashed) = connections.join_next() => {
                if crashed.unwrap_or(false) {
                    connections.abort_all();
                    if !behaviour.recovers {
                        return;
                    }
                }
            }
        }
    }
}

/// Serves one connection. Whether that crashed the server.
async fn connection(stream: TcpStream, behaviour: Behaviour, calls: Arc<AtomicUsize>) -> bool {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(behaviour.streams_max);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return false };
    let mut of_connection = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        let nth = calls.fetch_add(1, Ordering::SeqCst) + 1;
        if nth == behaviour.calls_before_crash {
            return true;
        }
        of_connection += 1;
        if of_connection == behaviour.calls_per_connection {
            connection.graceful_shutdown();
        }
        let first_takes = if nth == 1 { behaviour.first_takes } else { Duration::ZERO };
        let fails = nth.is_multiple_of(behaviour.fails_every);
        let status = if fails { behaviour.fails_with } else { "0" };
        tokio::spawn(answer(request.into_body(), respond, first_takes, status));
    }
    false
}

async fn answer(
    mut body: h2::RecvStream,
    mut respond: SendResponse<Bytes>,
    takes: Duration,
    status: &str,
) {
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    tokio::time::sleep(takes).await;
    let head = http::Response::builder().header("content-type", "application/grpc").body(());
    // The client may be gone, which is for its own test to judge.
    let Ok(mut stream) = respond.send_response(head.unwrap(), false) else { return };
    stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 0]), false).ok();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-message", "too%20many".parse().unwrap());
    stream.send_trailers(trailers).ok();
}

fn benchmark(server: &Server, line: &str) -> Result<Report, String> {
    benchmark_all(&[server], line)
}

fn benchmark_all(servers: &[&Server], line: &str) -> Result<Report, String> {
    let endpoints: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    let line = format!("benchmark --endpoints={} {line}", endpoints.join(","));
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let endpoints = cli.checked_endpoints().unwrap();
    run(&cli, &endpoints, &endpoints, Task::new(&cli).unwrap())
}

#[test]
fn every_request_is_answered_and_counted() {
    let server = Server::start(Behaviour::default());
    let line = "--conns=7 --clients=50 --threads=2 put --total=2000 --val-size=100";
    let report = benchmark(&server, line).unwrap();
    assert_eq!((report.requests, report.errors, report.threads), (2000, 0, 2));
    assert_eq!(server.calls(), 2000);
    assert_eq!(report.latency_histogram().len(), 2000);
    assert_eq!(report.over_time.iter().map(|second| second.requests).sum::<u64>(), 2000);
    assert!(report.bytes_sent > 2000 * 100 && report.cpu_seconds > 0.0);
}

#[test]
fn fewer_clients_than_connections_leave_some_idle() {
    let server = Server::start(Behaviour::default());
    let line = "--conns=5 --clients=2 --threads=5 range a b --total=10";
    let report = benchmark(&server, line).unwrap();
    assert_eq!((report.requests, report.errors), (10, 0));
}

#[test]
fn clients_queue_for_streams() {
    let server = Server::start(Behaviour { streams_max: 3, ..Behaviour::default() });
    let report = benchmark(&server, "--clients=100 put --total=1000").unwrap();
    assert_eq!((report.requests, report.errors), (1000, 0));
}

#[test]
fn shutdown_in_good_order_loses_nothing() {
    let server = Server::start(Behaviour { calls_per_connection: 20, ..Behaviour::default() });
    let report = benchmark(&server, "--conns=2 --clients=8 put --total=500").unwrap();
    assert_eq!((report.requests, report.errors), (500, 0), "{:?}", report.error_counts);
}

#[test]
fn errors_are_counted_by_their_texts() {
    let server = Server::start(Behaviour { fails_every: 10, ..Behaviour::default() });
    let report = benchmark(&server, "--conns=2 --clients=8 put --total=500").unwrap();
    assert_eq!((report.requests, report.errors), (450, 50));
    let text = "rpc error: code = ResourceExhausted desc = too many";
    assert_eq!(report.error_counts, [(text.to_string(), 50)].into());
}

#[test]
fn restart_fails_what_was_under_way_and_no_more() {
    let behaviour = Behaviour { calls_before_crash: 100, recovers: true, ..Behaviour::default() };
    let server = Server::start(behaviour);
    let report = benchmark(&server, "--conns=4 --clients=16 put --total=1000").unwrap();
    assert_eq!(report.requests + report.errors, 1000);
    assert!((1..=16).contains(&report.errors), "{:?}", report.error_counts);
    assert!(report.error_counts.keys().all(|error| error.starts_with("connection lost")));
}

#[test]
fn server_that_stays_away_ends_the_run() {
    for flags in ["", "--rate=100000"] {
        let server = Server::start(Behaviour { calls_before_crash: 100, ..Behaviour::default() });
        let line =
            format!("--conns=4 --clients=16 --dial-timeout=50ms put --total=1000000 {flags}");
        let report = benchmark(&server, &line).unwrap();
        assert!(report.errors > 0 && report.requests < 100, "{:?}", report.error_counts);
        let refused = |error: &String| error.contains("Connection refused");
        assert!(report.error_counts.keys().any(refused), "{:?}", report.error_counts);
    }
}

#[test]
fn connections_go_round_all_endpoints() {
    let servers = [0; 3].map(|_| Server::start(Behaviour::default()));
    let servers = servers.each_ref();
    let report = benchmark_all(&servers, "--conns=6 --clients=6 put --total=600").unwrap();
    assert_eq!((report.requests, report.endpoints.len()), (600, 3));
    assert!(servers.iter().all(|server| server.calls() > 0));
    assert_eq!(report.failover, None, "not asked for");
}

#[test]
fn lost_server_is_survived_at_another() {
    let dies = Server::start(Behaviour { calls_before_crash: 100, ..Behaviour::default() });
    let lives = Server::start(Behaviour::default());
    let line = "--conns=4 --clients=16 --threads=2 --survive-failover put --total=2000";
    let report = benchmark_all(&[&dies, &lives], line).unwrap();
    assert_eq!((report.requests, report.errors), (2000, 0), "{:?}", report.error_counts);
    let failover = report.failover.unwrap();
    assert!((1..=16).contains(&failover.errors), "{failover:?}");
    assert_eq!(failover.error_counts.values().sum::<u64>(), failover.errors);
    assert!(failover.error_counts.keys().all(|error| error.starts_with("connection lost")));
    assert!(failover.longest_without_answer_ns > 0);
    assert!(lives.calls() >= 1900, "{}", lives.calls());
}

#[test]
fn unavailable_is_asked_again_and_other_errors_are_not() {
    let fails = |fails_with| Behaviour { fails_every: 10, fails_with, ..Behaviour::default() };
    let unavailable = Server::start(fails("14"));
    let line = "--conns=2 --clients=8 --survive-failover put --total=500";
    let report = benchmark(&unavailable, line).unwrap();
    assert_eq!((report.requests, report.errors), (500, 0), "{:?}", report.error_counts);
    let survived = report.failover.unwrap().error_counts;
    let text = "rpc error: code = Unavailable desc = too many";
    assert_eq!(survived, [(text.to_string(), (unavailable.calls() - 500) as u64)].into());

    let exhausted = Server::start(fails("8"));
    let report = benchmark(&exhausted, line).unwrap();
    assert_eq!((report.requests, report.errors), (450, 50));
    assert_eq!(report.failover.unwrap().errors, 0);
}

#[test]
fn duration_ends_a_run_that_nobody_serves_any_more() {
    for flags in ["", "--rate=1000"] {
        let server = Server::start(Behaviour { calls_before_crash: 100, ..Behaviour::default() });
        let line =
            format!("--conns=4 --clients=16 --duration=400ms --survive-failover put {flags}");
        let report = benchmark(&server, &line).unwrap();
        let failover = report.failover.unwrap();
        assert!(report.requests < 100 && failover.errors > 0, "{failover:?}");
        let refused = |error: &String| error.contains("Connection refused");
        assert!(failover.error_counts.keys().any(refused), "{failover:?}");
        assert_eq!(report.errors, 0, "{:?}", report.error_counts);
        assert!(failover.longest_without_answer_ns > 0, "{failover:?}");
    }
}

#[test]
fn nobody_there_is_an_error_at_once() {
    let server = Server::start(Behaviour { calls_before_crash: 1, ..Behaviour::default() });
    benchmark(&server, "--dial-timeout=50ms put --total=1").unwrap();
    let error = benchmark(&server, "--conns=3 --threads=3 put --total=1").unwrap_err();
    assert!(error.contains("Connection refused"), "{error}");
}

#[test]
fn stall_counts_for_all_that_fell_due_meanwhile() {
    let stall = Duration::from_millis(100);
    let server = Server::start(Behaviour { first_takes: stall, ..Behaviour::default() });
    // One client, a request due every millisecond: all fifty are due within the stall.
    let report = benchmark(&server, "put --total=50 --rate=1000").unwrap();
    assert_eq!((report.requests, report.errors), (50, 0));
    assert!(report.latency.fastest > 50_000_000, "{:?}", report.latency);
}

#[test]
fn open_loop_ends_with_idle_clients() {
    let server = Server::start(Behaviour::default());
    let line = "--conns=3 --clients=30 --threads=2 --duration=50ms put --rate=2000";
    let report = benchmark(&server, line).unwrap();
    assert_eq!((report.requests, report.errors), (100, 0));
}
