//! Random histories, on the store and on the model, compared in everything a client can see.

use bytes::BytesMut;
use prost::Message;
use urd_proto::etcdserverpb::{AlarmType, RangeRequest, RangeResponse};

use super::generator::Generator;
use super::oracle::Oracle;
use super::{Feed, assert_sound};
use crate::error::Rejected;
use crate::ids::LeaseId;
use crate::limits::TXN_OPS_DEFAULT;
use crate::store::command::Command;
use crate::store::lease::Lease;
use crate::store::{RangeScan, Step, View, is_read_only, validate};

const COMMANDS: usize = 400;
const RANGES_EACH: usize = 6;

/// A range in slices of `budget` bytes, put together as the api does.
pub(super) fn range_in_slices(
    view: &View,
    request: &RangeRequest,
    budget: usize,
) -> Result<RangeResponse, Rejected> {
    let mut scan = RangeScan::new(view.clone(), request)?;
    let mut encoded = BytesMut::new();
    let tail = loop {
        if let Step::Done(tail) = scan.step(budget, &mut encoded) {
            break tail;
        }
    };
    let kvs = RangeResponse::decode(encoded.freeze()).expect("own bytes").kvs;
    let mut response = view.range(&RangeRequest { count_only: true, ..request.clone() })?;
    assert_eq!(response.header.map(|header| header.revision), Some(tail.revision.0));
    response.kvs = kvs;
    response.more = tail.more;
    response.count = tail.count;
    Ok(response)
}

/// All leases, with the keys attached, read a few at a time.
fn leases(view: &View) -> Vec<(i64, Lease, Vec<Vec<u8>>)> {
    let mut leases = Vec::new();
    let mut from = Some(LeaseId(i64::MIN));
    while let Some(id) = from {
        from = view.for_each_lease(id, 2, |id, lease| leases.push((id.0, lease, Vec::new())));
    }
    for (id, lease, keys) in &mut leases {
        assert_eq!(view.lease(LeaseId(*id)), Some(*lease));
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            from = view.for_each_attached(LeaseId(*id), &key, 20, |key| keys.push(key.to_vec()));
        }
        assert_eq!(view.count_attached(LeaseId(*id), 3), keys.len().min(3));
    }
    leases
}

fn is_valid(command: &Command) -> bool {
    match command {
        Command::Put(request) => validate::put(request).is_ok(),
        Command::DeleteRange(request) => validate::delete_range(request).is_ok(),
        Command::Txn(request) => validate::txn(request, TXN_OPS_DEFAULT).is_ok(),
        Command::LeaseGrant(_)
        | Command::LeaseRevoke(_)
        | Command::LeaseCheckpoints(_)
        | Command::LeaseExpiry(_)
        | Command::Alarm(_)
        | Command::Compaction(_) => true,
        _ => unreachable!("the generator makes no members"),
    }
}

fn run(seed: u64) {
    let mut generator = Generator::new(seed);
    let mut feed = Feed::new();
    let mut oracle = Oracle::new();
    for step in 0..COMMANDS {
        let at = format!("seed {seed}, step {step}");
        let command = generator.command(oracle.revision(), feed.index.0);
        if !is_valid(&command) {
            continue;
        }
        let before = feed.store.view();
        let expected = oracle.apply(&command);
        let outcome = feed.apply(&command);
        assert_eq!(outcome, expected, "{at}: {command:?}");
        if let Command::Txn(request) = &command
            && is_read_only(request)
            // One that is proposed may be refused; as a read it never is.
            && expected != Err(Rejected::Corrupt)
        {
            let read = before.read_txn(request).map(crate::store::Response::Txn);
            assert_eq!(read, expected, "{at}: {request:?}");
        }
        // Some slices of background work, now and then, must not show.
        if generator.rng().bool() {
            let revisions = generator.rng().usize(1..8);
            feed.store.compact_slice(revisions);
        }
        let view = feed.view();
        assert_eq!(view.revision().0, oracle.revision(), "{at}");
        assert_eq!(view.compacted().0, oracle.compacted(), "{at}");
        assert_eq!(view.alarms(AlarmType::None), oracle.alarms(AlarmType::None), "{at}");
        assert_eq!(leases(&view), oracle.leases(), "{at}: {command:?}");
        for _ in 0..RANGES_EACH {
            let request = generator.range(oracle.revision());
            let budget = generator.rng().usize(0..200);
            let expected = oracle.range(&request);
            assert_eq!(view.range(&request), expected, "{at}: {request:?}");
            let sliced = range_in_slices(&view, &request, budget);
            assert_eq!(sliced, expected, "{at}, budget {budget}: {request:?}");
        }
        let revision = generator.rng().i64(-1..=oracle.revision() + 1);
        assert_eq!(view.hash_kv(revision), oracle.hash_kv(revision), "{at}: hash {revision}");
        if step % 16 == 0 {
            assert_sound(&view);
        }
    }
    feed.finish();
}

#[test]
fn random_histories_agree_with_the_model() {
    for seed in 0..12 {
        run(seed);
    }
}

/// The same entries give the same outcomes and the same hashes, whatever background work is done.
#[test]
fn the_same_log_gives_the_same_state() {
    for seed in 100..104 {
        let mut generator = Generator::new(seed);
        let (mut eager, mut lazy) = (Feed::new(), Feed::new());
        for step in 0..COMMANDS {
            let newest = eager.store.view().revision().0;
            let command = generator.command(newest, eager.index.0);
            if !is_valid(&command) {
                continue;
            }
            assert_eq!(eager.apply(&command), lazy.apply(&command), "seed {seed}, step {step}");
            while !eager.store.compact_slice(3) {}
            eager.store.publish();
        }
        let (eager_view, lazy_view) = (eager.view(), lazy.view());
        for revision in lazy_view.compacted().0.max(1)..=lazy_view.revision().0 {
            assert_eq!(
                eager_view.hash_kv(revision),
                lazy_view.hash_kv(revision),
                "seed {seed}, revision {revision}"
            );
        }
        assert!(eager.store.statistics().records <= lazy.store.statistics().records);
        eager.finish();
        lazy.finish();
    }
}
