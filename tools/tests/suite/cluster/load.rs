//! Writers and readers that keep account.
//!
//! Each writer has a key of its own and raises its number, one after another, through whichever member answers. What was
//! acknowledged is the least that every later linearizable read may find, through any member. A write that failed may be
//! carried out or not, and later than those that follow it: so each is a transaction that only ever raises the number.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use urd_proto::etcdserverpb as pb;
use urd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use urd_proto::etcdserverpb::request_op::Request;

use crate::harness::{Client, Cluster, get_request, put_request};

const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// A writer's account.
#[derive(Debug, Default)]
struct Key {
    acknowledged: AtomicU64,
}

/// See the module's page.
pub(super) struct Load {
    endpoints: Arc<Mutex<Vec<String>>>,
    keys: Arc<Vec<Key>>,
    faults: Arc<Mutex<Vec<String>>>,
    reads: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

fn name(key: usize) -> String {
    format!("load/{key}")
}

impl Load {
    /// So many writers, and as many readers, through all members.
    pub(super) fn start(cluster: &Cluster, writers: usize) -> Load {
        let mut load = Load {
            endpoints: Arc::new(Mutex::new(cluster.endpoints())),
            keys: Arc::new((0..writers).map(|_| Key::default()).collect()),
            faults: Arc::default(),
            reads: Arc::default(),
            stopped: Arc::default(),
            tasks: Vec::new(),
        };
        for nth in 0..writers {
            load.tasks.push(tokio::spawn(load.writer(nth)));
            load.tasks.push(tokio::spawn(load.reader(nth)));
        }
        load
    }

    /// The members have changed.
    pub(super) fn set_endpoints(&self, endpoints: Vec<String>) {
        *self.endpoints.lock().expect("no panic holds it") = endpoints;
    }

    fn writer(&self, nth: usize) -> impl Future<Output = ()> + use<> {
        let (endpoints, keys) = (Arc::clone(&self.endpoints), Arc::clone(&self.keys));
        let stopped = Arc::clone(&self.stopped);
        async move {
            let mut connection = Connection::new(endpoints, nth);
            let (mut number, mut exists) = (0, false);
            while !stopped.load(SeqCst) {
                let Some(client) = connection.client().await else { continue };
                number += 1;
                match timeout(CALL_TIMEOUT, client.txn(raise(nth, number, exists))).await {
                    Ok(Ok(answer)) => {
                        // One that was to make it may have been carried out without an answer.
                        exists = true;
                        if answer.succeeded {
                            keys[nth].acknowledged.store(number, SeqCst);
                        }
                    }
                    _ => connection.drop_client(),
                }
                // Through every member in turn.
                if number % 20 == 0 {
                    connection.drop_client();
                }
            }
        }
    }

    fn reader(&self, nth: usize) -> impl Future<Output = ()> + use<> {
        let (endpoints, keys) = (Arc::clone(&self.endpoints), Arc::clone(&self.keys));
        let (stopped, faults) = (Arc::clone(&self.stopped), Arc::clone(&self.faults));
        let reads = Arc::clone(&self.reads);
        async move {
            let mut connection = Connection::new(endpoints, nth + 1);
            let mut count = 0;
            while !stopped.load(SeqCst) {
                let Some(client) = connection.client().await else { continue };
                let needed = keys[nth].acknowledged.load(SeqCst);
                match timeout(CALL_TIMEOUT, client.range(get_request(&name(nth)))).await {
                    Ok(Ok(answer)) => {
                        let found = found(&answer.kvs);
                        reads.fetch_add(1, SeqCst);
                        if found < needed {
                            let fault = format!(
                                "a read of {} through {} found {found}, and {needed} was acknowledged before",
                                name(nth),
                                connection.endpoint
                            );
                            faults.lock().expect("no panic holds it").push(fault);
                        }
                    }
                    _ => connection.drop_client(),
                }
                count += 1;
                if count % 15 == 0 {
                    connection.drop_client();
                }
            }
        }
    }

    /// Numbers acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.keys.iter().map(|key| key.acknowledged.load(SeqCst)).sum()
    }

    /// Waits until so much more was acknowledged: the cluster serves.
    pub(super) async fn wait_for_progress(&self, puts: u64) {
        let begin = self.acknowledged();
        let deadline = std::time::Instant::now() + crate::harness::SETTLE_TIMEOUT;
        while self.acknowledged() < begin + puts {
            assert!(std::time::Instant::now() < deadline, "the cluster takes no puts");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends it, and looks for everything acknowledged through each member.
    pub(super) async fn check(mut self, cluster: &Cluster) {
        self.stopped.store(true, SeqCst);
        for task in std::mem::take(&mut self.tasks) {
            task.await.expect("a writer or reader panicked");
        }
        let faults = self.faults.lock().expect("no panic holds it").clone();
        assert!(faults.is_empty(), "{} faults, the first: {:?}", faults.len(), faults.first());
        assert!(self.reads.load(SeqCst) > 0, "nothing was read");
        for endpoint in cluster.endpoints() {
            let mut client = Client::connect(&endpoint).await;
            for (nth, key) in self.keys.iter().enumerate() {
                let needed = key.acknowledged.load(SeqCst);
                assert!(needed > 0, "{} was never written", name(nth));
                let answer = client.range(get_request(&name(nth))).await.expect("a read");
                let found = found(&answer.kvs);
                assert!(found >= needed, "{} is {found} at {endpoint}, not {needed}", name(nth));
            }
        }
        cluster.assert_equal().await;
    }
}

/// Sets a key to a number, if it is lower; or, unless it is known to exist, if it is not there.
fn raise(key: usize, number: u64, exists: bool) -> pb::TxnRequest {
    let compare = pb::Compare {
        key: name(key).into(),
        result: if exists { CompareResult::Less } else { CompareResult::Equal }.into(),
        target: if exists { CompareTarget::Value } else { CompareTarget::Version }.into(),
        target_union: Some(match exists {
            true => TargetUnion::Value(text(number).into()),
            false => TargetUnion::Version(0),
        }),
        ..pb::Compare::default()
    };
    let put = put_request(&name(key), text(number).as_bytes());
    let put = pb::RequestOp { request: Some(Request::RequestPut(put)) };
    pb::TxnRequest { compare: vec![compare], success: vec![put], ..pb::TxnRequest::default() }
}

/// So that numbers compare as their bytes do.
fn text(number: u64) -> String {
    format!("{number:010}")
}

fn found(kvs: &[urd_proto::mvccpb::KeyValue]) -> u64 {
    let Some(kv) = kvs.first() else { return 0 };
    let text = std::str::from_utf8(&kv.value).expect("a number that was put");
    text.parse().expect("a number that was put")
}

/// A connection to one of the members, made again to the next when it breaks.
struct Connection {
    endpoints: Arc<Mutex<Vec<String>>>,
    nth: usize,
    endpoint: String,
    client: Option<Client>,
}

impl Connection {
    fn new(endpoints: Arc<Mutex<Vec<String>>>, nth: usize) -> Connection {
        Connection { endpoints, nth, endpoint: String::new(), client: None }
    }

    async fn client(&mut self) -> Option<&mut Client> {
        if self.client.is_none() {
            let endpoints = self.endpoints.lock().expect("no panic holds it").clone();
            self.nth += 1;
            self.endpoint = endpoints[self.nth % endpoints.len()].clone();
            let connecting = Client::try_connect(&self.endpoint);
            self.client = timeout(CALL_TIMEOUT, connecting).await.ok().and_then(Result::ok);
            if self.client.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.client.as_mut()
    }

    fn drop_client(&mut self) {
        self.client = None;
    }
}
