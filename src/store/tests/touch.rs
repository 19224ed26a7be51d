//! What is touched ahead is what the work then reads: on a tree whose pages are all in its file, work that was touched
//! reads none of them that was not read already.

use bytes::Bytes;
use fastrand::Rng;
use futures_lite::future::block_on;
use urd_proto::etcdserverpb::request_op::Request;
use urd_proto::etcdserverpb::{
    Compare, LeaseCheckpoint, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    TxnRequest,
};
use urd_wal::disk::memory::MemoryDisk;

use super::{Feed, compact, delete, ok, op, put, range, txn_of};
use crate::ids::{Index, LeaseId, PageId};
use crate::store::command::{Command, LeaseCheckpoints, LeaseExpiry};
use crate::store::{Store, touch, v2};
use crate::tree::checkpoint;

const KEYS: usize = 3000;
const LEASES: i64 = 20;

fn key(number: usize) -> String {
    format!("key {number:05}")
}

/// A file with keys of one version to four, long values and leases among them, compacted but not swept.
fn file() -> (MemoryDisk, Index) {
    let disk = MemoryDisk::new(512);
    let opened = block_on(checkpoint::open(disk.clone(), "checkpoint")).unwrap();
    let mut feed = Feed { store: Store::open(opened.tree).unwrap(), index: Index(0) };
    for id in 1..=LEASES {
        ok(feed.apply(&Command::LeaseGrant(LeaseGrantRequest { id, ttl: 60 })));
    }
    let mut rng = Rng::with_seed(1);
    for round in 0..4 {
        for number in (0..KEYS).filter(|number| round == 0 || number % 3 == 0) {
            let long = rng.u8(..50) == 0;
            let value = Bytes::from(vec![b'v'; if long { 9000 } else { rng.usize(..100) }]);
            let lease = if rng.u8(..4) == 0 { rng.i64(1..=LEASES) } else { 0 };
            ok(feed.apply(&Command::Put(PutRequest { value, lease, ..put(&key(number), "") })));
        }
    }
    for number in 0..KEYS {
        // As updates have it: any time is one.
        ok(feed.apply(&v2(v2::Action::Set, &node(number), None)));
        let expiration = (number % 3 == 0).then(|| rng.i64(0..10_000));
        ok(feed.apply(&v2(v2::Action::Update, &node(number), expiration)));
    }
    let newest = feed.view().revision().0;
    ok(feed.apply(&compact(newest - 100)));
    feed.view();
    block_on(feed.store.begin_checkpoint().write(&opened.file)).unwrap();
    (disk, feed.index)
}

/// The file's store, of which nothing was read but the places where every entry writes.
fn open(disk: &MemoryDisk, index: Index) -> Feed {
    let opened = block_on(checkpoint::open(disk.copy(), "checkpoint")).unwrap();
    let mut feed = Feed { store: Store::open(opened.tree).unwrap(), index };
    ok(feed.apply(&Command::Put(put("z", ""))));
    ok(feed.apply(&v2(v2::Action::Set, "/z", None)));
    feed.view();
    feed
}

fn random_commands(rng: &mut Rng) -> Vec<Command> {
    let mut any = || key(rng.usize(..KEYS));
    let (a, b, c) = (any(), any(), any());
    let (low, high) = if a < b { (&a, &b) } else { (&b, &a) };
    let few = |from: &str| RangeRequest { limit: 70, ..range(from, "l") };
    let compare = Compare { key: b.clone().into(), target: 3, ..Compare::default() };
    let lease = rng.i64(1..=LEASES);
    let other = LEASES + 1 + lease;
    vec![
        Command::Put(put(&a, "new")),
        Command::Put(PutRequest { lease, ..put(&b, "moves") }),
        Command::Put(PutRequest { ignore_value: true, prev_kv: true, ..put(&c, "") }),
        Command::Put(put(&format!("{a} is new"), "")),
        Command::DeleteRange(delete(&a, "")),
        Command::DeleteRange(delete(low, high)),
        Command::Txn(TxnRequest {
            compare: vec![compare],
            success: vec![op(Request::RequestPut(put(&a, "")))],
            failure: vec![op(Request::RequestRange(few(&c)))],
        }),
        Command::Txn(txn_of(vec![
            Request::RequestDeleteRange(delete(low, high)),
            Request::RequestTxn(txn_of(vec![Request::RequestPut(put(&format!("{c}+"), ""))])),
        ])),
        Command::LeaseGrant(LeaseGrantRequest { id: other, ttl: 60 }),
        Command::LeaseRevoke(LeaseRevokeRequest { id: lease }),
        Command::LeaseExpiry(LeaseExpiry { as_of: u64::MAX, leases: vec![lease, other] }),
        Command::LeaseCheckpoints(LeaseCheckpoints {
            as_of: u64::MAX,
            checkpoints: vec![LeaseCheckpoint { id: lease, remaining_ttl: 5 }],
        }),
        compact(1),
        v2(v2::Action::Set, &node(rng.usize(..KEYS)), None),
        v2(v2::Action::Update, &node(rng.usize(..KEYS)), Some(i64::MAX)),
        v2(v2::Action::Set, &format!("{}/x/y", node(rng.usize(..KEYS))), None),
        v2(v2::Action::CreateInOrder, "/10/q", None),
        v2(v2::Action::Delete, &node(rng.usize(..KEYS)), None),
        v2(v2::Action::Delete, &format!("/{}", rng.usize(..KEYS / 100)), None),
        Command::V2Expiry(v2::Expiry { cutoff: 40, nodes_max: 8, history: 100 }),
    ]
}

