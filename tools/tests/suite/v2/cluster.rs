//! v2's data and index in crashes, elections and snapshots, and expiry on all members.

use std::time::Duration;

use super::pair::{ANSWER_TIMEOUT, Asked, index, index_at, set};
use crate::harness::http::{self, Answer, Request};
use crate::harness::{Cluster, Launch, Program, try_wait_for, wait_for};

const FLAGS: &[&str] = &["--enable-v2=true"];

/// All of a member's own state; nothing of it depends on when it is asked.
fn state(endpoint: &str) -> (u64, String) {
    let answer = Asked::new("GET", "/v2/keys?recursive=true&sorted=true").send(endpoint);
    assert_eq!(answer.status, 200, "{answer:?}");
    (index(&answer), answer.body)
}

fn until_equal(cluster: &Cluster) -> (u64, String) {
    let endpoints = cluster.endpoints();
    wait_for("all members to have the same", ANSWER_TIMEOUT, || {
        let states: Vec<_> = endpoints.iter().map(|endpoint| state(endpoint)).collect();
        let first = states.first()?.clone();
        states.iter().all(|state| *state == first).then_some(first)
    })
}

/// What is acknowledged is there after `kill -9`, at the index that was acknowledged.
#[test]
fn keeps_what_was_acknowledged_through_kills() {
    let mut server = Launch::new(Program::Subject).argument(FLAGS[0]).start();
    let mut last = 0;
    for round in 0..5 {
        let endpoint = server.endpoint();
        for nth in 0..100 {
            let now = index(&set(&endpoint, &format!("/k/{nth}"), &format!("{round}")));
            assert!(now > last, "{now} after {last}");
            last = now;
        }
        Asked::new("POST", "/v2/keys/queue").form("value=job").send(&endpoint);
        last += 1;
        let before = state(&endpoint);
        assert_eq!(before.0, last);
        server.kill();
        server.restart();
        // etcd writes of its own when it starts.
        let (index, body) = state(&server.endpoint());
        assert!(index >= last, "round {round}: {index} after {last}");
        assert_eq!(body, before.1, "round {round}");
    }
}

/// A write that may fail while there is no leader.
fn try_set(endpoint: &str, key: &str, value: &str) -> Option<Answer> {
    let body = format!("value={value}");
    let request = Request {
        method: "PUT",
        path: &format!("/v2/keys{key}"),
        headers: &[super::pair::FORM],
        body: body.as_bytes(),
    };
    let answer = http::exchange(endpoint, Duration::from_secs(10), &request).ok()?;
    matches!(answer.status, 200 | 201).then_some(answer)
}

/// The leader dies; who is left has everything, and the index goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_was_acknowledged_through_failovers() {
    let mut cluster = Cluster::start(Program::Subject, 3, FLAGS);
    let mut last = 0;
    for round in 0..2 {
        let leader = cluster.wait_for_leader().await;
        let endpoint = cluster.endpoint(&leader);
        for nth in 0..50 {
            let now = index(&set(&endpoint, &format!("/{round}/{nth}"), "x"));
            assert!(now > last, "{now} after {last}");
            last = now;
        }
        cluster.kill(&leader);
        let next = cluster.wait_for_leader_but(&leader).await;
        let endpoint = cluster.endpoint(&next);
        let answer = try_wait_for(ANSWER_TIMEOUT, || try_set(&endpoint, "/after", "x"));
        let now = index(&answer.expect("the others go on"));
        assert!(now > last, "{now} after {last}");
        last = now;
        for nth in 0..50 {
            let key = format!("/v2/keys/{round}/{nth}?quorum=true");
            assert_eq!(Asked::new("GET", key).send(&endpoint).status, 200);
        }
        cluster.restart(&leader);
    }
    let (index, _) = until_equal(&cluster);
    assert!(index >= last);
}

/// A follower forwards writes, and reads what it has written itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_member_serves() {
    let cluster = Cluster::start(Program::Subject, 3, FLAGS);
    let endpoints = cluster.endpoints();
    for (nth, endpoint) in endpoints.iter().enumerate() {
        let key = format!("/by/{nth}");
        set(endpoint, &key, "x");
        assert_eq!(Asked::new("GET", format!("/v2/keys{key}")).send(endpoint).status, 200);
        // Whoever is asked for a quorum's word knows of it, too.
        for other in &endpoints {
            let read = Asked::new("GET", format!("/v2/keys{key}?quorum=true")).send(other);
            assert_eq!(read.status, 200, "{read:?}");
        }
    }
    // A wait at one member hears of a write through another.
    let path =
        format!("/v2/keys/by?wait=true&recursive=true&waitIndex={}", index_at(&endpoints[0]) + 1);
    let mut poll = http::Poll::open(&endpoints[0], &path, ANSWER_TIMEOUT).expect("open");
    set(&endpoints[1], "/by/wire", "x");
    let event = poll.next().expect("an event").expect("one event");
    assert!(event.contains("\"key\":\"/by/wire\""), "{event}");
    until_equal(&cluster);
}

