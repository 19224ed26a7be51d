//! The space quota with its alarm, and defragmentation: the same requests to etcd and to the subject.

use std::time::Duration;

use tonic::Code;
use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::request_op::Request;

use crate::harness::grpc::{get_request, prefix_request, put_request};
use crate::harness::{Client, Launch, Program, Server, http};

const QUOTA: u64 = 16 << 20;
const VALUE_BYTES: usize = 256 << 10;
/// Puts after which a member that still takes them has no quota.
const FILL_MAX: usize = 1000;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

fn launch(program: Program) -> Launch {
    Launch::new(program).argument(format!("--quota-backend-bytes={QUOTA}"))
}

fn key(number: usize) -> String {
    format!("space/{number}")
}

/// Puts until it is refused. How many were taken.
async fn fill(client: &mut Client) -> usize {
    for number in 0..FILL_MAX {
        if let Err(refused) = client.put(put_request(&key(number), &[7; VALUE_BYTES])).await {
            assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, NO_SPACE));
            return number;
        }
    }
    panic!("{} MiB were taken", (FILL_MAX * VALUE_BYTES) >> 20);
}

async fn alarms(client: &mut Client, action: i32, member_id: u64) -> Vec<pb::AlarmMember> {
    let alarm = if action == 0 { 0 } else { 1 };
    let answer = client.alarm(pb::AlarmRequest { action, member_id, alarm }).await;
    answer.expect("alarm").alarms
}

fn txn(ops: Vec<Request>) -> pb::TxnRequest {
    let success = ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
    pb::TxnRequest { success, ..pb::TxnRequest::default() }
}

/// What a client sees of a full member: refused is what could make it grow.
async fn expect_full(client: &mut Client) {
    let small = put_request("small", b"1");
    let refused = [
        client.put(small.clone()).await.expect_err("a put"),
        client.txn(txn(vec![Request::RequestPut(small)])).await.expect_err("a put in a txn"),
        client.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 5 }).await.expect_err("a lease"),
    ];
    for refused in refused {
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, NO_SPACE));
    }
    assert_eq!(client.range(get_request(&key(0))).await.expect("a read").count, 1);
    let read = txn(vec![Request::RequestRange(get_request(&key(0)))]);
    client.txn(read).await.expect("a txn that reads");
}

fn health(server: &Server) -> String {
    http::get(&server.endpoint(), "/health").expect("an answer").body
}

async fn full_and_back(program: Program) {
    let mut server = launch(program).start();
    let mut client = Client::connect(&server.endpoint()).await;
    assert_eq!(alarms(&mut client, 0, 0).await, []);
    let taken = fill(&mut client).await;
    let bytes = (taken * VALUE_BYTES) as u64;
    assert!(bytes >= QUOTA / 2, "{bytes} of {QUOTA} bytes were taken");
    // etcd counts what its file has, which grows behind the puts, as late as a slow disk lets it.
    if program == Program::Subject {
        assert!(bytes <= QUOTA, "{bytes} of {QUOTA} bytes were taken");
    }
    let raised = alarms(&mut client, 0, 0).await;
    assert_eq!(raised.iter().map(|alarm| alarm.alarm).collect::<Vec<_>>(), [1]);
    expect_full(&mut client).await;
    let status = client.status(pb::StatusRequest::default()).await.expect("status");
    let member = status.header.expect("a header").member_id;
    assert_eq!(status.errors, [format!("memberID:{member} alarm:NOSPACE ")]);
    assert!(health(&server).contains("\"false\""));
    if program == Program::Subject {
        // It lasts. An etcd of this age is not told to be healthy with it, so it cannot be waited for.
        server.kill();
        server.restart();
        client = Client::connect(&server.endpoint()).await;
        assert_eq!(alarms(&mut client, 0, 0).await, raised);
        expect_full(&mut client).await;
    }
    // Disarmed while it is full, it is raised again by the next put.
    assert_eq!(alarms(&mut client, 2, member).await, raised);
    let big = put_request("big", &[1; 1 << 20]);
    let refused = client.put(big.clone()).await.expect_err("still full");
    assert_eq!(refused.message(), NO_SPACE);
    assert_eq!(alarms(&mut client, 0, 0).await, raised);
    // Deletion and compaction make room, which a disarmed alarm lets be used.
    let all = pb::DeleteRangeRequest {
        key: b"space/".to_vec().into(),
        range_end: b"space0".to_vec().into(),
        prev_kv: false,
    };
    let deleted = client.delete_range(all).await.expect("deletion");
    assert_eq!(usize::try_from(deleted.deleted), Ok(taken));
    let revision = deleted.header.expect("a header").revision;
    let compaction = pb::CompactionRequest { revision, physical: true };
    client.compact(compaction).await.expect("compaction");
    client.defragment(pb::DefragmentRequest {}).await.expect("defragmentation");
    assert_eq!(client.put(big.clone()).await.expect_err("armed").message(), NO_SPACE);
    assert_eq!(alarms(&mut client, 2, member).await, raised);
    assert_eq!(alarms(&mut client, 2, member).await, [], "there is none to disarm");
    client.put(big).await.expect("a put after all");
    assert!(health(&server).contains("\"true\""));
}

