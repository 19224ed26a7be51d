//! Many leases at once: all that end in one instant are revoked within seconds, and puts go on beside them.
//!
//! What makes them end together is a crash before their first checkpoint: they all begin anew when the server is back.
//!
//! `URD_LEASES=100000` with a release build in `URD_BIN` measures; the test prints how long things took.

use std::time::{Duration, Instant};

use urd_proto::etcdserverpb as pb;

use super::{Bench, PATIENCE};
use crate::harness::grpc::{prefix_request, put_request};
use crate::harness::{Client, Program, only_urd};

/// Leases, unless `URD_LEASES` says otherwise.
const LEASES: i64 = 4000;
/// Clients that grant them.
const CLIENTS: i64 = 100;
/// In what time all must be gone: what is asked of a release build, and what a debug build on a busy machine cannot miss
/// (etcd, with a thousand a second, would take four seconds for [`LEASES`]).
const TIME_MAX: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(30)];
/// The longest that a put may take meanwhile, of both.
const PUT_MAX: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// Grants leases with a key each.
async fn grant(mut client: Client, ids: impl Iterator<Item = i64>, ttl: i64) {
    for id in ids {
        let granted = client.lease_grant(pb::LeaseGrantRequest { id, ttl }).await;
        assert_eq!(granted.expect("a lease").ttl, ttl);
        let put = pb::PutRequest { lease: id, ..put_request(&format!("crowd/{id}"), b"value") };
        client.put(put).await.expect("put");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_leases_ends_at_once() {
    if only_urd("etcd revokes a thousand leases a second") {
        return;
    }
    let tested = usize::from(std::env::var_os("URD_LEASES").is_none());
    let leases: i64 = std::env::var("URD_LEASES")
        .map_or(LEASES, |leases| leases.parse().expect("URD_LEASES is a number"));
    let mut bench = Bench::start(Program::Subject).await;
    // Time enough to grant them, by far.
    let ttl = 8 + leases / 2000;
    let granted = Instant::now();
    let granting: Vec<_> = (0..CLIENTS)
        .map(|nth| {
            let ids = (1 + nth..=leases).step_by(CLIENTS as usize);
            tokio::spawn(grant(bench.client.clone(), ids, ttl))
        })
        .collect();
    for task in granting {
        task.await.expect("all were granted");
    }
    println!("{leases} leases with a key each were granted in {:?}", granted.elapsed());
    bench.server.kill();
    let until = Instant::now() + Duration::from_secs(ttl.unsigned_abs());
    bench.restart().await;
    let all = bench.client.lease_leases(pb::LeaseLeasesRequest {}).await.expect("a list");
    assert_eq!(all.leases.len() as i64, leases);

    let early = until.saturating_duration_since(Instant::now());
    tokio::time::sleep(early.saturating_sub(Duration::from_millis(200))).await;
    let mut other = Client::connect(&bench.server.endpoint()).await;
    let (mut puts, mut first_gone, mut checked) = (Vec::new(), None, Instant::now());
    let count = pb::RangeRequest { count_only: true, ..prefix_request("crowd/") };
    let (first_gone, all_gone) = loop {
        let begin = Instant::now();
        other.put(put_request("beside", b"x")).await.expect("put");
        puts.push((begin, begin.elapsed()));
        if checked.elapsed() > Duration::from_millis(5) {
            checked = Instant::now();
            let left = bench.client.range(count.clone()).await.expect("a range").count;
            if left < leases {
                first_gone.get_or_insert(begin);
                assert!(
                    granted.elapsed().as_secs() as i64 >= ttl,
                    "a lease has ended before its time"
                );
            }
            if let (0, Some(first_gone)) = (left, first_gone) {
                break (first_gone, Instant::now());
            }
        }
        assert!(until.elapsed() < PATIENCE, "some do not end");
    };
    // Some may have been checkpointed before the crash, and end earlier.
    let together = first_gone.max(until);
    let mut puts: Vec<Duration> = puts.into_iter().map(|(_, took)| took).collect();
    puts.sort_unstable();
    let at = |part: f64| puts[((puts.len() - 1) as f64 * part) as usize];
    println!(
        "it took {:?} to end them all; beside them {} puts: p50 {:?}, p99 {:?}, max {:?}",
        all_gone - together,
        puts.len(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
    assert!(all_gone < together + TIME_MAX[tested], "it took too long");
    assert!(at(1.0) < PUT_MAX[tested], "a put took {:?}", at(1.0));
    let all = bench.client.lease_leases(pb::LeaseLeasesRequest {}).await.expect("a list");
    assert_eq!(all.leases, []);
}
