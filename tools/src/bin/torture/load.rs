//! Clients that read and write: each asks one thing after the other, at a bounded rate.
//!
//! Every value is put once, so that an event tells which request made it. A compare mostly uses what its client saw last, which
//! others may have changed since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use glommio::timer::Timer;
use urd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use urd_proto::etcdserverpb::request_op::Request as Op;
use urd_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use urd_proto::mvccpb::KeyValue;
use urd_tools::checkers::history::{Answer, Request, Response};
use urd_tools::grpc::endpoint::Endpoint;

use crate::line::Line;
use crate::record::Record;
use crate::{bulk, leases, watchers};

/// Tasks that read and write.
const CLIENTS: u32 = 10;
/// Between two requests of a client.
const PAUSE_MILLIS: std::ops::Range<u64> = 5..45;
const KEYS: u32 = 24;
/// All keys of these clients begin so.
pub(crate) const PREFIX: &str = "k/";
/// The first key behind them.
pub(crate) const PREFIX_END: &str = "k0";

/// Starts the thread of all clients. It ends when the record says that watches are over.
pub(crate) fn start(
    endpoints: &[Endpoint],
    record: &Arc<Record>,
    seed: u64,
) -> Result<std::thread::JoinHandle<()>, String> {
    let (endpoints, record) = (endpoints.to_vec(), Arc::clone(record));
    let builder = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound).name("clients");
    let thread = builder.spawn(move || async move {
        let mut tasks = Vec::new();
        for nth in 0..CLIENTS {
            let client = Client::new(nth, &endpoints, &record, seed);
            tasks.push(glommio::spawn_local(client.run()));
        }
        tasks.push(glommio::spawn_local(bulk::run(endpoints.clone(), Arc::clone(&record))));
        let rng = Rng::with_seed(seed ^ 1);
        tasks.extend(leases::start(&endpoints, &record, rng.clone()));
        tasks.extend(watchers::start(&endpoints, &record, rng));
        for task in tasks {
            task.await;
        }
    });
    // The executor's own handle; a thread of ours joins it, so that the caller needs not know glommio.
    let thread = thread.map_err(|error| format!("cannot set up io_uring: {error}"))?;
    Ok(std::thread::spawn(move || {
        thread.join().expect("the clients' thread does not panic");
    }))
}

struct Client {
    number: u32,
    line: Line,
    record: Arc<Record>,
    rng: Rng,
    values: u64,
    /// What it saw last.
    known: BTreeMap<Bytes, KeyValue>,
    /// The newest revision that it was told of.
    revision: i64,
}

fn key(nth: u32) -> Bytes {
    Bytes::from(format!("{PREFIX}{nth:02}"))
}

impl Client {
    fn new(number: u32, endpoints: &[Endpoint], record: &Arc<Record>, seed: u64) -> Client {
        Client {
            number,
            line: Line::new(endpoints, number as usize),
            record: Arc::clone(record),
            rng: Rng::with_seed(seed.wrapping_mul(31).wrapping_add(u64::from(number))),
            values: 0,
            known: BTreeMap::new(),
            revision: 0,
        }
    }

    async fn run(mut self) {
        let record = Arc::clone(&self.record);
        while !record.load_is_over() {
            let request = self.request();
            if let Some(Answer::Done(response)) = self.line.ask(&record, self.number, request).await
            {
                self.learn(response);
            }
            // Now and then another member, though this one answers.
            if self.rng.u32(..200) == 0 {
                self.line.leave();
            }
            Timer::new(Duration::from_millis(self.rng.u64(PAUSE_MILLIS))).await;
        }
    }

    fn learn(&mut self, mut response: Response) {
        self.revision = response.revision();
        response.for_each_key_value(&mut |kv| {
            self.known.insert(kv.key.clone(), kv.clone());
        });
    }

    fn key(&mut self) -> Bytes {
        key(self.rng.u32(..KEYS))
    }

    /// One key mostly, a few neighbours, or all.
    fn range(&mut self) -> (Bytes, Bytes) {
        let from = self.rng.u32(..KEYS);
        match self.rng.u32(..12) {
            0 => (PREFIX.into(), PREFIX_END.into()),
            1..=3 => (key(from), key(from + self.rng.u32(1..5))),
            _ => (key(from), Bytes::new()),
        }
    }

