//! Thousands of random requests to etcd and to the subject, answers compared as whole messages.
//!
//! Both servers start empty and get the same sequence, one request at a time. An answer is a message or a gRPC error
//! (code and text); of a message everything counts but the ids and the term in headers. Hashes of the key space are
//! compared on the way and at the end. In the middle both servers are killed and started again, and the comparison goes
//! on: what was acknowledged is still there.
//!
//! `URD_SEED=7` runs one seed, `URD_STEPS=100000` makes it long; a failure prints how to repeat it.
//!
//! # Where etcd 3.4.23, the reference, differs from 3.7, the target
//!
//! | what | 3.4.23 | 3.7 | here |
//! |---|---|---|---|
//! | a sort order or target outside the enumeration | the process ends | `invalid sort option` | never sent |
//! | in one transaction, a delete to the end of the key space and a put with `ignore_value` of a key in it | the process ends | likewise | never sent |
//! | HashKV exactly at the compacted revision | compacted | answered | never sent |
//! | `HashKVResponse.hash_revision` | absent | present | set to zero |
//! | HashKV while a compaction still removes keys and none is left | another hash, for a moment | | asked again, bounded |
//! | the revision after a restart, when the newest change was a delete and was compacted away | goes back (etcd issue 17780) | stays | a put comes before the kill |
//! | the order of `LeaseLeases` | by expiry | likewise | by id (`canonical.rs`) |
//! | the order of keys in `LeaseTimeToLive` | that of a hash map | likewise | that of the keys (`canonical.rs`) |
//! | which fault of a transaction with several is named | puts first | the first | any passes (`canonical.rs`) |
//! | the order among equal values of a sort target other than the key | Go's unstable sort | likewise | any order passes (`canonical.rs`) |

mod canonical;
mod generator;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use tonic::Status;
use urd_proto::etcdserverpb as pb;

use crate::harness::{Client, Program, Server};
use generator::{Generator, Operation};

/// Run when `URD_SEED` names none.
const SEEDS: &[u64] = &[1, 2, 3];
/// Requests for each seed.
const STEPS: usize = 3000;
/// Between two comparisons of the whole key space.
const STEPS_PER_HASH: usize = 250;
/// For how long etcd may still be removing what a compaction left.
const HASH_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer without what belongs to the run.
type Answer = Result<Message, (tonic::Code, String)>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    HashKv(pb::HashKvResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    LeaseTimeToLive(pb::LeaseTimeToLiveResponse),
    LeaseLeases(pb::LeaseLeasesResponse),
    LeaseKeepAlive(pb::LeaseKeepAliveResponse),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_random_requests_as_etcd_does() {
    let seeds = match std::env::var("URD_SEED") {
        Ok(seed) => vec![seed.parse().expect("URD_SEED is a number")],
        Err(_) => SEEDS.to_vec(),
    };
    let steps = std::env::var("URD_STEPS")
        .map_or(STEPS, |steps| steps.parse().expect("URD_STEPS is a number"));
    for seed in seeds {
        println!("seed {seed}, {steps} requests");
        Run::start(seed).await.compare(steps).await;
    }
}

/// Both servers, and the requests of one seed.
struct Run {
    seed: u64,
    generator: Generator,
    etcd: Side,
    subject: Side,
}

struct Side {
    server: Server,
    client: Client,
}

impl Side {
    async fn start(program: Program) -> Side {
        let server = Server::start_fresh(program);
        let client = Client::connect(&server.endpoint()).await;
        Side { server, client }
    }

    async fn kill_and_restart(&mut self) {
        self.server.kill();
        self.server.restart();
        self.client = Client::connect(&self.server.endpoint()).await;
    }

    async fn ask(&mut self, operation: Operation) -> Answer {
        let client = &mut self.client;
        let answer = match operation {
            Operation::Range(request) => client.range(request).await.map(Message::Range),
            Operation::Put(request) => client.put(request).await.map(Message::Put),
            Operation::DeleteRange(request) => {
                client.delete_range(request).await.map(Message::DeleteRange)
            }
            Operation::Txn(request) => client.txn(request).await.map(Message::Txn),
            Operation::Compact(request) => client.compact(request).await.map(Message::Compact),
            Operation::HashKv(request) => client.hash_kv(request).await.map(Message::HashKv),
            Operation::LeaseGrant(request) => {
                client.lease_grant(request).await.map(Message::LeaseGrant)
            }
            Operation::LeaseRevoke(request) => {
                client.lease_revoke(request).await.map(Message::LeaseRevoke)
            }
            Operation::LeaseTimeToLive(request) => {
                client.lease_time_to_live(request).await.map(Message::LeaseTimeToLive)
            }
            Operation::LeaseLeases(request) => {
                client.lease_leases(request).await.map(Message::LeaseLeases)
            }
            Operation::LeaseKeepAlive(request) => {
                keep_alive(client, request).await.map(Message::LeaseKeepAlive)
            }
        };
        answer.map_err(|status: Status| (status.code(), status.message().to_owned()))
    }
}

/// One keep-alive by a stream of its own.
async fn keep_alive(
    client: &mut Client,
    request: pb::LeaseKeepAliveRequest,
) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let requests = tokio_stream::once(request);
    let mut answers = client.converse("/etcdserverpb.Lease/LeaseKeepAlive", requests).await?;
    answers.message().await.map(|answer| answer.expect("an answer before the end"))
}

