//! Random requests against the dumb model: outcomes, reads and events are equal after every one of them, and the data are
//! the same however entries are published.

use fastrand::Rng;
use futures_lite::future::block_on;
use urd_wal::disk::memory::MemoryDisk;

use super::oracle::Oracle;
use super::{Feed, SECOND, START, first_event};
use crate::ids::{Revision, Term};
use crate::store::command::{Batch, BatchBuilder, Command};
use crate::store::v2::{
    Action, ErrorCode, Expiry, Interest, Listing, Node, Outcome, Path, Request,
};
use crate::store::{Store, TreeHash, View};
use crate::tree::checkpoint;

const REQUESTS: usize = 600;
const SEEDS: u64 = 12;

/// Names that are each other's prefixes, hidden, odd, or have to be cleaned first.
const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/b",
    "/a/b/c",
    "/a/b/c/d",
    "/a-b",
    "/ab",
    "/a/_h",
    "/a/_h/x",
    "/_h",
    "/_h/y",
    "/b",
    "/b/c",
    "/a\0",
    "/a\0/b",
    "/a\u{1}",
    "/a\u{1}/b",
    "a//b/",
    "/b/../a/.",
    "/c/d/e/f",
    "/ü/ö",
];

const ACTIONS: &[Action] = &[
    Action::Set,
    Action::Set,
    Action::Set,
    Action::Create,
    Action::CreateInOrder,
    Action::Update,
    Action::CompareAndSwap,
    Action::Delete,
    Action::CompareAndDelete,
];

fn path(rng: &mut Rng) -> &'static str {
    PATHS[rng.usize(..PATHS.len())]
}

fn value(rng: &mut Rng) -> bytes::Bytes {
    match rng.u8(..12) {
        0 => bytes::Bytes::new(),
        1 => vec![b'v'; 3000].into(),
        2 => bytes::Bytes::from_static(b"\xff\0"),
        _ => rng.u8(..3).to_string().into(),
    }
}

fn request(rng: &mut Rng, index: u64, now: i64, history: u64) -> Request {
    let action = ACTIONS[rng.usize(..ACTIONS.len())];
    let expiration = match rng.u8(..10) {
        0..=2 => Some(now + rng.i64(0..10) * SECOND / 2),
        3 => Some(rng.i64(..)),
        _ => None,
    };
    let compares = matches!(action, Action::CompareAndSwap | Action::CompareAndDelete);
    Request {
        action: action.into(),
        path: path(rng).to_owned(),
        value: if rng.u8(..4) == 0 { bytes::Bytes::new() } else { value(rng) },
        dir: rng.u8(..4) == 0,
        recursive: rng.u8(..3) == 0,
        refresh: rng.u8(..6) == 0,
        prev_value: if compares && rng.bool() { value(rng) } else { bytes::Bytes::new() },
        prev_index: if compares && rng.bool() { rng.u64(0..=index) } else { 0 },
        expiration,
        now,
        history,
        auth: false,
    }
}

/// What the keys and values of all that is in a node measure.
fn content_bytes(node: &Node) -> usize {
    let value = |node: &Node| node.value.as_ref().map_or(0, bytes::Bytes::len);
    let bytes = |node: &Node| node.key.len() + value(node) + content_bytes(node);
    node.nodes.iter().map(bytes).sum()
}

/// Read in slices, as a shard does.
fn listed(view: &View, path: &Path, recursive: bool, now: i64, slice: usize) -> Outcome {
    let mut listing = Listing::new(view.clone(), path, recursive, now)?;
    loop {
        if let Some(event) = listing.step(slice) {
            assert!(listing.bytes() >= content_bytes(&event.node), "{}", event.node.key);
            return Ok(event);
        }
    }
}

fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut feed = Feed::new();
    feed.history = rng.u64(1..30);
    let bound = feed.history as usize;
    let mut oracle = Oracle::new();
    for step in 0..REQUESTS {
        let at = format!("seed {seed}, step {step}");
        feed.now += rng.i64(0..SECOND);
        if rng.u8(..8) == 0 {
            let nodes_max = rng.u64(1..5);
            let events = oracle.expire(feed.now, nodes_max as usize, bound);
            assert_eq!(feed.expire(nodes_max), events, "{at}");
        } else {
            let request = request(&mut rng, oracle.index, feed.now, feed.history);
            let expected = oracle.apply(&request, bound);
            assert_eq!(feed.apply(request.clone()), expected, "{at}: {request:?}");
        }
        let view = feed.view();
        assert_eq!(view.v2_index(), oracle.index, "{at}");
        let (wanted, recursive) = (Path::new(path(&mut rng)), rng.bool());
        let expected = oracle.get(wanted.as_str(), recursive, feed.now);
        assert_eq!(view.v2_get(&wanted, recursive, feed.now), expected, "{at}: {wanted}");
        let slice = rng.usize(1..4);
        assert_eq!(listed(&view, &wanted, recursive, feed.now, slice), expected, "{at}: {wanted}");
        let interest = Interest { path: wanted, recursive, hidden: rng.bool() };
        let since = rng.u64(oracle.index.saturating_sub(40)..oracle.index + 3);
        let found = first_event(&view, &interest, since);
        match oracle.event_since(&interest, since, feed.history) {
            Ok(event) => assert_eq!(found, Ok(event), "{at}: {interest:?} since {since}"),
            Err(()) => {
                let code = found.map_err(|error| error.code);
                assert_eq!(code, Err(ErrorCode::EventIndexCleared), "{at}: since {since}");
            }
        }
        if step % 50 == 0 {
            assert_eq!(crate::store::check(&view), [], "{at}");
        }
    }
    feed.finish();
}

#[test]
fn it_does_what_the_model_does() {
    (0..SEEDS).for_each(run);
}

/// Entries by seed: requests of both kinds, several each.
fn entries(seed: u64) -> Vec<Batch> {
    let mut rng = Rng::with_seed(seed);
    let mut now = START;
    (0..200)
        .map(|nth| {
            let mut batch = BatchBuilder::default();
            for _ in 0..rng.usize(1..4) {
                now += rng.i64(0..SECOND);
                if rng.u8(..8) == 0 {
                    let expiry = Expiry { cutoff: now, nodes_max: 3, history: 20 };
                    batch.append_command(&Command::V2Expiry(expiry));
                } else {
                    batch.append_v2(&request(&mut rng, 3 + nth, now, 20));
                }
            }
            Batch::decode(batch.finish()).expect("own bytes")
        })
        .collect()
}

/// Outcomes, and hashes of all records and of v3's.
fn outcomes(seed: u64, publish: impl Fn(usize) -> bool) -> (Vec<String>, u32, u32) {
    let mut store = Store::new();
    let mut outcomes = Vec::new();
    for (nth, entry) in entries(seed).iter().enumerate() {
        let applied = store.apply(store.applied().next(), Term(1), entry);
        outcomes.extend(applied.iter().map(|outcome| format!("{outcome:?}")));
        if publish(nth) {
            store.publish();
        }
    }
    let view = store.publish();
    assert_eq!(store.check(), []);
    assert_eq!(view.revision(), Revision(1), "v3 knows nothing of it");
    let all = TreeHash::new(view.clone()).step(usize::MAX).expect("there is no bound");
    (outcomes, all, view.hash_kv(0).expect("the newest").hash)
}

#[test]
fn the_same_entries_give_the_same_data() {
    for seed in 0..4 {
        let each = outcomes(seed, |_| true);
        assert_eq!(outcomes(seed, |nth| nth % 7 == 0), each);
        assert_eq!(outcomes(seed, |_| false), each);
        let empty = Store::new().publish().hash_kv(0).expect("the newest").hash;
        assert_eq!(each.2, empty, "v3's hash covers v3's keys alone");
    }
}

/// What a restart finds goes on like what was there before: nodes, index, events, and what expires.
#[test]
fn a_checkpoint_goes_on_like_the_original() {
    let disk = MemoryDisk::new(512);
    let opened = block_on(checkpoint::open(disk.clone(), "checkpoint")).expect("an empty disk");
    let mut store = Store::open(opened.tree).expect("an empty tree");
    let entries = entries(7);
    let (before, after) = entries.split_at(entries.len() / 2);
    let apply = |store: &mut Store, entries: &[Batch]| -> Vec<String> {
        let index = |store: &Store| store.applied().next();
        entries.iter().map(|it| format!("{:?}", store.apply(index(store), Term(1), it))).collect()
    };
    apply(&mut store, before);
    store.publish();
    block_on(store.begin_checkpoint().write(&opened.file)).expect("a disk without faults");

    let reopened = block_on(checkpoint::open(disk.copy(), "checkpoint")).expect("what was written");
    let mut copy = Store::open(reopened.tree).expect("a store's tree");
    let (view, copied) = (store.view(), copy.view());
    assert_eq!(copied.v2(), view.v2());
    assert_eq!(copied.v2_hash(), view.v2_hash());
    assert_eq!(apply(&mut copy, after), apply(&mut store, after));
    assert_eq!(copy.publish().v2_hash(), store.publish().v2_hash());
    assert_ne!(store.view().v2_hash(), view.v2_hash());
    assert_eq!((store.check(), copy.check()), (vec![], vec![]));
}