    fn request(&mut self) -> Request {
        match self.rng.u32(..20) {
            0..=6 => Request::Put(self.put()),
            7..=12 => Request::Range(self.read()),
            13..=14 => Request::DeleteRange(self.delete()),
            _ => Request::Txn(self.txn()),
        }
    }

    fn put(&mut self) -> PutRequest {
        self.values += 1;
        PutRequest {
            key: self.key(),
            value: Bytes::from(format!("client {} value {}", self.number, self.values)),
            prev_kv: self.rng.bool(),
            ..PutRequest::default()
        }
    }

    fn read(&mut self) -> RangeRequest {
        let (key, range_end) = self.range();
        let mut range = RangeRequest { key, range_end, ..RangeRequest::default() };
        range.serializable = self.rng.u32(..3) == 0;
        if self.rng.u32(..6) == 0 {
            range.revision = (self.revision - self.rng.i64(0..50)).max(0);
        }
        if self.rng.u32(..3) == 0 {
            range.limit = self.rng.i64(0..6);
            range.sort_target = self.rng.i32(0..5);
            range.sort_order = self.rng.i32(0..3);
            range.keys_only = self.rng.u32(..8) == 0;
            range.count_only = self.rng.u32(..8) == 0;
        }
        range
    }

    /// Single keys, and seldom a few, or nothing would stay.
    fn delete(&mut self) -> DeleteRangeRequest {
        let from = self.rng.u32(..KEYS);
        let few = self.rng.u32(..6) == 0;
        let range_end = if few { key(from + self.rng.u32(1..4)) } else { Bytes::new() };
        DeleteRangeRequest { key: key(from), range_end, prev_kv: self.rng.bool() }
    }

    fn txn(&mut self) -> TxnRequest {
        let one = self.key();
        let compare = vec![self.compare(&one)];
        let op = |request| RequestOp { request: Some(request) };
        let get =
            |key: Bytes| op(Op::RequestRange(RangeRequest { key, ..RangeRequest::default() }));
        let mut success = vec![op(Op::RequestPut(PutRequest { key: one.clone(), ..self.put() }))];
        match self.rng.u32(..6) {
            // Several keys in one revision.
            0..=1 => {
                let others = [self.key(), self.key()];
                for (nth, other) in others.iter().enumerate() {
                    if *other != one && !others[..nth].contains(other) {
                        let put = PutRequest { key: other.clone(), ..self.put() };
                        success.push(op(Op::RequestPut(put)));
                    }
                }
            }
            2 => {
                let other = self.key();
                let delete =
                    DeleteRangeRequest { key: other.clone(), prev_kv: true, ..Default::default() };
                if other != one {
                    success.push(op(Op::RequestDeleteRange(delete)));
                }
            }
            3 => {
                let other = self.key();
                if other != one {
                    let put = PutRequest { key: other.clone(), ..self.put() };
                    success.push(op(Op::RequestTxn(TxnRequest {
                        compare: vec![self.compare(&other)],
                        success: vec![op(Op::RequestPut(put))],
                        failure: vec![get(other)],
                    })));
                }
            }
            4 => success = vec![get(one.clone()), get(self.key())],
            _ => {}
        }
        TxnRequest { compare, success, failure: vec![get(one)] }
    }

    fn compare(&mut self, key: &Bytes) -> Compare {
        let known = self.known.get(key).cloned().unwrap_or_default();
        let (target, union) = match self.rng.u32(..6) {
            0 => (CompareTarget::Version, TargetUnion::Version(known.version)),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(known.create_revision)),
            2 => (CompareTarget::Value, TargetUnion::Value(known.value)),
            _ => (CompareTarget::Mod, TargetUnion::ModRevision(known.mod_revision)),
        };
        let result = match self.rng.u32(..8) {
            0 => CompareResult::Less,
            1 => CompareResult::Greater,
            2 => CompareResult::NotEqual,
            _ => CompareResult::Equal,
        };
        Compare {
            result: result.into(),
            target: target.into(),
            key: key.clone(),
            target_union: Some(union),
            range_end: Bytes::new(),
        }
    }
}

/// A task of the clients' thread.
pub(crate) type Task = glommio::Task<()>;
