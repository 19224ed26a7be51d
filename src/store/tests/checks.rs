//! The check finds what it claims to find: a sound tree, damaged in one place at a time.

use std::sync::Arc;

use crate::ids::{LeaseId, Revision};
use crate::store::keys::{self, ChangeId, ChangeKind};
use crate::store::meta::Meta;
use crate::store::record::{Record, TOMBSTONE_RECORD};
use crate::store::v2;
use crate::store::view::View;
use crate::store::{Fault, Store, check};
use crate::tree::{Counted, Tree};

/// A tree with one key: created in revision 2, changed in 3, deleted in 4 and created again in 5.
struct Bench {
    tree: Tree,
    meta: Meta,
}

fn meta() -> Meta {
    Meta { revision: Revision(5), ..Meta::default() }
}

impl Bench {
    fn new() -> Self {
        let meta = meta();
        let mut bench = Self { tree: Tree::new(), meta };
        bench.tree.insert(keys::META_KEY, &meta.encode(), Counted::No);
        bench.put(2, 2, 1, Counted::No);
        bench.put(3, 2, 2, Counted::No);
        bench.tree.insert(&kv(4), TOMBSTONE_RECORD, Counted::No);
        bench.rev(4, ChangeKind::Tombstone);
        bench.put(5, 5, 1, Counted::Yes);
        bench
    }

    fn put(&mut self, main: i64, created: i64, version: i64, counted: Counted) {
        let mut record = Vec::new();
        Record { create_revision: Revision(created), version, lease: 0, value: b"" }
            .write(at(main), &mut record);
        self.tree.insert(&kv(main), &record, counted);
        self.rev(main, ChangeKind::Put);
    }

    fn rev(&mut self, main: i64, kind: ChangeKind) {
        let mut value = Vec::new();
        keys::rev_mark(&mut value, kind);
        value.push(b'a');
        self.tree.insert(&rev(main), &value, Counted::No);
    }

    fn faults(mut self) -> Vec<Fault> {
        let v2 = Arc::<v2::Numbers>::default();
        check(&View::new(self.tree.publish(), self.meta, Arc::default(), self.meta.swept, v2))
    }
}

fn at(main: i64) -> ChangeId {
    ChangeId::first_of(Revision(main))
}

fn kv(main: i64) -> Vec<u8> {
    let mut key = Vec::new();
    keys::kv_prefix(&mut key, b"a");
    keys::kv_push_change(&mut key, at(main));
    key
}

fn rev(main: i64) -> Vec<u8> {
    let mut key = Vec::new();
    keys::rev(&mut key, at(main));
    key
}

#[track_caller]
fn finds(damage: impl FnOnce(&mut Bench), fault: &str) {
    let mut bench = Bench::new();
    damage(&mut bench);
    let faults = bench.faults();
    assert!(faults.iter().any(|found| found.to_string().contains(fault)), "{faults:#?}");
}

#[test]
fn a_sound_tree_has_no_faults() {
    assert_eq!(Bench::new().faults(), []);
}

#[test]
fn flags_that_are_not_exact() {
    finds(
        |bench| assert!(bench.tree.set_counted(&kv(3), Counted::Yes)),
        "counts: true, live: false",
    );
    finds(
        |bench| assert!(bench.tree.set_counted(&kv(5), Counted::No)),
        "counts: false, live: true",
    );
    finds(|bench| assert!(bench.tree.set_counted(&rev(2), Counted::Yes)), "counts 2 live keys");
}

#[test]
fn tables_that_disagree() {
    finds(|bench| assert!(bench.tree.remove(&rev(3))), "stands in rev as None");
    finds(|bench| assert!(bench.tree.remove(&kv(3))), "has no record of its kind in kv");
    finds(|bench| bench.rev(4, ChangeKind::Put), "has no record of its kind in kv");
    finds(|bench| bench.rev(5, ChangeKind::Tombstone), "stands in rev as");
}

/// Key `a` has lease 7 in its newest version, and is attached to it.
fn with_lease(bench: &mut Bench) {
    let mut record = Vec::new();
    Record { create_revision: Revision(5), version: 1, lease: 7, value: b"" }
        .write(at(5), &mut record);
    bench.tree.insert(&kv(5), &record, Counted::Yes);
    // TTL, remaining, granted.
    bench.tree.insert(&lease(7), &[9, 0, 1], Counted::No);
    bench.tree.insert(&attached(7, b"a"), &[], Counted::No);
}

