//! Processes that die or hang.

use super::load::Load;
use crate::harness::{Cluster, Program, get_request, put_request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_loses_nothing() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    let load = Load::start(&cluster, 6);
    for _ in 0..2 {
        load.wait_for_progress(100).await;
        let leader = cluster.wait_for_leader().await;
        cluster.kill(&leader);
        cluster.wait_for_leader_but(&leader).await;
        load.wait_for_progress(100).await;
        cluster.restart(&leader);
    }
    load.wait_for_progress(100).await;
    load.check(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_that_die_or_hang_lose_nothing() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    let load = Load::start(&cluster, 6);
    load.wait_for_progress(100).await;
    let follower = cluster.follower().await;
    cluster.kill(&follower);
    load.wait_for_progress(200).await;
    cluster.restart(&follower);
    load.wait_for_progress(100).await;
    cluster.pause(&follower);
    load.wait_for_progress(200).await;
    cluster.resume(&follower);
    load.wait_for_progress(100).await;
    load.check(&cluster).await;
}

/// One that hangs thinks that it leads when it goes on: what it is asked then must not come from what it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_paused_serves_nothing_stale() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    for round in 0..3 {
        let leader = cluster.wait_for_leader().await;
        let mut old = cluster.client(&leader).await;
        old.put(put_request("key", format!("old {round}").as_bytes())).await.expect("put");
        cluster.pause(&leader);
        // On its way when the leader hangs, and answered when it goes on, if at all.
        let reading = tokio::spawn(async move { old.range(get_request("key")).await });
        let other = cluster.wait_for_leader_but(&leader).await;
        let mut new = cluster.client(&other).await;
        let value = format!("new {round}");
        new.put(put_request("key", value.as_bytes())).await.expect("put");
        let asked_after = cluster.read_of_paused(&leader);
        cluster.resume(&leader);
        // The first was asked before the put, and may or may not see it; the second was asked after.
        if let Ok(answer) = asked_after.await.expect("a read") {
            assert_eq!(answer.kvs[0].value, value.as_bytes(), "round {round}");
        }
        drop(reading.await.expect("a read"));
    }
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_killed_at_once_lose_nothing() {
    let mut cluster = Cluster::start(Program::Subject, 3, &["--snapshot-count=50"]);
    let load = Load::start(&cluster, 6);
    for _ in 0..3 {
        load.wait_for_progress(150).await;
        for name in cluster.names() {
            cluster.kill(&name);
        }
        for name in cluster.names() {
            cluster.launch(&name);
        }
        load.wait_for_progress(50).await;
    }
    load.check(&cluster).await;
}
