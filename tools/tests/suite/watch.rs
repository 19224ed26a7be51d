//! Watches: the same histories and watchers on Urd and on etcd; what each watcher is told must be equal.
//!
//! How events are batched into responses is each server's own business, and so is the order among watchers. So what is
//! compared is, for each watch id, its events in order and its other responses in order.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::watch_request::RequestUnion;
use urd_proto::mvccpb;

use crate::harness::grpc::put_request;
use crate::harness::{Client, Program, Server};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one watcher was told: its events, and the responses without any.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    events: Vec<mvccpb::Event>,
    others: Vec<pb::WatchResponse>,
}

/// A stream of watches, and what came over it.
struct Watches {
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
    told: Arc<Mutex<BTreeMap<i64, Told>>>,
}

impl Watches {
    async fn open(client: &mut Client) -> Watches {
        let (requests, receiver) = mpsc::unbounded_channel();
        // A server may send its headers with its first answer only, so one request is needed before.
        requests
            .send(request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})))
            .expect("it is open");
        let mut responses: tonic::Streaming<pb::WatchResponse> = client
            .converse(WATCH, UnboundedReceiverStream::new(receiver))
            .await
            .expect("a watch stream");
        let told: Arc<Mutex<BTreeMap<i64, Told>>> = Arc::default();
        let telling = told.clone();
        tokio::spawn(async move {
            while let Ok(Some(mut response)) = responses.message().await {
                let mut told = telling.lock().expect("nobody panics with it");
                let own = told.entry(response.watch_id).or_default();
                own.events.append(&mut response.events);
                if response.created || response.canceled {
                    own.others.push(canonical(response));
                }
            }
        });
        Watches { requests, told }
    }

    fn send(&self, union: RequestUnion) {
        self.requests.send(request(union)).expect("the stream is open");
    }

    /// Sends a request and waits for what answers it.
    async fn ask(&self, union: RequestUnion) {
        let before = self.others();
        self.send(union);
        until(|| self.others() > before).await;
    }

    fn others(&self) -> usize {
        self.told
            .lock()
            .expect("nobody panics with it")
            .values()
            .map(|told| told.others.len())
            .sum()
    }

    /// The least id of a watcher that the client has not cancelled.
    fn cancellable(&self) -> Option<i64> {
        let told = self.told.lock().expect("nobody panics with it");
        let by_client =
            |response: &pb::WatchResponse| response.canceled && response.compact_revision == 0;
        let mut own = told.iter().filter(|(id, told)| **id >= 0 && !told.others.is_empty());
        own.find(|(_, told)| !told.others.iter().any(by_client)).map(|(id, _)| *id)
    }

    fn all(&self) -> BTreeMap<i64, Told> {
        let mut all = self.told.lock().expect("nobody panics with it").clone();
        all.retain(|_, told| *told != Told::default());
        all
    }
}

fn request(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(union) }
}

/// Without what differs from server to server.
fn canonical(mut response: pb::WatchResponse) -> pb::WatchResponse {
    if let Some(header) = &mut response.header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
        // etcd 3.4 says 0 for a watch that compaction ended, later ones the revision of the moment.
        if response.compact_revision != 0 {
            header.revision = 0;
            // Which of several compactions is named depends on the moment.
            response.compact_revision = 1;
        }
    }
    response
}

