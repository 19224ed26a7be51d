//! Leases when the member that keeps their time changes.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use urd_proto::etcdserverpb as pb;

use crate::harness::{Cluster, Program, put_request};

const LEASES: i64 = 20;
const TTL: i64 = 3;
/// Longer than that, so that all have ended by the clock of who slept.
const SLEEP: Duration = Duration::from_millis(4_500);
const ROUNDS: usize = 4;

/// Renews all leases through a member, again and again, and each as soon as the one before is answered.
async fn keep_alive_for(cluster: &Cluster, by: &str, time: Duration) {
    let mut client = cluster.client(by).await;
    let until = Instant::now() + time;
    let (requests, receiver) = mpsc::unbounded_channel();
    requests.send(pb::LeaseKeepAliveRequest { id: 0 }).expect("the stream is open");
    let path = "/etcdserverpb.Lease/LeaseKeepAlive";
    let mut answers: tonic::Streaming<pb::LeaseKeepAliveResponse> = client
        .converse(path, UnboundedReceiverStream::new(receiver))
        .await
        .expect("a stream of keep-alives");
    answers.message().await.expect("an answer").expect("one");
    while Instant::now() < until {
        for id in 1..=LEASES {
            requests.send(pb::LeaseKeepAliveRequest { id }).expect("the stream is open");
            let answer = answers.message().await.expect("an answer").expect("one");
            assert_eq!((answer.id, answer.ttl), (id, TTL), "it was renewed in time");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The former leader wakes up, and by its clock all leases are over. They are none of its business any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_ends_no_lease_that_was_renewed_meanwhile() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    for round in 0..ROUNDS {
        let old = cluster.wait_for_leader().await;
        let mut client = cluster.client(&old).await;
        for id in 1..=LEASES {
            client.lease_grant(pb::LeaseGrantRequest { id, ttl: TTL }).await.expect("grant");
            let put = pb::PutRequest { lease: id, ..put_request(&format!("{round}/{id}"), b"") };
            client.put(put).await.expect("put");
        }
        cluster.pause(&old);
        let new = cluster.wait_for_leader_but(&old).await;
        keep_alive_for(&cluster, &new, SLEEP).await;
        cluster.resume(&old);
        keep_alive_for(&cluster, &new, Duration::from_secs(1)).await;
        let mut client = cluster.client(&new).await;
        let range = pb::RangeRequest {
            key: format!("{round}/").into(),
            range_end: format!("{round}0").into(),
            count_only: true,
            ..pb::RangeRequest::default()
        };
        assert_eq!(client.range(range).await.expect("range").count, LEASES, "keys of leases");
        for id in 1..=LEASES {
            client.lease_revoke(pb::LeaseRevokeRequest { id }).await.expect("revoke");
        }
    }
}