fn lease(id: i64) -> Vec<u8> {
    let mut key = Vec::new();
    keys::lease(&mut key, LeaseId(id));
    key
}

fn attached(id: i64, user_key: &[u8]) -> Vec<u8> {
    let mut key = Vec::new();
    keys::attached(&mut key, LeaseId(id), user_key);
    key
}

#[test]
fn leases_and_attachments_that_disagree() {
    let mut sound = Bench::new();
    with_lease(&mut sound);
    assert_eq!(sound.faults(), []);
    let leased = |damage: fn(&mut Bench) -> bool| {
        move |bench: &mut Bench| {
            with_lease(bench);
            assert!(damage(bench));
        }
    };
    finds(leased(|bench| bench.tree.remove(&lease(7))), "has lease 7, which is not there");
    finds(leased(|bench| bench.tree.remove(&attached(7, b"a"))), "is not attached to its lease 7");
    let stray = |bench: &mut Bench, key: &[u8]| {
        with_lease(bench);
        bench.tree.insert(key, &[], Counted::No);
    };
    finds(|bench| stray(bench, &attached(7, b"b")), "2 keys are attached, 1 have a lease");
    finds(|bench| stray(bench, &attached(-8, b"a")), "2 keys are attached, 1 have a lease");
}

#[test]
fn versions_that_do_not_follow_each_other() {
    finds(|bench| bench.put(3, 2, 3, Counted::No), "the version after it");
    finds(|bench| bench.put(3, 3, 2, Counted::No), "the version after it");
    finds(|bench| bench.put(5, 5, 2, Counted::Yes), "the version after it");
}

#[test]
fn numbers_that_do_not_fit() {
    finds(|bench| bench.meta.revision = Revision(4), "is beyond revision 4");
    finds(|bench| bench.meta.compacted = Revision(3), "the view says");
}

/// What cannot be read is a fault like another, though its page is sound.
#[test]
fn records_that_are_not_readable() {
    let far = [&kv(0)[..kv(0).len() - 12], &[0; 12]].concat();
    let unescaped = [b"\xf0a\0b\0\0", &kv(2)[kv(2).len() - 12..]].concat();
    let lease = |id: LeaseId| {
        let mut key = Vec::new();
        keys::lease(&mut key, id);
        key
    };
    let cases: [(Vec<u8>, &[u8]); 10] = [
        (kv(5), b""),
        (kv(5), b"\x00\xff"),
        (kv(5), b"\x00\x09\x01"),
        (kv(5), b"\x02\x00\x01\xff"),
        (far, TOMBSTONE_RECORD),
        (unescaped, TOMBSTONE_RECORD),
        (b"\xf0short".to_vec(), TOMBSTONE_RECORD),
        (rev(5), b"xa"),
        (lease(LeaseId(7)), b"\x01"),
        (b"\x09".to_vec(), b""),
    ];
    for (key, value) in cases {
        let mut bench = Bench::new();
        bench.tree.insert(&key, value, Counted::No);
        let faults = bench.faults();
        assert!(
            faults.len() == 1 && faults[0].to_string().contains("not readable"),
            "{}: {faults:?}",
            key.escape_ascii()
        );
    }
}

/// What is counted on from is judged before that.
#[test]
fn numbers_that_no_store_comes_to_are_not_readable() {
    let sound = Meta { compacted: Revision(4), swept: Revision(3), ..meta() };
    assert_eq!(Meta::decode(&sound.encode()), Some(sound));
    for wrong in [
        Meta { revision: Revision(0), ..meta() },
        Meta { revision: Revision(i64::MAX), ..meta() },
        Meta { compacted: Revision(6), ..sound },
        Meta { swept: Revision(5), ..sound },
        Meta { swept: Revision(-2), ..sound },
    ] {
        assert_eq!(Meta::decode(&wrong.encode()), None, "{wrong:?}");
        let mut tree = Tree::new();
        tree.insert(keys::META_KEY, &wrong.encode(), Counted::No);
        let Err(fault) = Store::open(tree) else { panic!("{wrong:?}") };
        assert!(fault.to_string().contains("not readable"), "{fault}");
    }
}