#[tokio::test]
async fn etcd_is_full_and_has_room_again() {
    full_and_back(Program::Etcd).await;
}

#[tokio::test]
async fn the_subject_is_full_and_has_room_again() {
    full_and_back(Program::Subject).await;
}

/// What v2's clients set counts like the rest. (etcd's v2 store is in memory, and knows no quota.)
#[tokio::test]
async fn v2_has_the_same_quota() {
    let server = launch(Program::Subject).start();
    let mut client = Client::connect(&server.endpoint()).await;
    let body = [b"value=".to_vec(), vec![b'x'; VALUE_BYTES]].concat();
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let set = |number: usize| {
        let path = format!("/v2/keys/{}", key(number));
        let request = http::Request { method: "PUT", path: &path, headers: &headers, body: &body };
        http::exchange(&server.endpoint(), ANSWER_TIMEOUT, &request).expect("an answer")
    };
    let (taken, refused) = (0..FILL_MAX)
        .map(|number| (number, set(number)))
        .find(|(_, answer)| answer.status != 201)
        .expect("a quota");
    let bytes = (taken * VALUE_BYTES) as u64;
    // Its events are kept, too.
    assert!((QUOTA / 4..=QUOTA).contains(&bytes), "{bytes} of {QUOTA} bytes were taken");
    assert_eq!(refused.status, 500, "{}", refused.body);
    assert!(refused.body.contains(NO_SPACE), "{}", refused.body);
    let raised = alarms(&mut client, 0, 0).await;
    assert_eq!(raised.iter().map(|alarm| alarm.alarm).collect::<Vec<_>>(), [1]);
    let refused = client.put(put_request("k", b"1")).await.expect_err("full");
    assert_eq!(refused.message(), NO_SPACE);
    let path = format!("/v2/keys/{}", key(0));
    let deleted = http::request(&server.endpoint(), "DELETE", &path).expect("an answer");
    assert_eq!(deleted.status, 200, "{}", deleted.body);
}

