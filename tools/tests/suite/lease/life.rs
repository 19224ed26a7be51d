//! One lease: it ends after its time and not before, whatever happens to the server meanwhile.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_stream::wrappers::UnboundedReceiverStream;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::watch_request::RequestUnion;
use urd_proto::mvccpb::event::EventType;

use super::{Bench, PATIENCE, keep_alives};
use crate::harness::grpc::{get_request, prefix_request};
use crate::harness::{Program, etcdctl_path, only_urd};

/// How much later than its time a lease may end.
const LATE_MAX: Duration = Duration::from_secs(2);

/// Watches a prefix; the first response has come.
async fn watch(bench: &mut Bench, prefix: &str) -> tonic::Streaming<pb::WatchResponse> {
    let pb::RangeRequest { key, range_end, .. } = prefix_request(prefix);
    let create = pb::WatchCreateRequest { key, range_end, prev_kv: true, ..Default::default() };
    let (requests, receiver) = tokio::sync::mpsc::unbounded_channel();
    let union = Some(RequestUnion::CreateRequest(create));
    requests.send(pb::WatchRequest { request_union: union }).expect("it is open");
    let mut watch: tonic::Streaming<pb::WatchResponse> = bench
        .client
        .converse("/etcdserverpb.Watch/Watch", UnboundedReceiverStream::new(receiver))
        .await
        .expect("a watch");
    assert!(watch.message().await.expect("a response").expect("one").created);
    // The stream of requests stays open with the watch: its other end is never dropped.
    std::mem::forget(requests);
    watch
}

/// Its keys vanish together, after its time, in one revision that every watcher is told of once.
#[tokio::test]
async fn keys_vanish_with_their_lease() {
    let mut bench = Bench::start(Program::Subject).await;
    let mut watch = watch(&mut bench, "k").await;
    let granted = Instant::now();
    bench.grant(7, 3).await;
    for key in ["k/b", "k/a", "k/c"] {
        bench.put(key, 7).await;
    }
    bench.put("k/stays", 0).await;
    let mut told = 0;
    let deleted = loop {
        let response = tokio::time::timeout(PATIENCE, watch.message()).await.expect("in time");
        let response = response.expect("a response").expect("one");
        let is_delete = |event: &urd_proto::mvccpb::Event| event.r#type() == EventType::Delete;
        if response.events.iter().all(is_delete) {
            break response;
        }
        assert!(!response.events.iter().any(is_delete), "of several revisions: {response:?}");
        told += response.events.len();
    };
    let lived = granted.elapsed();
    assert!(lived >= Duration::from_secs(3), "it has ended after {lived:?}");
    assert!(lived < Duration::from_secs(3) + LATE_MAX, "it has ended after {lived:?}");
    assert_eq!(told, 4);
    let keys: Vec<&[u8]> =
        deleted.events.iter().map(|event| &event.kv.as_ref().expect("a key").key[..]).collect();
    assert_eq!(keys, [b"k/a", b"k/b", b"k/c"]);
    for event in &deleted.events {
        assert_eq!(event.kv.as_ref().expect("a key").mod_revision, 6);
        assert_eq!(event.prev_kv.as_ref().expect("what it was").lease, 7);
    }
    let left = bench.client.range(prefix_request("k")).await.expect("a range");
    assert_eq!((left.count, left.header.expect("a header").revision), (1, 6));
    assert_eq!(bench.remaining(7).await, -1);
    let more = tokio::time::timeout(Duration::from_millis(500), watch.message()).await;
    assert!(more.is_err(), "told twice: {more:?}");
}

#[tokio::test]
async fn keep_alives_keep_it() {
    let mut bench = Bench::start(Program::Subject).await;
    bench.grant(7, 2).await;
    bench.put("k", 7).await;
    let (requests, mut answers) = keep_alives(&mut bench.client).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        requests.send(pb::LeaseKeepAliveRequest { id: 7 }).expect("the stream is open");
        let answer = answers.message().await.expect("an answer").expect("one");
        assert_eq!((answer.id, answer.ttl), (7, 2));
        let header = answer.header.expect("a header");
        assert!(header.revision == 2 && header.member_id != 0, "{header:?}");
    }
    assert_eq!(bench.client.range(get_request("k")).await.expect("a range").count, 1);
    let begin = Instant::now();
    while bench.client.range(get_request("k")).await.expect("a range").count == 1 {
        assert!(begin.elapsed() < Duration::from_secs(2) + LATE_MAX, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begin.elapsed() > Duration::from_millis(1800), "after {:?}", begin.elapsed());
    requests.send(pb::LeaseKeepAliveRequest { id: 7 }).expect("the stream is open");
    let answer = answers.message().await.expect("an answer").expect("one");
    assert_eq!((answer.id, answer.ttl), (7, 0));
    // A client that has sent all hears the end.
    drop(requests);
    assert!(answers.message().await.expect("no error").is_none());
}