/// The leader counts what it sends and how long its followers take, a follower what it receives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_count_what_goes_between_them() {
    if crate::harness::only_urd("etcd counts what it sends by its slower way only") {
        return;
    }
    let cluster = Cluster::start(Program::Subject, 3, FLAGS);
    let leader = cluster.endpoint(&cluster.wait_for_leader().await);
    let follower = cluster.endpoint(&cluster.follower().await);
    (0..10).for_each(|nth| drop(set(&leader, &format!("/{nth}"), "x")));
    let ask = |endpoint: &str, what: &str| -> serde_json::Value {
        let told = Asked::new("GET", format!("/v2/stats/{what}")).send(endpoint).body;
        serde_json::from_str(&told).expect("JSON")
    };
    // They are told once in a while.
    wait_for("appends and round trips", ANSWER_TIMEOUT, || {
        let sent = ask(&leader, "self")["sendAppendRequestCnt"].as_u64()?;
        let received = ask(&follower, "self")["recvAppendRequestCnt"].as_u64()?;
        let told = ask(&leader, "leader");
        let followers = told["followers"].as_object()?;
        let times = |name: &str| -> Vec<f64> {
            let latency = followers.values().map(|follower| &follower["latency"][name]);
            latency.filter_map(serde_json::Value::as_f64).collect()
        };
        let in_order = times("minimum").iter().zip(times("maximum")).all(|(min, max)| *min <= max);
        let are_told = followers.len() == 2
            && followers.values().all(|follower| follower["counts"]["success"].as_u64() > Some(0))
            && times("current").iter().chain(&times("average")).all(|time| *time > 0.0);
        (sent >= 20 && received >= 10 && are_told && in_order).then_some(())
    });
}

/// Nodes expire on all members alike, directories with all that is in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_expire_on_all_members() {
    let cluster = Cluster::start(Program::Subject, 3, FLAGS);
    let follower = cluster.endpoint(&cluster.follower().await);
    set(&follower, "/stays", "x");
    let dir = Asked::new("PUT", "/v2/keys/dir").form("dir=true&ttl=2");
    assert_eq!(dir.send(&follower).status, 201);
    for nth in 0..20 {
        set(&follower, &format!("/dir/{nth}"), "x");
        let key = format!("/v2/keys/brief/{nth}");
        let begun = index(&Asked::new("PUT", key).form("value=x&ttl=1").send(&follower));
        assert!(begun > 0);
    }
    let (expired, body) = wait_for("all to expire on all members", ANSWER_TIMEOUT, || {
        let (index, body) = until_equal(&cluster);
        let is_over = !body.contains("\"/dir") && !body.contains("\"/brief/");
        is_over.then_some((index, body))
    });
    assert!(body.contains("\"/stays\""), "{body}");
    // Each has the same events.
    let events = cluster.endpoints().into_iter().map(|endpoint| {
        let path = format!("/v2/keys/?wait=true&recursive=true&waitIndex={expired}");
        let mut poll = http::Poll::open(&endpoint, &path, ANSWER_TIMEOUT).expect("open");
        poll.next().expect("an event").expect("one event")
    });
    let events: Vec<String> = events.collect();
    assert!(events[0].contains("\"action\":\"expire\""), "{events:?}");
    assert!(events.iter().all(|event| *event == events[0]), "{events:?}");
}

/// A member that was down for longer than the others' memory reaches is sent v2's data, index and history, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_sent_a_state_has_v2s_too() {
    if crate::harness::only_urd("it says so in its log") {
        return;
    }
    let mut cluster = Cluster::start(Program::Subject, 3, FLAGS);
    let follower = cluster.follower().await;
    let leader = cluster.wait_for_leader().await;
    set(&cluster.endpoint(&follower), "/before", "x");
    cluster.kill(&follower);
    let endpoint = cluster.endpoint(&leader);
    let value = "v".repeat(256 * 1024);
    for nth in 0..400 {
        set(&endpoint, &format!("/large/{}", nth % 10), &value);
    }
    let happened = index(&set(&endpoint, "/last", "x"));
    cluster.restart(&follower);
    let (index, _) = until_equal(&cluster);
    assert_eq!(index, happened);
    assert!(cluster.log(&follower).contains("took over the state of another member"));
    let path = format!("/v2/keys/last?wait=true&waitIndex={happened}");
    let endpoint = cluster.endpoint(&follower);
    let mut poll = http::Poll::open(&endpoint, &path, ANSWER_TIMEOUT).expect("open");
    let event = poll.next().expect("an event").expect("one event");
    assert!(event.contains("\"key\":\"/last\""), "{event}");
}
