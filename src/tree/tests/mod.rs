//! Tests of the tree. `model` compares it with a `BTreeMap`, `shapes` pins small trees, `readers` reads on other
//! threads, `checkpoints` writes and crashes, `copies`
//! sends a tree to another file, `reuse` follows the pages, `format` holds the bytes to `FORMAT.md`,
//! `damage` proves that the checker sees, `verify` that damage in a file is named without a panic.

mod checkpoints;
mod copies;
mod damage;
mod format;
mod freelist;
mod model;
mod readers;
mod reuse;
mod shapes;
mod verify;

use std::collections::BTreeMap;

use super::{Counted, Cursor, Read, Tree};

/// What a tree should hold: per key its value and whether it counts.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, bool)>;

fn counted(yes: bool) -> Counted {
    if yes { Counted::Yes } else { Counted::No }
}

/// Every record, forwards and backwards, through a cursor.
fn assert_same_records(read: &impl Read, model: &Model) {
    let mut cursor = read.cursor();
    assert!(!cursor.valid());
    cursor.seek(&[]);
    for (key, (value, counted)) in model {
        assert!(cursor.valid(), "no record at {}", key.escape_ascii());
        assert_eq!(cursor.key(), key);
        assert_eq!(cursor.value(), value);
        assert_eq!(cursor.counted(), *counted);
        cursor.next();
    }
    assert!(!cursor.valid());
    let Some(last) = model.keys().next_back() else { return };
    cursor.seek_before(&[&last[..], &[0]].concat());
    for (key, (value, _)) in model.iter().rev() {
        assert_eq!(cursor.key(), key);
        assert_eq!(cursor.value(), value);
        cursor.previous();
    }
    assert!(!cursor.valid());
}

/// Ends a test: the batch is published, and the checker content.
fn finish(mut tree: Tree) {
    tree.check().unwrap();
    let snapshot = tree.publish();
    tree.check().unwrap();
    snapshot.check().unwrap();
}