fn node(number: usize) -> String {
    format!("/{}/{number:05}", number / 100)
}

fn v2(action: v2::Action, path: &str, expiration: Option<i64>) -> Command {
    Command::V2(v2::Request {
        action: action.into(),
        path: path.to_owned(),
        value: vec![b'v'; 50].into(),
        dir: false,
        recursive: true,
        expiration,
        history: 100,
        ..v2::Request::default()
    })
}

#[test]
fn a_command_that_was_touched_reads_nothing_more() {
    let (disk, index) = file();
    let mut rng = Rng::with_seed(2);
    for _ in 0..20 {
        for command in random_commands(&mut rng) {
            let mut feed = open(&disk, index);
            let view = feed.view();
            touch(&view, &command, usize::MAX);
            let touched = feed.store.pages_read();
            // Some are refused; that costs reads as well.
            drop(feed.apply(&command));
            assert_eq!(feed.store.pages_read(), touched, "{command:?}");
        }
    }
}

#[test]
fn without_a_touch_it_does_read() {
    let (disk, index) = file();
    let mut feed = open(&disk, index);
    let before = feed.store.pages_read();
    ok(feed.apply(&Command::DeleteRange(delete(&key(0), &key(KEYS / 2)))));
    assert!(feed.store.pages_read() > before + 50);
}

#[test]
fn a_budget_bounds_what_is_touched() {
    let (disk, index) = file();
    let all = Command::DeleteRange(delete("key", "l"));
    let read = |budget| {
        let mut feed = open(&disk, index);
        let before = feed.store.pages_read();
        touch(&feed.view(), &all, budget);
        feed.store.pages_read() - before
    };
    let (whole, part) = (read(usize::MAX), read(10_000));
    assert!(part < whole / 5, "{part} of {whole} pages");
}

#[test]
fn slices_that_were_touched_read_nothing_more() {
    let (disk, index) = file();
    let mut feed = open(&disk, index);
    let (mut slices, mut others) = (0, 0);
    while let Some(sweep) = feed.store.pending_sweep() {
        feed.view().touch_sweep(sweep, 200);
        let touched = feed.store.pages_read();
        feed.store.compact_slice(200);
        others += feed.store.pages_read() - touched;
        slices += 1;
    }
    assert!(slices > 20, "{slices} slices");
    // Pages next to one that has become nearly empty.
    assert!(others <= 2, "{others} of {} pages", feed.store.pages_read());

    let mut feed = open(&disk, index);
    let (mut from, mut slices) = (Some(Vec::new()), 0);
    while let Some(place) = from {
        feed.view().touch_leaves(&place, PageId(0), 8);
        let touched = feed.store.pages_read();
        from = feed.store.relocate(&place, PageId(0), 8);
        assert_eq!(feed.store.pages_read(), touched, "slice {slices} of the move");
        slices += 1;
    }
    assert!(slices > 20, "{slices} slices");

    let feed = &mut open(&disk, index);
    let leases: Vec<LeaseId> = (1..=LEASES).map(LeaseId).collect();
    let before = feed.store.pages_read();
    feed.view().touch_leases(&leases, usize::MAX);
    let touched = feed.store.pages_read();
    assert!(touched > before);
    let view = feed.view();
    assert!(leases.iter().all(|&lease| view.count_attached(lease, usize::MAX) > 0));
    assert_eq!(feed.store.pages_read(), touched);
}
