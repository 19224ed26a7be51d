//! The `etcd-client` crate, as an application uses it: a client that knows nothing of Urd.

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn,
    TxnOp,
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
