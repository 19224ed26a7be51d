//! The `etcd-client` crate, as an application uses it: a client that knows nothing of Urd.

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, GetOptions, LeaseGrantOptions,
    LeaseTimeToLiveOptions, PutOptions, Txn, TxnOp,
};

use crate::harness::{Program, Server};

#[tokio::test]
async fn speaks_with_the_subject() {
    let server = Server::start_fresh(Program::Subject);
    let mut client = Client::connect([server.endpoint()], None).await.expect("connect");

    let put = client.put("greeting", "hello", None).await.expect("put");
    let first = put.header().expect("a header").revision();
    let put = client
        .put("greeting", "hello again", Some(PutOptions::new().with_prev_key()))
        .await
        .expect("put");
    assert_eq!(put.prev_key().expect("the previous pair").value(), b"hello");
    assert_eq!(put.header().expect("a header").revision(), first + 1);

    let get = client.get("greet", Some(GetOptions::new().with_prefix())).await.expect("get");
    assert_eq!((get.count(), get.more()), (1, false));
    assert_eq!(get.kvs()[0].value_str().expect("UTF-8"), "hello again");
    assert_eq!((get.kvs()[0].version(), get.kvs()[0].create_revision()), (2, first));

    let txn = Txn::new()
        .when([Compare::value("greeting", CompareOp::Equal, "hello again")])
        .and_then([TxnOp::put("answer", "yes", None), TxnOp::get("answer", None)])
        .or_else([TxnOp::put("answer", "no", None)]);
    let txn = client.txn(txn).await.expect("txn");
    assert!(txn.succeeded());
    assert_eq!(txn.op_responses().len(), 2);

    let delete = client
        .delete("a", Some(DeleteOptions::new().with_from_key().with_prev_key()))
        .await
        .expect("delete");
    assert_eq!(delete.deleted(), 2);
    assert_eq!(delete.prev_kvs()[0].value(), b"yes");

    let revision = delete.header().expect("a header").revision();
    client
        .compact(revision, Some(CompactionOptions::new().with_physical()))
        .await
        .expect("compact");
    let error = client.compact(revision, None).await.expect_err("compacted twice");
    assert!(error.to_string().contains("required revision has been compacted"), "{error}");

    let status = client.status().await.expect("status");
    assert_eq!(status.version().split('.').next(), Some("3"), "{}", status.version());
    let members = client.member_list().await.expect("member list");
    assert_eq!(members.members().len(), 1);
    assert_eq!(members.members()[0].name(), "member");
    assert_eq!(status.leader(), members.members()[0].id());
    assert_eq!(members.members()[0].client_urls(), [format!("http://{}", server.endpoint())]);
}

#[tokio::test]
async fn holds_leases() {
    let server = Server::start_fresh(Program::Subject);
    let mut client = Client::connect([server.endpoint()], None).await.expect("connect");
    let chosen = client.lease_grant(60, None).await.expect("a lease");
    assert!(chosen.id() > 0 && chosen.ttl() == 60, "{chosen:?}");
    let options = LeaseGrantOptions::new().with_id(7);
    let granted = client.lease_grant(30, Some(options.clone())).await.expect("a lease");
    assert_eq!((granted.id(), granted.ttl()), (7, 30));
    let error = client.lease_grant(30, Some(options)).await.expect_err("it is taken");
    assert!(error.to_string().contains("lease already exists"), "{error}");

    for key in ["l/a", "l/b"] {
        client.put(key, "", Some(PutOptions::new().with_lease(7))).await.expect("put");
    }
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(7, Some(options)).await.expect("its time");
    assert!((25..=30).contains(&left.ttl()) && left.granted_ttl() == 30, "{left:?}");
    assert_eq!(left.keys(), [b"l/a".to_vec(), b"l/b".to_vec()]);

    let (mut keeper, mut answers) = client.lease_keep_alive(7).await.expect("a stream");
    for _ in 0..3 {
        keeper.keep_alive().await.expect("sent");
        let answer = answers.message().await.expect("an answer").expect("one");
        assert_eq!((answer.id(), answer.ttl()), (7, 30));
    }
    let leases = client.leases().await.expect("a list");
    let mut ids: Vec<i64> = leases.leases().iter().map(|lease| lease.id()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [7, chosen.id()]);

    client.lease_revoke(7).await.expect("revoked");
    let get = client.get("l/", Some(GetOptions::new().with_prefix())).await.expect("get");
    assert_eq!(get.count(), 0);
    let error = client.lease_revoke(7).await.expect_err("it is gone");
    assert!(error.to_string().contains("requested lease not found"), "{error}");
    let left = client.lease_time_to_live(7, None).await.expect("an answer");
    assert_eq!(left.ttl(), -1);
}
