//! The tree does what a `BTreeMap` does, whatever the keys and values, with snapshots held and dropped meanwhile.

use super::{Model, assert_same_records, counted, finish};
use crate::tree::page::{
    BRANCH_KEY_BYTES_MAX, CELL_BYTES_MAX, COMMON_BYTES_MAX, KEY_PREFIX_BYTES, LEAF_KEY_BYTES_MAX,
    PAGE_BYTES,
};
use crate::tree::{Cursor, Read, Snapshot, Tree};
use fastrand::Rng;

/// How a run's keys look.
#[derive(Clone, Copy, Debug)]
enum Keys {
    /// Four bytes, so that records are many and pages have long search paths.
    Short,
    /// Numbers behind few prefixes, as tables and directories of keys have them.
    Prefixed,
    /// Lengths at every bound of the layout, sharing nearly all of their bytes: fan-out is small and the tree deep.
    AtBounds,
    /// Any bytes of any length up to eight, the empty key and keys that end in zeros included.
    Ragged,
}

impl Keys {
    fn draw(self, rng: &mut Rng) -> Vec<u8> {
        match self {
            Keys::Short => rng.u32(0..3000).to_be_bytes().to_vec(),
            Keys::Prefixed => {
                let directory = "directory/".repeat(rng.usize(0..4));
                format!("/{directory}{:06}", rng.u32(0..400)).into_bytes()
            }
            Keys::AtBounds => {
                let bounds = [
                    1,
                    COMMON_BYTES_MAX,
                    KEY_PREFIX_BYTES,
                    BRANCH_KEY_BYTES_MAX,
                    LEAF_KEY_BYTES_MAX,
                    PAGE_BYTES,
                ];
                let len = bounds[rng.usize(0..bounds.len())] + rng.usize(0..5) - 1;
                let mut key = vec![b'k'; len];
                let at = rng.usize(0..len.max(1)).max(len.saturating_sub(6));
                if let Some(byte) = key.get_mut(at) {
                    *byte = rng.u8(b'i'..b'n');
                }
                key
            }
            Keys::Ragged => (0..rng.usize(0..9)).map(|_| rng.u8(0..3)).collect(),
        }
    }
}

fn draw_value(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.u32(0..10) {
        0..5 => rng.usize(0..64),
        5..8 => rng.usize(0..CELL_BYTES_MAX),
        8 => CELL_BYTES_MAX - rng.usize(0..40),
        _ => rng.usize(0..4 * PAGE_BYTES),
    };
    vec![rng.u8(..); len]
}

/// Random reads of one state.
fn assert_reads(read: &impl Read, model: &Model, keys: Keys, rng: &mut Rng) {
    let mut cursor = read.cursor();
    for _ in 0..20 {
        let (a, b) = (keys.draw(rng), keys.draw(rng));
        assert_eq!(read.get(&a).as_deref(), model.get(&a).map(|(value, _)| &value[..]));
        let expected = model.range(a.clone()..).next();
        cursor.seek(&a);
        assert_eq!(cursor.valid().then(|| cursor.key()), expected.map(|(key, _)| &key[..]));
        cursor.seek_before(&a);
        let expected = model.range(..a.clone()).next_back();
        assert_eq!(cursor.valid().then(|| cursor.key()), expected.map(|(key, _)| &key[..]));
        let sum = |range: &mut dyn Iterator<Item = (&Vec<u8>, &(Vec<u8>, bool))>| {
            range.filter(|(_, (_, counted))| *counted).count() as u64
        };
        assert_eq!(read.count(&a, None), sum(&mut model.range(a.clone()..)));
        let expected = if a < b { sum(&mut model.range(a.clone()..b.clone())) } else { 0 };
        assert_eq!(read.count(&a, Some(&b)), expected);
        assert_walk(&mut cursor, model, &a, rng);
    }
}

/// A walk to and fro from the first record at or after `from`.
fn assert_walk(cursor: &mut impl Cursor, model: &Model, from: &[u8], rng: &mut Rng) {
    cursor.seek(from);
    for _ in 0..rng.usize(0..40) {
        if !cursor.valid() {
            return;
        }
        let at = cursor.key().to_vec();
        assert!(model.contains_key(&at));
        let next = if rng.u32(0..3) > 0 {
            cursor.next();
            model.range(at.clone()..).nth(1)
        } else {
            cursor.previous();
            model.range(..at.clone()).next_back()
        };
        assert_eq!(cursor.valid().then(|| cursor.key()), next.map(|(key, _)| &key[..]));
    }
}

