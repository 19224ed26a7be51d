//! Tests of the store as a whole: against a dumb model, by scripts, and of what must not be.

mod batches;
mod checks;
mod encodings;
mod generator;
mod members;
mod model;
mod oracle;
mod scripts;
mod slices;
mod touch;
mod validation;
mod versions;

use bytes::Bytes;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::command::{Batch, BatchBuilder, Command};
use super::{Outcome, Response, Store, View, check};
use crate::ids::{Index, Term};

/// A store that is fed one command after another, as a raft log would.
#[derive(Default)]
struct Feed {
    store: Store,
    index: Index,
}

impl Feed {
    fn new() -> Self {
        Self { store: Store::new(), index: Index(0) }
    }

    /// Applies one entry of one command, by way of its bytes.
    fn apply(&mut self, command: &Command) -> Outcome {
        let [outcome] =
            <[Outcome; 1]>::try_from(self.apply_all(&[command])).expect("one outcome each");
        outcome
    }

    /// Applies one entry of several commands.
    fn apply_all(&mut self, commands: &[&Command]) -> Vec<Outcome> {
        let mut batch = BatchBuilder::default();
        for command in commands {
            batch.append_command(command);
        }
        let batch = Batch::decode(batch.finish()).expect("own bytes");
        self.index = self.index.next();
        self.store.apply(self.index, Term(1), &batch)
    }

    fn view(&mut self) -> View {
        self.store.publish()
    }

    /// What every test ends with.
    fn finish(mut self) {
        self.store.publish();
        assert_eq!(self.store.check(), []);
    }
}

fn assert_sound(view: &View) {
    let faults = check(view);
    assert!(faults.is_empty(), "the view is not sound: {faults:#?}");
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), range_end: bytes(range_end), ..RangeRequest::default() }
}

fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv: false }
}

fn compact(revision: i64) -> Command {
    Command::Compaction(CompactionRequest { revision, physical: false })
}

fn txn_of(success: Vec<Request>) -> TxnRequest {
    let success = success.into_iter().map(op).collect();
    TxnRequest { compare: Vec::new(), success, failure: Vec::new() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The response of an outcome that is one.
fn ok(outcome: Outcome) -> Response {
    outcome.expect("the request is right")
}
