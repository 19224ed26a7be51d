//! Starts that must not be, and those of last resort.

use std::time::{Duration, Instant};

use tonic::{Code, Request};
use urd_proto::etcdserverpb as pb;

use crate::harness::{Cluster, Program, SETTLE_TIMEOUT, get_request, put_request, wait_for};

#[tokio::test]
async fn a_member_whose_directory_is_gone_does_not_begin_anew() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    let follower = cluster.follower().await;
    cluster.kill(&follower);
    std::fs::remove_dir_all(cluster.data(&follower)).expect("remove a directory of ours");
    cluster.launch(&follower);
    cluster.wait_exit(&follower);
    let log = cluster.log(&follower);
    assert!(log.contains("has already been bootstrapped"), "{log}");
}

#[tokio::test]
async fn a_stranger_is_refused_and_both_sides_say_why() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    let follower = cluster.follower().await;
    let leader = cluster.wait_for_leader().await;
    cluster.kill(&follower);
    // A member of another cluster, with the same addresses.
    std::fs::remove_dir_all(cluster.data(&follower)).expect("remove a directory of ours");
    cluster.launch_with(&follower, &["--initial-cluster-token=another"]);
    wait_for("both to refuse", SETTLE_TIMEOUT, || {
        let (one, other) = (cluster.log(&leader), cluster.log(&follower));
        let said = one.contains("refused a connection: this is a member of cluster")
            || one.contains("will not talk to this one");
        let heard = other.contains("will not talk to this one")
            || other.contains("refused a connection: this is a member of cluster");
        (said && heard).then_some(())
    });
}

#[tokio::test]
async fn one_that_joins_needs_a_cluster_to_join() {
    let mut cluster = Cluster::start(Program::Subject, 1, &[]);
    let name = cluster.names()[0].clone();
    // Not added before.
    let other = cluster.make_stranger(&name);
    cluster.launch(&other);
    cluster.wait_exit(&other);
    let log = cluster.log(&other);
    assert!(log.contains("member count is unequal"), "{log}");
    // Nobody is there.
    cluster.kill(&name);
    cluster.launch(&other);
    cluster.wait_exit(&other);
    let log = cluster.log(&other);
    assert!(log.contains("could not retrieve cluster information"), "{log}");
}

#[tokio::test]
async fn without_a_majority_callers_hear_so() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    let left = cluster.wait_for_leader().await;
    let mut client = cluster.client(&left).await;
    client.put(put_request("key", b"value")).await.expect("put");
    for name in cluster.names().into_iter().filter(|name| *name != left) {
        cluster.kill(&name);
    }
    wait_for("the leader to step down", SETTLE_TIMEOUT, || {
        cluster.log(&left).contains("there is no leader").then_some(())
    });
    // Whoever wants a leader hears at once that there is none.
    let mut request = Request::new(get_request("key"));
    request.metadata_mut().insert("hasleader", "true".parse().expect("a value"));
    let begin = Instant::now();
    let path = "/etcdserverpb.KV/Range";
    let refused = client.send::<_, pb::RangeResponse>(path, request).await.expect_err("no leader");
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
    assert!(begin.elapsed() < Duration::from_secs(3), "it did not wait");
    // Others wait for one, and are told when it takes too long.
    let refused = client.put(put_request("key", b"lost")).await.expect_err("no leader");
    let expected = (Code::Unavailable, "etcdserver: request timed out");
    assert_eq!((refused.code(), refused.message()), expected);
    let serializable = pb::RangeRequest { serializable: true, ..get_request("key") };
    let answer = client.range(serializable).await.expect("a serializable read");
    assert_eq!(answer.kvs[0].value, &b"value"[..]);

    // The last resort: it goes on alone, with all that it has.
    cluster.kill(&left);
    cluster.launch_with(&left, &["--force-new-cluster"]);
    wait_for("it to lead alone", SETTLE_TIMEOUT, || cluster.is_healthy(&left).then_some(()));
    let mut client = cluster.client(&left).await;
    client.put(put_request("more", b"1")).await.expect("put");
    assert_eq!(client.range(get_request("key")).await.expect("get").kvs[0].value, &b"value"[..]);
    let members: pb::MemberListResponse = client
        .call("/etcdserverpb.Cluster/MemberList", pb::MemberListRequest::default())
        .await
        .expect("members");
    assert_eq!(members.members.len(), 1);
    cluster.kill(&left);
    cluster.restart(&left);
    let mut client = cluster.client(&left).await;
    assert_eq!(client.range(get_request("more")).await.expect("get").kvs[0].value, &b"1"[..]);
}

#[tokio::test]
async fn who_was_removed_ends_again_and_may_be_forced_to_go_on() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    let removed = cluster.follower().await;
    let by = cluster.wait_for_leader().await;
    let mut client = cluster.client(&by).await;
    client.put(put_request("key", b"value")).await.expect("put");
    cluster.expel(&by, &removed).await;
    let ends = |cluster: &Cluster| cluster.log(&removed).matches("permanently removed").count();
    assert_eq!(ends(&cluster), 1);
    cluster.launch(&removed);
    cluster.wait_exit(&removed);
    assert_eq!(ends(&cluster), 2);
    // Where nobody says so it waits: by what others know it may be a member.
    for name in cluster.names().into_iter().filter(|name| *name != removed) {
        cluster.kill(&name);
    }
    let waits = |cluster: &Cluster| cluster.log(&removed).matches("when others know").count();
    let before = waits(&cluster);
    cluster.launch(&removed);
    wait_for("it to wait", SETTLE_TIMEOUT, || (waits(&cluster) > before).then_some(()));
    // Beyond an election timeout.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ends(&cluster), 2);
    cluster.kill(&removed);
    cluster.launch_with(&removed, &["--force-new-cluster"]);
    wait_for("it to lead alone", SETTLE_TIMEOUT, || cluster.is_healthy(&removed).then_some(()));
    cluster.kill(&removed);
    cluster.restart(&removed);
    let mut client = cluster.client(&removed).await;
    assert_eq!(client.range(get_request("key")).await.expect("get").kvs[0].value, &b"value"[..]);
    let path = "/etcdserverpb.Cluster/MemberList";
    let members: pb::MemberListResponse =
        client.call(path, pb::MemberListRequest::default()).await.expect("members");
    let urls: Vec<_> = members.members.iter().map(|member| member.peer_ur_ls.len()).collect();
    assert_eq!(urls, [1]);
}