fn change(tree: &mut Tree, model: &mut Model, keys: Keys, removal: u32, rng: &mut Rng) {
    let key = keys.draw(rng);
    match rng.u32(0..100) {
        p if p < removal => assert_eq!(tree.remove(&key), model.remove(&key).is_some()),
        90..95 => {
            let yes = rng.bool();
            let found = model.get_mut(&key).map(|(_, counted)| *counted = yes).is_some();
            assert_eq!(tree.set_counted(&key, counted(yes)), found);
        }
        _ => {
            let (value, yes) = (draw_value(rng), rng.bool());
            tree.insert(&key, &value, counted(yes));
            model.insert(key, (value, yes));
        }
    }
}

fn run(keys: Keys, seed: u64) {
    println!("keys {keys:?}, seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let (mut tree, mut model) = (Tree::new(), Model::new());
    let mut held: Vec<(Snapshot, Model)> = Vec::new();
    // Growth, a standstill, shrinking to nothing or nearly.
    for removal in [15, 45, 80] {
        for batch in 0..25 {
            for _ in 0..rng.usize(0..80) {
                change(&mut tree, &mut model, keys, removal, &mut rng);
            }
            if batch % 5 == 0 {
                assert_reads(&tree, &model, keys, &mut rng);
                tree.check().unwrap();
            }
            let snapshot = tree.publish();
            if rng.u32(0..3) == 0 {
                held.push((snapshot, model.clone()));
            }
            if held.len() > 4 || rng.u32(0..8) == 0 && !held.is_empty() {
                let (snapshot, model) = held.swap_remove(rng.usize(0..held.len()));
                assert_same_records(&snapshot, &model);
                assert_reads(&snapshot, &model, keys, &mut rng);
            }
        }
        tree.check().unwrap();
        assert_same_records(&tree, &model);
    }
    for (snapshot, model) in held {
        assert_same_records(&snapshot, &model);
    }
    assert_eq!(tree.statistics().records, model.len() as u64);
    finish(tree);
}

#[test]
fn short_keys() {
    (0..12).for_each(|seed| run(Keys::Short, seed));
}

#[test]
fn prefixed_keys() {
    (100..112).for_each(|seed| run(Keys::Prefixed, seed));
}

#[test]
fn keys_at_the_bounds_of_the_layout() {
    (200..212).for_each(|seed| run(Keys::AtBounds, seed));
}

#[test]
fn ragged_keys() {
    (300..312).for_each(|seed| run(Keys::Ragged, seed));
}

/// Keys of a mebibyte that differ only at their very end, or in length.
#[test]
fn huge_keys_with_a_long_common_prefix() {
    const LEN: usize = 1 << 20;
    let mut rng = Rng::with_seed(7);
    let (mut tree, mut model) = (Tree::new(), Model::new());
    for n in 0..60_u32 {
        let mut key = vec![b'p'; LEN];
        key[LEN - 8..LEN - 4].copy_from_slice(&(n * 7 % 60).to_be_bytes());
        key.truncate(LEN - (n as usize % 3));
        tree.insert(&key, &n.to_le_bytes(), counted(n % 2 == 0));
        model.insert(key, (n.to_le_bytes().to_vec(), n % 2 == 0));
    }
    assert_same_records(&tree, &model);
    let snapshot = tree.publish();
    assert_eq!(snapshot.count(&[], None), tree.count(&[], None));
    let keys: Vec<_> = model.keys().cloned().collect();
    for key in &keys {
        assert_eq!(snapshot.get(key).as_deref(), Some(&model[key].0[..]));
        assert!(snapshot.get(&key[..LEN / 2]).is_none());
    }
    let mut shuffled = keys.clone();
    rng.shuffle(&mut shuffled);
    for key in &shuffled[..50] {
        assert!(tree.remove(key));
    }
    tree.check().unwrap();
    assert_same_records(&snapshot, &model);
    drop(snapshot);
    model.retain(|key, _| !shuffled[..50].contains(key));
    assert_same_records(&tree, &model);
    finish(tree);
}

/// The longest value a request may carry is one slice.
#[test]
fn huge_values() {
    let mut tree = Tree::new();
    let value: Vec<u8> = (0..16_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
    tree.insert(b"a", &value, counted(true));
    tree.insert(b"b", b"small", counted(true));
    let snapshot = tree.publish();
    assert_eq!(snapshot.get(b"a").as_deref(), Some(&value[..]));
    tree.insert(b"a", b"small too", counted(true));
    assert_eq!(snapshot.get(b"a").as_deref(), Some(&value[..]));
    let pages = tree.statistics().pages;
    drop(snapshot);
    tree.publish();
    assert!(tree.statistics().pages_free * 2 > pages, "the value's pages are free again");
    finish(tree);
}
