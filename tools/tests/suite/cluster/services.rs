//! What clients ask of whichever member.

use std::process::Command;

use tokio_stream::StreamExt;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::watch_request::RequestUnion;

use crate::harness::{Cluster, Program, etcdctl_path, get_request, put_request};

#[tokio::test]
async fn every_member_serves_all() {
    let cluster = Cluster::start(Program::Subject, 3, &[]);
    let names = cluster.names();
    let mut clients = Vec::new();
    for name in &names {
        clients.push(cluster.client(name).await);
    }
    // A watcher on each, from the beginning.
    let mut events = Vec::new();
    for client in &mut clients {
        let create = pb::WatchCreateRequest {
            key: "key".into(),
            start_revision: 1,
            ..pb::WatchCreateRequest::default()
        };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let requests = tokio_stream::iter([request]).chain(tokio_stream::pending());
        let stream: tonic::Streaming<pb::WatchResponse> =
            client.converse("/etcdserverpb.Watch/Watch", requests).await.expect("watch");
        events.push(stream);
    }
    for round in 0..30 {
        let value = format!("value {round}");
        clients[round % 3].put(put_request("key", value.as_bytes())).await.expect("put");
        for client in &mut clients {
            let answer = client.range(get_request("key")).await.expect("get");
            assert_eq!(answer.kvs[0].value, value.as_bytes());
        }
    }
    for stream in &mut events {
        let mut seen = Vec::new();
        while seen.len() < 30 {
            let response = stream.message().await.expect("an event").expect("no end");
            seen.extend(response.events.into_iter().map(|event| event.kv.expect("a key").value));
        }
        let wanted: Vec<String> = (0..30).map(|round| format!("value {round}")).collect();
        assert_eq!(seen, wanted, "in order, once");
    }

    let grant = pb::LeaseGrantRequest { id: 77, ttl: 600 };
    clients[0].lease_grant(grant).await.expect("grant");
    for client in &mut clients {
        let question = pb::LeaseTimeToLiveRequest { id: 77, keys: true };
        let answer = client.lease_time_to_live(question).await.expect("time to live");
        assert!(answer.ttl > 590 && answer.granted_ttl == 600, "{answer:?}");
        let request = pb::LeaseKeepAliveRequest { id: 77 };
        let requests = tokio_stream::iter([request]);
        let mut stream: tonic::Streaming<pb::LeaseKeepAliveResponse> = client
            .converse("/etcdserverpb.Lease/LeaseKeepAlive", requests)
            .await
            .expect("keep alive");
        let answer = stream.message().await.expect("an answer").expect("no end");
        assert_eq!((answer.id, answer.ttl), (77, 600));
        let listed = client.lease_leases(pb::LeaseLeasesRequest {}).await.expect("leases");
        assert_eq!(listed.leases.len(), 1);
    }
    clients[2].lease_revoke(pb::LeaseRevokeRequest { id: 77 }).await.expect("revoke");
    let question = pb::LeaseTimeToLiveRequest { id: 77, keys: false };
    assert_eq!(clients[1].lease_time_to_live(question).await.expect("an answer").ttl, -1);
    cluster.assert_equal().await;
}

fn etcdctl(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(etcdctl_path())
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", cluster.endpoints().join(",")))
        .args(arguments)
        .output()
        .expect("run etcdctl");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The same on Urd and on etcd, as far as it does not belong to the run.
#[tokio::test]
async fn etcdctl_sees_a_cluster_as_of_etcd() {
    let mut said = Vec::new();
    for program in [Program::Subject, Program::Etcd] {
        let cluster = Cluster::start(program, 3, &[]);
        let leader = cluster.wait_for_leader().await;
        let follower = cluster.follower().await;
        let id = cluster.status(&follower).await.and_then(|status| status.header);
        let id = format!("{:x}", id.expect("a header").member_id);
        let mut outputs = Vec::new();
        let mut run = |arguments: &[&str]| {
            let (is_done, text) = etcdctl(&cluster, arguments);
            // Numbers, ids, times and ports belong to the run; how the lines look does not.
            let shape: String = text
                .split(|c: char| !c.is_ascii_alphabetic())
                .filter(|word| !word.is_empty() && word.len() > 2)
                .filter(|word| !word.chars().all(|c| c.is_ascii_hexdigit()))
                .filter(|word| !["true", "false", "infra"].contains(word))
                .collect::<Vec<_>>()
                .join(" ");
            outputs.push((
                arguments.join(" ").replace(&id, "ID"),
                is_done,
                shape,
                text.lines().count(),
            ));
        };
        run(&["put", "a", "b"]);
        run(&["endpoint", "status", "--cluster", "-w", "table"]);
        run(&["endpoint", "hashkv", "--cluster", "-w", "table"]);
        run(&["member", "list", "-w", "table"]);
        run(&["member", "list", "-w", "fields"]);
        run(&["move-leader", &id]);
        run(&["move-leader", "1234"]);
        run(&["member", "remove", "1234"]);
        run(&["member", "add", "infra1", "--peer-urls=http://127.0.0.1:1"]);
        run(&["member", "update", "1234", "--peer-urls=http://127.0.0.1:2"]);
        run(&["member", "promote", &id]);
        assert_ne!(cluster.wait_for_leader().await, leader, "leadership was moved");
        said.push(outputs);
    }
    let etcd = said.pop().expect("etcd's");
    let urd = said.pop().expect("Urd's");
    for (urd, etcd) in urd.iter().zip(&etcd) {
        assert_eq!(urd, etcd);
    }
}
