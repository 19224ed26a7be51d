//! Members that come and go.

use super::load::Load;
use crate::harness::{Cluster, Program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_are_replaced_under_load() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    let load = Load::start(&cluster, 6);
    for (nth, old) in cluster.names().into_iter().enumerate() {
        load.wait_for_progress(100).await;
        let by = cluster.names().into_iter().find(|name| *name != old).expect("there are others");
        // As a voter at once, and as a learner that is promoted.
        let new = cluster.add(&by, nth % 2 == 0).await;
        load.set_endpoints(cluster.endpoints());
        load.wait_for_progress(100).await;
        let log = cluster.log(&new);
        assert!(
            log.contains("took over the state of another member"),
            "{new} had no state:\n{log}"
        );
        let log_path = cluster.log_path(&old);
        cluster.remove(&new, &old).await;
        load.set_endpoints(cluster.endpoints());
        let log = std::fs::read_to_string(log_path).expect("the log of a member of ours");
        assert!(log.contains("permanently removed"), "{old} does not say why it ended:\n{log}");
    }
    load.wait_for_progress(100).await;
    assert_eq!(cluster.names(), ["infra4", "infra5", "infra6"]);
    load.check(&cluster).await;
}

/// The one that stays has nobody else to elect it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_of_two_is_removed_under_load() {
    let mut cluster = Cluster::start(Program::Subject, 2, &[]);
    let load = Load::start(&cluster, 6);
    for through_itself in [true, false] {
        load.wait_for_progress(100).await;
        let leader = cluster.wait_for_leader().await;
        let stays = cluster.follower().await;
        let by = if through_itself { leader.clone() } else { stays.clone() };
        cluster.remove(&by, &leader).await;
        load.set_endpoints(cluster.endpoints());
        load.wait_for_progress(100).await;
        assert_eq!(cluster.leader().await.as_ref(), Some(&stays));
        cluster.add(&stays, false).await;
        load.set_endpoints(cluster.endpoints());
    }
    load.wait_for_progress(100).await;
    load.check(&cluster).await;
}

#[tokio::test]
async fn a_learner_serves_what_etcds_do() {
    let mut cluster = Cluster::start(Program::Subject, 1, &[]);
    let first = cluster.names()[0].clone();
    let mut client = cluster.client(&first).await;
    client.put(crate::harness::put_request("key", b"value")).await.expect("put");
    let learner = cluster.add_learner(&first).await;
    let mut client = cluster.client(&learner).await;
    let get = crate::harness::get_request("key");
    let refused = client.range(get.clone()).await.expect_err("a linearizable read");
    assert_eq!(refused.message(), "etcdserver: rpc not supported for learner");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let serializable = urd_proto::etcdserverpb::RangeRequest { serializable: true, ..get };
    let answer = client.range(serializable).await.expect("a serializable read");
    assert_eq!(answer.kvs[0].value, &b"value"[..]);
    let status = cluster.status(&learner).await.expect("a status");
    assert!(status.is_learner);
}
