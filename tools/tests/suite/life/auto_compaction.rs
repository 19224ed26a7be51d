//! History that ends by itself.

use std::time::{Duration, Instant};

use urd_proto::etcdserverpb as pb;

use crate::harness::grpc::{get_request, put_request};
use crate::harness::{Client, Launch, Program};

#[tokio::test]
async fn what_is_older_than_the_period_is_compacted() {
    let server = Launch::new(Program::Subject).argument("--auto-compaction-retention=1s").start();
    let mut client = Client::connect(&server.endpoint()).await;
    for number in 0..5 {
        client.put(put_request("k", &[number])).await.expect("put");
    }
    let begin = Instant::now();
    let old = pb::RangeRequest { revision: 3, ..get_request("k") };
    let refused = loop {
        match client.range(old.clone()).await {
            Err(refused) => break refused,
            Ok(_) => {
                assert!(begin.elapsed() < Duration::from_secs(20), "{}", server.log());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    assert_eq!(refused.message(), "etcdserver: mvcc: required revision has been compacted");
    assert!(begin.elapsed() > Duration::from_millis(500), "the period is kept");
    let newest = client.range(get_request("k")).await.expect("get");
    assert_eq!(newest.kvs[0].value, [4][..]);
}

/// Without the flag nothing is compacted, and a retention that means nothing is refused.
#[tokio::test]
async fn it_is_off_unless_asked_for() {
    let launch = Launch::new(Program::Subject).argument("--auto-compaction-mode=revision");
    let ended = launch.argument("--auto-compaction-retention=1h30m").run();
    assert!(!ended.status.success(), "{}", ended.stderr);
    let server = Launch::new(Program::Subject).argument("--auto-compaction-retention=0").start();
    let mut client = Client::connect(&server.endpoint()).await;
    client.put(put_request("k", b"1")).await.expect("put");
    client.put(put_request("k", b"2")).await.expect("put");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let old = pb::RangeRequest { revision: 2, ..get_request("k") };
    assert_eq!(client.range(old).await.expect("get").kvs[0].value, b"1"[..]);
}
