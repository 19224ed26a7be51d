//! More data than memory: a member in a memory control group that holds a part of its file answers as any other.
//!
//! The group counts the page cache that the member uses, so the kernel evicts pages of the checkpoint file all the time.
//! Where no such group can be made (it takes root, and the memory controller), the test says so and passes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::request_op::Request;

use crate::harness::grpc::{get_request, prefix_request, put_request};
use crate::harness::{Client, Launch, Program, Server, http, only_urd, wait_for};

const LIMIT: u64 = 96 << 20;
const KEYS: usize = 120_000;
const VALUE_BYTES: usize = 1000;
const KEYS_PER_TXN: usize = 100;
const PAGE_KEYS: usize = 1000;
const TASKS: usize = 8;
const STEPS: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_data_than_memory() {
    if only_urd("how etcd's file is read is its own affair") {
        return;
    }
    let Some(group) = Group::create() else {
        println!("passed over: no memory control group can be made here");
        return;
    };
    let mut server = Launch::new(Program::Subject).argument("--snapshot-count=50").start();
    group.take(server.pid());
    let mut client = Client::connect(&server.endpoint()).await;
    for first in (0..KEYS).step_by(KEYS_PER_TXN) {
        load(&mut client, first..first + KEYS_PER_TXN).await;
    }
    wait_for("a file that is larger than the limit", Duration::from_secs(30), || {
        (file_bytes(&server) > LIMIT + LIMIT / 4).then_some(())
    });

    let lease = client.lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 7 }).await.expect("grant");
    let tasks = (0..TASKS).map(|task| tokio::spawn(work(server.endpoint(), task, lease.id)));
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("a task's checks hold");
    }
    client.lease_revoke(pb::LeaseRevokeRequest { id: lease.id }).await.expect("revoke");
    let count = |prefix: &str| pb::RangeRequest { count_only: true, ..prefix_request(prefix) };
    assert_eq!(client.range(count("leased/")).await.expect("count").count, 0);
    // In pages: a whole answer would not fit the limit.
    for first in (0..KEYS).step_by(PAGE_KEYS) {
        let kvs = client.range(page(first, PAGE_KEYS)).await.expect("a page").kvs;
        let keys = kvs.iter().map(|kv| kv.key.clone());
        assert!(keys.eq((first..first + PAGE_KEYS).map(|number| key(number).into_bytes())));
    }

    let all = client.range(count("key/")).await.expect("count");
    assert_eq!(all.count, KEYS as i64);
    let newest = all.header.expect("a header").revision;
    let request = pb::CompactionRequest { revision: newest, physical: true };
    client.compact(request).await.expect("compact");
    client.defragment(pb::DefragmentRequest {}).await.expect("defragment");
    server.assert_running("under the memory limit");
    let touched = http::get(&server.endpoint(), "/metrics").expect("metrics").body;
    let touched =
        touched.lines().find_map(|line| line.strip_prefix("urd_server_entries_touched_total "));
    assert!(touched.is_some_and(|entries| entries != "0"), "entries touched: {touched:?}");

    let hash = client.hash_kv(pb::HashKvRequest { revision: 0 }).await.expect("hash").hash;
    server.kill();
    server.restart();
    let mut client = Client::connect(&server.endpoint()).await;
    let again = client.hash_kv(pb::HashKvRequest { revision: 0 }).await.expect("hash").hash;
    assert_eq!(again, hash, "after a restart without the limit");
}

fn page(first: usize, keys: usize) -> pb::RangeRequest {
    let limit = i64::try_from(keys).expect("a small number");
    pb::RangeRequest { range_end: "key0".into(), limit, ..get_request(&key(first)) }
}

fn key(number: usize) -> String {
    format!("key/{number:06}")
}

fn value(number: usize, version: usize) -> Vec<u8> {
    let mut value = format!("{number}, {version}: ").into_bytes();
    value.resize(VALUE_BYTES, b'v');
    value
}

async fn load(client: &mut Client, numbers: std::ops::Range<usize>) {
    let put = |number: usize| {
        let request = Some(Request::RequestPut(put_request(&key(number), &value(number, 0))));
        pb::RequestOp { request }
    };
    let success = numbers.map(put).collect();
    client
        .txn(pb::TxnRequest { success, ..pb::TxnRequest::default() })
        .await
        .expect("a txn of puts");
}

/// Puts and reads all over the keys that are this task's own, and checks every answer.
async fn work(endpoint: String, task: usize, lease: i64) {
    let mut client = Client::connect(&endpoint).await;
    let mut versions = vec![0; KEYS];
    for step in 0..STEPS {
        // Strides that meet every part of the file.
        let number = (step * 7919 * TASKS + task) % KEYS / TASKS * TASKS + task;
        let before = value(number, versions[number]);
        versions[number] += 1;
        let put = pb::PutRequest {
            prev_kv: true,
            ..put_request(&key(number), &value(number, versions[number]))
        };
        let previous = client.put(put).await.expect("put").prev_kv.expect("a version before");
        assert_eq!(previous.value, before, "key {number}");
        let other = (number + KEYS / 2) % KEYS;
        let read = pb::RangeRequest { serializable: step % 2 == 0, ..get_request(&key(other)) };
        let kvs = client.range(read).await.expect("get").kvs;
        assert_eq!(kvs.len(), 1, "key {other}");
        // Read through another connection's writes only when they are this task's own.
        assert!(kvs[0].value.starts_with(format!("{other}, ").as_bytes()));
        let leased = put_request(&format!("leased/{number}"), b"");
        client.put(pb::PutRequest { lease, ..leased }).await.expect("put with a lease");
        if step % 10 == 0 {
            let page = client.range(page(number, 200)).await.expect("a page").kvs;
            assert_eq!(page.len(), 200.min(KEYS - number));
            assert_eq!(page[0].value, value(number, versions[number]));
        }
    }
}

fn file_bytes(server: &Server) -> u64 {
    let file = server.data_directory().join("tree").join("checkpoint");
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// A memory control group of this test's own, of either version; removed when dropped.
struct Group(PathBuf);

impl Group {
    fn create() -> Option<Group> {
        let name = format!("urd-test-{}", std::process::id());
        let versions =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        for (root, limit) in versions {
            let group = Group(PathBuf::from(root).join(&name));
            if fs::create_dir(&group.0).is_ok()
                && fs::write(group.0.join(limit), LIMIT.to_string()).is_ok()
            {
                return Some(group);
            }
        }
        None
    }

    /// What the process allocates from now on counts.
    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("move a child of ours");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can be removed once the server has gone, which was declared later and so is dropped before.
        fs::remove_dir(&self.0).ok();
    }
}