async fn until(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited for too long");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// One server with a client and a stream of watches.
struct Side {
    _server: Server,
    client: Client,
    watches: Watches,
}

impl Side {
    async fn start(program: Program) -> Side {
        let server = tokio::task::spawn_blocking(move || Server::start_fresh(program))
            .await
            .expect("a server");
        let mut client = Client::connect(&server.endpoint()).await;
        let watches = Watches::open(&mut client).await;
        Side { _server: server, client, watches }
    }

    async fn act(&mut self, action: &Action) {
        match action.clone() {
            Action::Put(put) => drop(self.client.put(put).await.expect("put")),
            Action::Delete(delete) => {
                drop(self.client.delete_range(delete).await.expect("delete"));
            }
            Action::Txn(txn) => drop(self.client.txn(txn).await.expect("txn")),
            // Refused alike when it goes back.
            Action::Compact(compact) => drop(self.client.compact(compact).await),
            // Refused alike when it is there already, or is not.
            Action::Grant(grant) => drop(self.client.lease_grant(grant).await),
            Action::Revoke(revoke) => drop(self.client.lease_revoke(revoke).await),
            Action::Watch(union) => self.watches.ask(union).await,
        }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    Grant(pb::LeaseGrantRequest),
    Revoke(pb::LeaseRevokeRequest),
    Watch(RequestUnion),
}

/// Histories of few keys, so that they meet.
struct Generator {
    random: fastrand::Rng,
    revision: i64,
    watches: i64,
    /// Lease 1 is granted.
    lease: bool,
}

impl Generator {
    fn key(&mut self) -> Vec<u8> {
        let mut key = vec![b'a' + self.random.u8(..4)];
        if self.random.bool() {
            key.push([0, b'x', 0xff][self.random.usize(..3)]);
        }
        key
    }

    fn end(&mut self, key: &[u8]) -> Vec<u8> {
        match self.random.u8(..4) {
            0 => vec![0],
            1 => vec![key[0] + 1],
            2 => self.key(),
            _ => Vec::new(),
        }
    }

    fn action(&mut self) -> Action {
        let key = self.key();
        match self.random.u8(..100) {
            0..45 => {
                self.revision += 1;
                let value = format!("{}", self.revision).into();
                let lease = if self.random.bool() { i64::from(self.lease) } else { 0 };
                Action::Put(pb::PutRequest { key: key.into(), value, lease, ..Default::default() })
            }
            45..60 => {
                let range_end = self.end(&key).into();
                // How many revisions came about is of no use: start revisions need only be near.
                Action::Delete(pb::DeleteRangeRequest {
                    key: key.into(),
                    range_end,
                    prev_kv: false,
                })
            }
            60..70 => {
                self.revision += 1;
                let put = |key: &str| pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
                        key: key.to_owned().into(),
                        value: b"txn".to_vec().into(),
                        ..Default::default()
                    })),
                };
                let success = vec![put("b"), put("c"), put("ax")];
                Action::Txn(pb::TxnRequest { success, ..Default::default() })
            }
            // One lease after the other; its end deletes several keys at once.
            72..75 if self.lease => {
                self.lease = false;
                Action::Revoke(pb::LeaseRevokeRequest { id: 1 })
            }
            72..78 if !self.lease => {
                self.lease = true;
                Action::Grant(pb::LeaseGrantRequest { id: 1, ttl: 100_000 })
            }
            70..72 => {
                let revision = self.random.i64(1..self.revision.max(2));
                Action::Compact(pb::CompactionRequest { revision, physical: true })
            }
            _ => {
                self.watches += 1;
                let range_end = self.end(&key).into();
                let start_revision = match self.random.u8(..4) {
                    // Below 0 etcd leaves out what it has not come to within 100 ms.
                    0 => self.random.i64(0..self.revision + 5),
                    _ => 0,
                };
                let filters = (0..2).filter(|_| self.random.u8(..5) == 0).collect();
                Action::Watch(RequestUnion::CreateRequest(pb::WatchCreateRequest {
                    key: if self.random.u8(..10) == 0 { Vec::new() } else { key }.into(),
                    range_end,
                    start_revision,
                    filters,
                    prev_kv: self.random.bool(),
                    watch_id: if self.random.u8(..5) == 0 { self.random.i64(1..60) } else { 0 },
                    fragment: self.random.bool(),
                    progress_notify: self.random.bool(),
                }))
            }
        }
    }
}

