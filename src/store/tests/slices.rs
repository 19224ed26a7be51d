//! Work in slices: bounded, and the same as in one piece.

use bytes::BytesMut;
use prost::Message;
use urd_proto::etcdserverpb::{RangeRequest, RangeResponse};

use super::model::range_in_slices;
use super::{Feed, delete, ok, put, range};
use crate::store::command::Command;
use crate::store::{HashScan, RangeScan, Step, TreeHash};

const KEYS: usize = 200;
const VERSIONS: usize = 40;

/// Some keys with one version, some with many, some deleted.
fn feed() -> Feed {
    let mut feed = Feed::new();
    for key in 0..KEYS {
        let versions = if key % 10 == 0 { VERSIONS } else { 1 };
        for version in 0..versions {
            let value = format!("{version}");
            ok(feed.apply(&Command::Put(put(&format!("key{key:04}"), &value))));
        }
        if key % 7 == 0 {
            ok(feed.apply(&Command::DeleteRange(delete(&format!("key{key:04}"), ""))));
        }
    }
    feed
}

#[test]
fn slices_of_any_size_give_the_same_range() {
    let mut feed = feed();
    let view = feed.view();
    let newest = view.revision().0;
    for revision in [0, newest / 2, newest / 3, 1] {
        for (sort_order, sort_target) in [(0, 0), (2, 0), (1, 4), (2, 3)] {
            for limit in [0, 1, 50] {
                let all = range("key", "\0");
                let request = RangeRequest { revision, sort_order, sort_target, limit, ..all };
                let expected = view.range(&request);
                for budget in [0, 1, 100, 10_000] {
                    let sliced = range_in_slices(&view, &request, budget);
                    assert_eq!(sliced, expected, "budget {budget}: {request:?}");
                }
            }
        }
    }
    feed.finish();
}

#[test]
fn a_slice_keeps_to_its_budget() {
    const BUDGET: usize = 1000;
    // One key-value more than fits, and no key-value here is larger than this.
    const BYTES_MAX: usize = BUDGET + 64;
    let mut feed = feed();
    let view = feed.view();
    for sort_target in [0, 1] {
        let request = RangeRequest { sort_target, ..range("key", "\0") };
        let mut scan = RangeScan::new(view.clone(), &request).expect("readable");
        let (mut out, mut steps) = (BytesMut::new(), 1);
        while scan.step(BUDGET, &mut out) == Step::More {
            assert!(out.len() <= BYTES_MAX, "{} bytes", out.len());
            out.clear();
            steps += 1;
        }
        assert!(steps > 5, "{steps} steps");
    }
    feed.finish();
}

/// Passing over records that are not yielded costs budget too.
#[test]
fn counting_an_old_revision_is_sliced() {
    let mut feed = feed();
    let view = feed.view();
    let revision = view.revision().0 - 1;
    let request = RangeRequest { revision, count_only: true, ..range("key", "\0") };
    let expected = view.range(&request).expect("readable").count;
    let mut scan = RangeScan::new(view, &request).expect("readable");
    let (mut out, mut steps) = (BytesMut::new(), 1);
    let tail = loop {
        match scan.step(500, &mut out) {
            Step::More => steps += 1,
            Step::Done(tail) => break tail,
        }
    };
    assert_eq!((tail.count, out.len()), (expected, 0));
    assert!(steps > 5, "{steps} steps");
    feed.finish();
}

#[test]
fn a_scan_reads_its_own_view_whatever_happens_meanwhile() {
    let mut feed = feed();
    let view = feed.view();
    let request = range("key", "\0");
    let expected = view.range(&request).expect("readable");
    let mut scan = RangeScan::new(view, &request).expect("readable");
    let mut out = BytesMut::new();
    assert_eq!(scan.step(500, &mut out), Step::More);
    ok(feed.apply(&Command::DeleteRange(delete("key", "\0"))));
    let revision = feed.view().revision().0;
    ok(feed.apply(&super::compact(revision)));
    while !feed.store.compact_slice(50) {}
    feed.view();
    let tail = loop {
        if let Step::Done(tail) = scan.step(500, &mut out) {
            break tail;
        }
    };
    assert_eq!((tail.count, tail.more), (expected.count, expected.more));
    let read = RangeResponse::decode(out.freeze()).expect("own bytes");
    assert_eq!(read.kvs, expected.kvs);
    feed.finish();
}

#[test]
fn hashes_in_slices_are_the_same() {
    let mut feed = feed();
    let newest = feed.view().revision().0;
    ok(feed.apply(&super::compact(newest / 2)));
    feed.store.compact_slice(100);
    let view = feed.view();
    for revision in [newest / 2, newest - 5, newest] {
        let expected = view.hash_kv(revision).expect("readable");
        let mut scan = HashScan::new(view.clone(), revision).expect("readable");
        let mut steps = 1;
        let hash = loop {
            match scan.step(200) {
                Some(hash) => break hash,
                None => steps += 1,
            }
        };
        assert_eq!(hash, expected, "revision {revision}");
        assert!(steps > 5, "{steps} steps");
    }
    let whole = TreeHash::new(view.clone()).step(usize::MAX);
    let mut scan = TreeHash::new(view);
    let sliced = loop {
        if let hash @ Some(_) = scan.step(300) {
            break hash;
        }
    };
    assert_eq!(sliced, whole);
    feed.finish();
}