/// What is left of a TTL is checkpointed: a crash gives back no more than the time since.
#[tokio::test]
async fn the_remaining_time_survives_a_crash() {
    if only_urd("etcd 3.4 checkpoints after five minutes, and only if told to") {
        return;
    }
    let mut bench = Bench::start(Program::Subject).await;
    bench.grant(7, 14).await;
    bench.grant(8, 14).await;
    bench.put("k", 7).await;
    tokio::time::sleep(Duration::from_millis(7000)).await;
    // This one's checkpoint is cleared before the answer, so it has all its time again.
    assert_eq!(bench.keep_alive(8).await, 14);
    bench.server.kill();
    let restarted = Instant::now();
    bench.restart().await;
    let left = bench.remaining(7).await;
    assert!((5..=9).contains(&left), "{left} s of 14 are left after 7 s, a checkpoint and a crash");
    let left = bench.remaining(8).await;
    assert!((12..=14).contains(&left), "{left} s of 14 are left after a renewal and a crash");
    while bench.client.range(get_request("k")).await.expect("a range").count == 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // 14 s from its grant at the earliest.
    let lived = restarted.elapsed();
    assert!(lived > Duration::from_secs(7) && lived < Duration::from_secs(13), "{lived:?}");
    assert!(bench.remaining(8).await > 0);
}

/// Before an orderly stop everything is checkpointed.
#[tokio::test(flavor = "multi_thread")]
async fn the_remaining_time_survives_a_stop() {
    if only_urd("etcd 3.4 starts all leases anew") {
        return;
    }
    let mut bench = Bench::start(Program::Subject).await;
    let begin = Instant::now();
    for id in 1..=1000 {
        bench.grant(id, 60).await;
    }
    tokio::time::sleep(Duration::from_millis(2200)).await;
    bench.server.signal(Signal::TERM);
    assert!(bench.server.wait_exit(Duration::from_secs(5)).success());
    bench.restart().await;
    for id in [1, 1000] {
        let left = bench.remaining(id).await;
        // Whole seconds, and one for what a leader may have been unsure of.
        let passed = i64::try_from(begin.elapsed().as_secs()).expect("not so long") + 2;
        assert!((60 - passed..=58).contains(&left), "{left} s of 60 are left after {passed} s");
    }
    assert_eq!(bench.keep_alive(1).await, 60);
    assert!(bench.remaining(1).await >= 59);
}

/// As a user sees it: etcdctl keeps a lease alive for as long as there is one, on Urd as on etcd.
#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_keeps_a_lease_alive() {
    for program in [Program::Etcd, Program::Subject] {
        let mut bench = Bench::start(program).await;
        bench.grant(0xabc, 3).await;
        let mut etcdctl = tokio::process::Command::new(etcdctl_path());
        etcdctl.env("ETCDCTL_API", "3").args(["--endpoints", &bench.server.endpoint()]);
        etcdctl.args(["lease", "keep-alive", "abc"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let child = etcdctl.kill_on_drop(true).spawn().expect("start etcdctl");
        tokio::time::sleep(Duration::from_millis(5500)).await;
        assert!(bench.remaining(0xabc).await > 0);
        bench.client.lease_revoke(pb::LeaseRevokeRequest { id: 0xabc }).await.expect("revoked");
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let ended = ended.expect("in time").expect("its output");
        let text = String::from_utf8_lossy(&ended.stdout).into_owned();
        let mut lines: Vec<&str> = text.lines().collect();
        let last = lines.pop();
        assert_eq!(last, Some("lease 0000000000000abc expired or revoked."), "{program:?}: {text}");
        assert!(lines.len() >= 3, "{program:?}: {text}");
        let kept = "lease 0000000000000abc keepalived with TTL(3)";
        assert!(lines.iter().all(|line| *line == kept), "{program:?}: {text}");
    }
}

/// An open stream does not hold up the end of a server, and is told of it.
#[tokio::test]
async fn a_server_that_stops_ends_its_keep_alives() {
    if only_urd("etcd 3.4 ends them with the code UNKNOWN") {
        return;
    }
    let mut bench = Bench::start(Program::Subject).await;
    let (_requests, mut answers) = keep_alives(&mut bench.client).await;
    bench.server.signal(Signal::TERM);
    let status = tokio::time::timeout(PATIENCE, answers.message()).await.expect("in time");
    assert_eq!(status.expect_err("the end").code(), tonic::Code::Unavailable);
    assert!(bench.server.wait_exit(Duration::from_secs(5)).success());
}