impl Run {
    async fn start(seed: u64) -> Run {
        let (etcd, subject) =
            tokio::join!(Side::start(Program::Etcd), Side::start(Program::Subject));
        Run { seed, generator: Generator::new(seed), etcd, subject }
    }

    async fn compare(mut self, steps: usize) {
        let mut errors = 0;
        for step in 0..steps {
            if step == steps / 2 {
                self.kill_both(step).await;
            }
            let operation = self.generator.operation();
            let answer = self.compare_one(step, &operation).await;
            errors += usize::from(answer.is_err());
            self.generator.learn(&operation, &answer);
            if step % STEPS_PER_HASH == STEPS_PER_HASH - 1 {
                self.compare_hash(step).await;
            }
        }
        self.compare_hash(steps).await;
        println!("seed {}: {errors} of {steps} answers were errors, all equal", self.seed);
        // A generator that produces mostly errors, or none, would compare next to nothing.
        assert!(errors > steps / 100 && errors < steps / 3, "the generator has gone astray");
    }

    async fn kill_both(&mut self, step: usize) {
        let put = pb::PutRequest { key: "before the kill".into(), ..Default::default() };
        let before = self.compare_one(step, &Operation::Put(put)).await;
        tokio::join!(self.etcd.kill_and_restart(), self.subject.kill_and_restart());
        let get = pb::RangeRequest { key: "before the kill".into(), ..Default::default() };
        let after = self.compare_one(step, &Operation::Range(get)).await;
        let revision = |answer: &Answer| match answer {
            Ok(Message::Put(answer)) => answer.header.map(|header| header.revision),
            Ok(Message::Range(answer)) => answer.header.map(|header| header.revision),
            other => panic!("seed {}, request {step}: {other:?} around the kill", self.seed),
        };
        assert_eq!(
            revision(&before),
            revision(&after),
            "the revision before the kill and after the restart"
        );
    }

    async fn ask_both(&mut self, operation: &Operation) -> (Answer, Answer) {
        let (etcd, subject) =
            tokio::join!(self.etcd.ask(operation.clone()), self.subject.ask(operation.clone()));
        (canonical::answer(operation, etcd), canonical::answer(operation, subject))
    }

    async fn compare_one(&mut self, step: usize, operation: &Operation) -> Answer {
        let (etcd, subject) = self.ask_both(operation).await;
        let etcd_is_at_work = matches!(operation, Operation::HashKv(_));
        if etcd != subject && !(etcd_is_at_work && self.agree_in_time(operation).await) {
            self.fail(step, operation, &etcd, &subject);
        }
        etcd
    }

    /// Hashes differ while etcd still removes what was compacted; equal ones must come.
    async fn agree_in_time(&mut self, operation: &Operation) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < HASH_TIMEOUT {
            let (etcd, subject) = self.ask_both(operation).await;
            if etcd == subject {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// The whole key space: its hash, and every pair of it.
    async fn compare_hash(&mut self, step: usize) {
        let all =
            pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        self.compare_one(step, &Operation::Range(all)).await.expect("a range over all keys");
        let hash = Operation::HashKv(pb::HashKvRequest { revision: 0 });
        self.compare_one(step, &hash).await.expect("the hash at the newest revision");
    }

    fn fail(
        &mut self,
        step: usize,
        operation: &Operation,
        etcd: &dyn Debug,
        subject: &dyn Debug,
    ) -> ! {
        self.etcd.server.assert_running("after the request that differs");
        self.subject.server.assert_running("after the request that differs");
        panic!(
            "seed {}, request {step}: the answers differ.\n\nrequest: {operation:#?}\n\netcd: {etcd:#?}\n\n\
             subject: {subject:#?}\n\nTo repeat: URD_SEED={} cargo test -p urd-tools --test suite differential",
            self.seed, self.seed
        );
    }
}
