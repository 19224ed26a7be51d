//! Foreign bytes are judged, and the check finds what it claims to find.

use std::sync::Arc;

use fastrand::Rng;

use super::super::{history, keys, record::Record};
use super::{Feed, SECOND, START, request, set};
use crate::store::command::{Batch, BatchBuilder, DecodeError};
use crate::store::keys::V2_NUMBERS_KEY;
use crate::store::v2::{Action, Numbers, Request};
use crate::store::{View, check};
use crate::tree::{Counted, Tree};

fn key(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut key = Vec::new();
    write(&mut key);
    key
}

#[test]
fn garbage_is_no_record() {
    let mut rng = Rng::with_seed(1);
    let mut read = 0;
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..rng.usize(..24)).map(|_| rng.u8(..)).collect();
        if let Some(record) = Record::read(&bytes) {
            let mut again = Vec::new();
            record.write(&mut again);
            assert_eq!(Record::read(&again), Some(record));
            read += 1;
        }
        std::hint::black_box((history::event(1, &bytes), Numbers::decode(&bytes)));
        std::hint::black_box((keys::path(&bytes), keys::expiring_key(&bytes)));
    }
    assert!(read > 0, "some of it looks like one");
}

#[test]
fn an_action_that_does_not_exist_is_refused() {
    let mut batch = BatchBuilder::default();
    batch.append_v2(&set("/a", "1"));
    batch.append_v2(&Request { action: 7, ..Request::default() });
    let entry = batch.finish();
    let refused = Batch::decode(entry.clone());
    assert!(matches!(refused, Err(DecodeError::V2Action { found: 7, .. })), "{refused:?}");
    for end in 1..entry.len() {
        // Wherever it is cut, it is read or refused.
        std::hint::black_box(Batch::decode(entry.slice(..end)).is_ok());
    }
}

/// A store's tables, written anew so that one record can be another one.
struct Bench {
    records: Vec<(Vec<u8>, Vec<u8>)>,
    view: View,
}

impl Bench {
    fn new() -> Self {
        let mut feed = Feed::new();
        feed.apply(set("/a/b", "1")).expect("nothing speaks against it");
        let expiration = Some(START + SECOND);
        let expiring = Request { expiration, ..request(Action::Set, "/c") };
        feed.apply(expiring).expect("nothing speaks against it");
        let view = feed.view();
        let mut records = Vec::new();
        let mut cursor = crate::tree::Read::cursor(view.snapshot());
        crate::tree::Cursor::seek(&mut cursor, &[]);
        while crate::tree::Cursor::valid(&cursor) {
            let (key, value) =
                (crate::tree::Cursor::key(&cursor), crate::tree::Cursor::value(&cursor));
            records.push((key.to_vec(), value.to_vec()));
            crate::tree::Cursor::next(&mut cursor);
        }
        drop(cursor);
        Self { records, view }
    }

    fn faults(&self, change: impl FnOnce(&mut Tree)) -> usize {
        let mut tree = Tree::new();
        for (key, value) in &self.records {
            tree.insert(key, value, Counted::No);
        }
        change(&mut tree);
        let (meta, members) = (*self.view.meta(), Arc::default());
        let thinned = self.view.thinned();
        check(&View::new(tree.publish(), meta, members, thinned, Arc::new(*self.view.v2()))).len()
    }
}

#[test]
fn the_check_finds_each_fault() {
    let bench = Bench::new();
    assert_eq!(bench.faults(|_| {}), 0);
    let node = |path: &str| key(|buffer| keys::node(buffer, path));
    let event = |index| key(|buffer| keys::history(buffer, index));
    let expiring = |created| {
        let own = node("/c");
        key(|buffer| keys::expiring(buffer, START + SECOND, created, &own))
    };
    let written = |record: Record| {
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        bytes
    };
    let file = |index| Record { dir: false, ..Record::on_the_way(index) };
    let put = |key: Vec<u8>, value: Vec<u8>| {
        bench.faults(move |tree| tree.insert(&key, &value, Counted::No))
    };
    let remove = |key: Vec<u8>| bench.faults(move |tree| assert!(tree.remove(&key)));
    assert_eq!(remove(node("/a")), 1, "no directory");
    assert_eq!(put(node("/a"), written(file(4))), 1, "a file is no directory");
    assert_eq!(put(node("/x"), written(file(9))), 1, "beyond the index");
    assert_eq!(put(node("/x"), b"\xff".to_vec()), 1, "not readable");
    assert_eq!(put(node("/c"), written(file(5))), 1, "does not expire");
    assert_eq!(remove(expiring(5)), 2, "not among those that expire");
    assert_eq!(put(expiring(4), Vec::new()), 1, "nobody's");
    assert_eq!(remove(event(5)), 2, "an event is missing, and its bytes");
    assert_eq!(put(event(5), b"\xff".to_vec()), 1, "not readable");
    assert_eq!(put(event(9), b"\x1a\x00".to_vec()), 1, "not readable either");
    assert_eq!(remove(V2_NUMBERS_KEY.to_vec()), 1, "the numbers");
    assert_eq!(put(V2_NUMBERS_KEY.to_vec(), b"1".to_vec()), 1, "not readable");
}
