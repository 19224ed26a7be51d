//! Members that are behind what the others keep in memory.

use std::time::Duration;

use super::load::Load;
use crate::harness::{Cluster, Program, put_request};

/// More than the window of entries holds.
const VALUE_BYTES: usize = 256 * 1024;
const PUTS: usize = 400;

async fn write_much(cluster: &Cluster) {
    let leader = cluster.wait_for_leader().await;
    let mut client = cluster.client(&leader).await;
    let value = vec![7; VALUE_BYTES];
    for nth in 0..PUTS {
        client.put(put_request(&format!("large/{nth}"), &value)).await.expect("put");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_down_for_long_rejoins() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    let follower = cluster.follower().await;
    cluster.kill(&follower);
    let load = Load::start(&cluster, 4);
    write_much(&cluster).await;
    cluster.restart(&follower);
    load.wait_for_progress(200).await;
    load.check(&cluster).await;
    assert!(cluster.log(&follower).contains("took over the state of another member"));

    // It goes on from there after a crash.
    cluster.kill(&follower);
    cluster.restart(&follower);
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_dies_while_it_is_sent_a_state_rejoins() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    let follower = cluster.follower().await;
    cluster.kill(&follower);
    write_much(&cluster).await;
    // At different moments of the transfer, of its taking over, and after it.
    for milliseconds in [20, 60, 120, 200, 350, 600] {
        cluster.launch(&follower);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        cluster.kill(&follower);
    }
    cluster.restart(&follower);
    cluster.assert_equal().await;
}