async fn compare(seed: u64, actions: usize) {
    println!("seed {seed}");
    let (mut etcd, mut urd) =
        tokio::join!(Side::start(Program::Etcd), Side::start(Program::Subject));
    let mut generator =
        Generator { random: fastrand::Rng::with_seed(seed), revision: 1, watches: 0, lease: false };
    for _ in 0..actions {
        let action = match etcd.watches.cancellable() {
            // Each is cancelled once, whether it still watches or was ended by compaction.
            Some(watch_id) if generator.random.u8(..50) == 0 => {
                let cancel = pb::WatchCancelRequest { watch_id };
                Action::Watch(RequestUnion::CancelRequest(cancel))
            }
            _ => generator.action(),
        };
        if matches!(action, Action::Compact(_) | Action::Watch(RequestUnion::CancelRequest(_))) {
            // etcd tells watchers of the past every 100 ms; until then these would take it away.
            tokio::time::sleep(Duration::from_millis(300)).await;
            until(|| etcd.watches.all() == urd.watches.all()).await;
        }
        tokio::join!(etcd.act(&action), urd.act(&action));
    }
    assert!(generator.watches > 10);
    // What is told is told some time after; equal it must be in the end, and stay.
    let begin = Instant::now();
    let mut equal_since = None;
    loop {
        let (expected, found) = (etcd.watches.all(), urd.watches.all());
        if expected != found {
            equal_since = None;
        } else if equal_since.get_or_insert(begin.elapsed()).as_millis() + 500
            < begin.elapsed().as_millis()
        {
            let events: usize = found.values().map(|told| told.events.len()).sum();
            println!("{events} events of {} watchers are equal", found.len());
            return;
        }
        if begin.elapsed() > PATIENCE {
            for (id, told) in &expected {
                let other = found.get(id).cloned().unwrap_or_default();
                let both = told.others.iter().zip(&other.others);
                for (nth, (left, right)) in both.enumerate() {
                    assert_eq!(left, right, "seed {seed}: watch {id}, response {nth}");
                }
                for (nth, (left, right)) in told.events.iter().zip(&other.events).enumerate() {
                    assert_eq!(left, right, "seed {seed}: watch {id}, event {nth}");
                }
            }
            assert_eq!(expected, found, "seed {seed}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn watchers_are_told_the_same_as_by_etcd() {
    for seed in [1, 2, 3] {
        compare(seed, 600).await;
    }
}

/// A watcher that reads nothing holds up nobody, and gets everything later.
#[tokio::test]
async fn a_watcher_that_does_not_read_hurts_nobody_and_misses_nothing() {
    let server = Server::start_fresh(Program::Subject);
    let mut client = Client::connect(&server.endpoint()).await;
    let mut other = Client::connect(&server.endpoint()).await;
    let (requests, receiver) = mpsc::unbounded_channel();
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    requests.send(request(RequestUnion::CreateRequest(create))).expect("it is open");
    let mut slow: tonic::Streaming<pb::WatchResponse> =
        client.converse(WATCH, UnboundedReceiverStream::new(receiver)).await.expect("a stream");
    assert!(slow.message().await.expect("a response").expect("one").created);
    const PUTS: usize = 3000;
    for nth in 0..PUTS {
        let value = vec![b'v'; 10_000 + nth];
        other.put(put_request("k", &value)).await.expect("put");
    }
    let mut versions = Vec::new();
    while versions.len() < PUTS {
        let response = slow.message().await.expect("a response").expect("more");
        for event in response.events {
            let kv = event.kv.expect("a key-value");
            assert_eq!(kv.value.len(), 10_000 + versions.len());
            versions.push(kv.version);
        }
    }
    assert!(versions.iter().copied().eq(1..=PUTS as i64));
}

/// Requests by the thousand, none of whose answers is read at first: all are answered in the end, and others are not
/// held up meanwhile.
#[tokio::test]
async fn many_requests_are_answered_one_after_another() {
    let server = Server::start_fresh(Program::Subject);
    let mut client = Client::connect(&server.endpoint()).await;
    let mut other = Client::connect(&server.endpoint()).await;
    const WATCHES: i64 = 30_000;
    let (requests, receiver) = mpsc::unbounded_channel();
    for nth in 0..WATCHES {
        let create = pb::WatchCreateRequest { key: format!("k{nth}").into(), ..Default::default() };
        requests.send(request(RequestUnion::CreateRequest(create))).expect("it is open");
    }
    let mut watch: tonic::Streaming<pb::WatchResponse> =
        client.converse(WATCH, UnboundedReceiverStream::new(receiver)).await.expect("a stream");
    for _ in 0..20 {
        other.put(put_request("other", b"x")).await.expect("put");
    }
    for nth in 0..WATCHES {
        let created = watch.message().await.expect("a response").expect("one");
        assert!(created.created && created.watch_id == nth, "{created:?}");
    }
    other.put(put_request("k12345", b"x")).await.expect("put");
    let told = watch.message().await.expect("a response").expect("one");
    assert_eq!((told.watch_id, told.events.len()), (12345, 1));
}

/// An open watch does not hold up the end of a server, and is told of it.
#[tokio::test]
async fn a_server_that_stops_ends_its_watches() {
    let mut server = Server::start_fresh(Program::Subject);
    let mut client = Client::connect(&server.endpoint()).await;
    let (requests, receiver) = mpsc::unbounded_channel();
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    requests.send(request(RequestUnion::CreateRequest(create))).expect("it is open");
    let mut watch: tonic::Streaming<pb::WatchResponse> =
        client.converse(WATCH, UnboundedReceiverStream::new(receiver)).await.expect("a stream");
    assert!(watch.message().await.expect("a response").expect("one").created);
    server.signal(Signal::TERM);
    let status = tokio::time::timeout(PATIENCE, watch.message()).await.expect("in time");
    assert_eq!(status.expect_err("the end").code(), tonic::Code::Unavailable);
    let status = server.wait_exit(Duration::from_secs(3));
    assert!(status.success(), "{status}");
}

/// As a user sees it: etcdctl prints the same, and runs its command for each event.
#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_prints_the_same() {
    let mut printed = Vec::new();
    for program in [Program::Etcd, Program::Subject] {
        let server = tokio::task::spawn_blocking(move || Server::start_fresh(program))
            .await
            .expect("a server");
        let mut client = Client::connect(&server.endpoint()).await;
        client.put(put_request("w/a", b"0")).await.expect("put");
        client.put(put_request("w/a", b"1")).await.expect("put");
        client.put(put_request("w/b", b"2")).await.expect("put");
        let all = pb::DeleteRangeRequest {
            key: "w/".into(),
            range_end: "w0".into(),
            ..Default::default()
        };
        client.delete_range(all).await.expect("delete");
        // Arguments, and what is typed to it.
        let watches: [(&[&str], &str); 6] = [
            (&["--prefix", "w/", "--rev=1"], ""),
            (&["--prefix", "w/", "--rev=2", "--prev-kv"], ""),
            (&["w/a", "--rev=2", "-w", "fields"], ""),
            (&["w/a", "w/b", "--rev=1", "--", "echo", "ran"], ""),
            (&["w/b", "--rev=4"], ""),
            (&["-i"], "watch w/a --rev=2\nwatch --rev=3 w/b -- echo typed\nwatch\n"),
        ];
        let mut texts = Vec::new();
        for (arguments, typed) in watches {
            let mut etcdctl = tokio::process::Command::new("etcdctl");
            etcdctl.env("ETCDCTL_API", "3").args(["--endpoints", &server.endpoint(), "watch"]);
            etcdctl.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
            let mut child = etcdctl.spawn().expect("start etcdctl");
            let mut input = child.stdin.take().expect("its input");
            for line in typed.split_inclusive('\n') {
                // One watch's events come before those of the next.
                input.write_all(line.as_bytes()).await.expect("type");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let mut out = child.stdout.take().expect("its output");
            // It never ends by itself: what it has printed after a while without more is all.
            let mut text: Vec<u8> = Vec::new();
            let mut wait = PATIENCE;
            while let Ok(Ok(1..)) = tokio::time::timeout(wait, out.read_buf(&mut text)).await {
                wait = Duration::from_millis(700);
            }
            child.kill().await.expect("end etcdctl");
            texts.push(without_ids(&String::from_utf8_lossy(&text)));
        }
        printed.push(texts);
    }
    assert!(printed[0].iter().all(|text| !text.is_empty()), "{printed:?}");
    assert_eq!(printed[0], printed[1]);
}

/// Ids and terms differ from server to server.
fn without_ids(text: &str) -> String {
    let ids = ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\"", "\"Revision\""];
    let lines = text.lines().filter(|line| !ids.iter().any(|id| line.starts_with(id)));
    lines.map(|line| format!("{line}\n")).collect()
}