/// An alarm that says that members differ, raised by hand.
async fn by_hand(program: Program) -> Vec<String> {
    let server = Server::start_fresh(program);
    let mut client = Client::connect(&server.endpoint()).await;
    client.put(put_request("k", b"1")).await.expect("put");
    let mut told = Vec::new();
    for (action, member_id, alarm) in
        [(1, 7, 2), (1, 7, 2), (0, 0, 1), (0, 0, 2), (2, 8, 2), (0, 0, 0)]
    {
        let answer = client.alarm(pb::AlarmRequest { action, member_id, alarm }).await;
        told.push(format!("{:?}", answer.expect("alarm").alarms));
    }
    let mut note = |what: &str, outcome: Option<tonic::Status>| {
        let outcome = outcome.map(|status| format!("{:?} {}", status.code(), status.message()));
        told.push(format!("{what}: {outcome:?}"));
    };
    note("put", client.put(put_request("k", b"2")).await.err());
    let delete = pb::DeleteRangeRequest { key: b"k".to_vec().into(), ..Default::default() };
    note("delete", client.delete_range(delete).await.err());
    let put = txn(vec![Request::RequestPut(put_request("k", b"2"))]);
    note("txn", client.txn(put).await.err());
    let compaction = pb::CompactionRequest { revision: 1, physical: false };
    note("compact", client.compact(compaction).await.err());
    note("grant", client.lease_grant(pb::LeaseGrantRequest { ttl: 9, id: 9 }).await.err());
    note("revoke", client.lease_revoke(pb::LeaseRevokeRequest { id: 9 }).await.err());
    note("range", client.range(get_request("k")).await.err());
    let disarm = pb::AlarmRequest { action: 2, member_id: 7, alarm: 2 };
    client.alarm(disarm).await.expect("disarm");
    note("put", client.put(put_request("k", b"3")).await.err());
    told
}

#[tokio::test]
async fn alarms_raised_by_hand_refuse_the_same() {
    assert_eq!(by_hand(Program::Subject).await, by_hand(Program::Etcd).await);
}

#[tokio::test]
async fn a_negative_quota_is_none() {
    let launch = Launch::new(Program::Subject).argument("--quota-backend-bytes=-1");
    let server = launch.start();
    let mut client = Client::connect(&server.endpoint()).await;
    for number in 0..80 {
        client.put(put_request(&key(number), &[7; VALUE_BYTES])).await.expect("put");
    }
}

/// Space goes back to the file system while puts go on, and nothing changes but the size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defragmentation_beside_puts_gives_space_back() {
    let server = Launch::new(Program::Subject).argument("--snapshot-count=20").start();
    let mut client = Client::connect(&server.endpoint()).await;
    for round in 0..4_u8 {
        for number in 0..100 {
            let value = vec![round; 20_000 + number];
            client.put(put_request(&key(number), &value)).await.expect("put");
        }
    }
    let revision =
        client.range(get_request("k")).await.expect("get").header.expect("header").revision;
    let compaction = pb::CompactionRequest { revision, physical: true };
    client.compact(compaction).await.expect("compaction");
    let hash = client.hash_kv(pb::HashKvRequest { revision }).await.expect("HashKV").hash;
    let status = |status: pb::StatusResponse| (status.db_size, status.db_size_in_use);
    let before = status(client.status(pb::StatusRequest::default()).await.expect("status"));
    let mut putting = Client::connect(&server.endpoint()).await;
    let puts = tokio::spawn(async move {
        for number in 0..300 {
            putting.put(put_request("beside", &[number as u8; 100])).await.expect("put");
        }
    });
    for _ in 0..3 {
        client.defragment(pb::DefragmentRequest {}).await.expect("defragmentation");
    }
    puts.await.expect("puts beside it");
    client.defragment(pb::DefragmentRequest {}).await.expect("defragmentation");
    let after = status(client.status(pb::StatusRequest::default()).await.expect("status"));
    assert!(after.0 < before.0 / 2, "{before:?}, {after:?}");
    let file = server.data_directory().join("tree/checkpoint");
    let file = std::fs::metadata(file).expect("the checkpoint file").len();
    assert!(file <= after.0 as u64 && file >= after.1 as u64, "{file} bytes, {after:?}");
    let again = client.hash_kv(pb::HashKvRequest { revision }).await.expect("HashKV").hash;
    assert_eq!(again, hash);
    let all = client.range(prefix_request("space/")).await.expect("get");
    assert_eq!(all.kvs.len(), 100);
    assert!(all.kvs.iter().all(|kv| kv.value[0] == 3));
}
