//! Links that are cut.

use std::time::Duration;

use super::load::Load;
use crate::harness::{Cluster, Program, get_request, in_network, put_request};

fn run(body: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(body);
}

#[test]
fn a_leader_that_is_cut_off_serves_nothing_stale() {
    let test = concat!(module_path!(), "::a_leader_that_is_cut_off_serves_nothing_stale");
    in_network(test, 3, |network| {
        run(async {
            let cluster = Cluster::start_in_network(Program::Subject, network);
            let leader = cluster.wait_for_leader().await;
            let mut old = cluster.client(&leader).await;
            old.put(put_request("key", b"old")).await.expect("put");
            let load = Load::start(&cluster, 4);
            load.wait_for_progress(50).await;
            cluster.network().isolate(cluster.place(&leader));
            let other = loop {
                // Its own word counts for nothing now.
                let names = cluster.names().into_iter().filter(|name| *name != leader);
                let mut found = None;
                for name in names {
                    let status = cluster.status(&name).await;
                    let own = status.as_ref().and_then(|status| status.header.as_ref());
                    let own = own.map(|header| header.member_id);
                    if own.is_some() && own == status.map(|status| status.leader) {
                        found = Some(name);
                    }
                }
                match found {
                    Some(name) => break name,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            let mut new = cluster.client(&other).await;
            new.put(put_request("key", b"new")).await.expect("put");
            let read = tokio::time::timeout(Duration::from_secs(2), old.range(get_request("key")));
            if let Ok(Ok(answer)) = read.await {
                panic!("one that is cut off answered {:?}", answer.kvs);
            }
            load.wait_for_progress(50).await;
            cluster.network().heal();
            load.wait_for_progress(50).await;
            load.check(&cluster).await;
        });
    });
}

#[test]
fn links_that_are_cut_one_way_lose_nothing() {
    let test = concat!(module_path!(), "::links_that_are_cut_one_way_lose_nothing");
    in_network(test, 3, |network| {
        run(async {
            let cluster = Cluster::start_in_network(Program::Subject, network);
            let load = Load::start(&cluster, 4);
            load.wait_for_progress(50).await;
            for (from, to) in [(0, 1), (1, 2), (2, 0)] {
                cluster.network().cut(from, to);
                load.wait_for_progress(30).await;
                tokio::time::sleep(Duration::from_secs(2)).await;
                load.wait_for_progress(30).await;
                cluster.network().heal();
            }
            cluster.network().cut_both(0, 1);
            load.wait_for_progress(30).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            load.wait_for_progress(30).await;
            cluster.network().heal();
            load.wait_for_progress(50).await;
            load.check(&cluster).await;
        });
    });
}
