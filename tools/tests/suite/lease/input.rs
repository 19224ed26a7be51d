//! What is wrong, odd or rude, answered as etcd answers it.

use urd_proto::etcdserverpb as pb;

use super::{Bench, keep_alives};
use crate::harness::{Program, http};

/// One answer, without what differs from server to server.
type Answer = Result<(i64, i64, i64), (tonic::Code, String)>;

fn answer(outcome: Result<(Option<pb::ResponseHeader>, i64, i64), tonic::Status>) -> Answer {
    outcome
        .map(|(header, id, ttl)| (header.expect("a header").revision, id, ttl))
        .map_err(|status| (status.code(), status.message().to_owned()))
}

#[tokio::test]
async fn odd_requests_are_answered_as_by_etcd() {
    let (mut etcd, mut urd) =
        tokio::join!(Bench::start(Program::Etcd), Bench::start(Program::Subject));
    let expected = answers(&mut etcd).await;
    let found = answers(&mut urd).await;
    assert_eq!(expected, found);
    assert!(expected.iter().filter(|(_, answer)| answer.is_err()).count() > 5, "{expected:#?}");
    assert_eq!(counters(&etcd), counters(&urd));
    assert!(counters(&etcd).len() >= 4, "{:?}", counters(&etcd));
}

/// The lines of `/metrics` that count leases.
fn counters(bench: &Bench) -> Vec<String> {
    let page = http::get(&bench.server.endpoint(), "/metrics").expect("the page of metrics");
    let names = ["granted_total ", "revoked_total ", "renewed_total ", "expired_total "];
    let lines = page.body.lines().filter(|line| {
        line.starts_with("etcd_debugging") && names.iter().any(|name| line.contains(name))
    });
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

async fn answers(bench: &mut Bench) -> Vec<(String, Answer)> {
    let mut answers = Vec::new();
    let grants = [
        (1, 0),
        (2, -5),
        (3, i64::MIN),
        (4, 1),
        (5, 100),
        (5, 100),
        (5, i64::MAX),
        (6, 9_000_000_000),
        (7, 9_000_000_001),
        (i64::MIN, 100),
        (-1, 100),
        (i64::MAX, 100),
    ];
    for (id, ttl) in grants {
        let granted = bench.client.lease_grant(pb::LeaseGrantRequest { id, ttl }).await;
        let granted = granted.map(|granted| (granted.header, granted.id, granted.ttl));
        answers.push((format!("grant {id} for {ttl}"), answer(granted)));
    }
    bench.put("k", -1).await;
    for id in [7, 0, -1, -1] {
        let revoked = bench.client.lease_revoke(pb::LeaseRevokeRequest { id }).await;
        answers.push((format!("revoke {id}"), answer(revoked.map(|it| (it.header, id, 0)))));
    }
    for id in [7, 0, -1, i64::MIN] {
        for keys in [false, true] {
            let request = pb::LeaseTimeToLiveRequest { id, keys };
            let asked = bench.client.lease_time_to_live(request).await;
            answers.push((
                format!("time to live of {id}"),
                answer(asked.map(|it| (it.header, it.id, it.granted_ttl + it.ttl.min(0)))),
            ));
        }
    }
    let (requests, mut stream) = keep_alives(&mut bench.client).await;
    for id in [7, 0, -1, i64::MIN, i64::MAX, 6] {
        requests.send(pb::LeaseKeepAliveRequest { id }).expect("the stream is open");
        let kept = stream.message().await.map(|it| it.expect("an answer"));
        let kept = kept.map(|it| (it.header, it.id, it.ttl));
        answers.push((format!("keep {id} alive"), answer(kept)));
    }
    answers
}

/// Ids that the server chooses are positive and differ, from those that clients choose too.
#[tokio::test]
async fn chosen_ids_are_positive_and_differ() {
    let mut bench = Bench::start(Program::Subject).await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let granted = bench.client.lease_grant(pb::LeaseGrantRequest { id: 0, ttl: 60 }).await;
        let id = granted.expect("a lease").id;
        assert!(id > 0 && ids.insert(id), "{id} after {ids:?}");
    }
    let listed = bench.client.lease_leases(pb::LeaseLeasesRequest {}).await.expect("a list");
    assert_eq!(listed.leases.iter().map(|lease| lease.id).collect::<Vec<_>>().len(), ids.len());
    assert!(listed.leases.iter().all(|lease| ids.contains(&lease.id)));
}

/// A client that goes away in the middle of its stream hurts nobody.
#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let mut bench = Bench::start(Program::Subject).await;
    bench.grant(7, 60).await;
    for _ in 0..50 {
        let mut client = crate::harness::Client::connect(&bench.server.endpoint()).await;
        let (requests, answers) = keep_alives(&mut client).await;
        for _ in 0..100 {
            requests.send(pb::LeaseKeepAliveRequest { id: 7 }).expect("the stream is open");
        }
        drop((answers, client, requests));
    }
    assert_eq!(bench.keep_alive(7).await, 60);
    bench.server.assert_running("after clients that vanished");
}

/// A stream whose answers nobody reads is not read from either: what waits for it is bounded, and others are served.
#[tokio::test]
async fn a_client_that_does_not_read_hurts_nobody() {
    const KEEP_ALIVES: usize = 1_000_000;
    let mut bench = Bench::start(Program::Subject).await;
    bench.grant(7, 60).await;
    let mut rude = crate::harness::Client::connect(&bench.server.endpoint()).await;
    let (requests, mut answers) = keep_alives(&mut rude).await;
    let before = crate::harness::process::resident_bytes(bench.server.pid());
    for _ in 0..KEEP_ALIVES {
        requests.send(pb::LeaseKeepAliveRequest { id: 7 }).expect("the stream is open");
    }
    for _ in 0..100 {
        assert_eq!(bench.keep_alive(7).await, 60);
    }
    let grown = crate::harness::process::resident_bytes(bench.server.pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more for a client that does not read");
    let begin = std::time::Instant::now();
    for _ in 0..KEEP_ALIVES {
        let answer = answers.message().await.expect("an answer").expect("one");
        assert_eq!((answer.id, answer.ttl), (7, 60));
    }
    println!("{KEEP_ALIVES} keep-alives of one stream were answered in {:?}", begin.elapsed());
}
