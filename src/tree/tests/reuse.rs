//! Pages are copied once a batch, used again when nobody sees them, and not before.

use super::{counted, finish};
use crate::tree::{Read, Tree};

fn filled(records: u32) -> Tree {
    let mut tree = Tree::new();
    for n in 0..records {
        tree.insert(&n.to_be_bytes(), &[0; 200], counted(true));
    }
    tree.publish();
    tree
}

#[test]
fn a_batch_copies_each_page_once() {
    let mut tree = filled(10_000);
    let before = tree.statistics();
    for _ in 0..5 {
        for n in 0..10 {
            tree.insert(&(n as u32).to_be_bytes(), &[1; 200], counted(true));
        }
    }
    let copied = tree.statistics().bytes_in_use - before.bytes_in_use;
    assert_eq!(copied, before.depth as u64 * 4096);
    tree.publish();
    assert_eq!(tree.statistics().bytes_in_use, before.bytes_in_use);
    finish(tree);
}

#[test]
fn an_unchanged_tree_publishes_the_same_pages() {
    let mut tree = filled(1000);
    let before = tree.statistics();
    let (a, b) = (tree.publish(), tree.publish());
    assert!(a.version() < b.version());
    assert_eq!(tree.statistics(), before);
    finish(tree);
}

#[test]
fn pages_made_and_dropped_in_one_batch_are_free_at_once() {
    let mut tree = filled(10);
    let before = tree.statistics();
    for n in 0..100_u32 {
        tree.insert(&[b"long", &n.to_be_bytes()[..]].concat(), &[0; 10_000], counted(true));
    }
    for n in 0..100_u32 {
        assert!(tree.remove(&[b"long", &n.to_be_bytes()[..]].concat()));
    }
    tree.publish();
    assert_eq!(tree.statistics().bytes_in_use, before.bytes_in_use);
    finish(tree);
}

/// Publishes until no page waits, up to so many times: each frees a bounded number.
fn let_go(tree: &mut Tree, publications_max: usize) {
    for _ in 0..publications_max {
        tree.publish();
        if tree.statistics().pages_waiting == 0 {
            return;
        }
    }
    panic!("pages wait after {publications_max} publications: {:?}", tree.statistics());
}

/// What is written and replaced while a snapshot is held does not wait for it.
#[test]
fn a_held_snapshot_keeps_its_own_pages_only() {
    let mut tree = filled(2000);
    let held = tree.snapshot();
    let size = tree.statistics().pages;
    for round in 1..30_u8 {
        for n in 0..2000_u32 {
            tree.insert(&n.to_be_bytes(), &[round; 200], counted(true));
            if n % 100 == 0 {
                tree.publish();
            }
        }
    }
    tree.publish();
    let statistics = tree.statistics();
    assert!(statistics.pages < size * 3, "{statistics:?}, {size} pages at first");
    assert_eq!(held.get(&5_u32.to_be_bytes()).as_deref(), Some(&[0; 200][..]));
    tree.check().unwrap();
    drop(held);
    let_go(&mut tree, 4);
    finish(tree);
}

/// Snapshots dropped in any order let go exactly what no other one sees; the checker looks at all that are held.
#[test]
fn snapshots_dropped_in_any_order() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut tree = filled(500);
        let mut held = Vec::new();
        for round in 0..60_u8 {
            for _ in 0..rng.usize(0..20) {
                tree.insert(&rng.u32(0..500).to_be_bytes(), &[round; 200], counted(true));
            }
            held.push((tree.publish(), round));
            while held.len() > 8 || !held.is_empty() && rng.bool() {
                held.swap_remove(rng.usize(0..held.len()));
            }
            tree.check().unwrap();
        }
        held.clear();
        let_go(&mut tree, 4);
        finish(tree);
    }
}

/// More snapshots than one publication looks at.
#[test]
fn many_held_snapshots_are_swept_in_several_publications() {
    let mut tree = filled(500);
    let mut held = Vec::new();
    for n in 0..1000_u32 {
        tree.insert(&(n % 500).to_be_bytes(), &[1; 200], counted(true));
        held.push(tree.publish());
    }
    tree.check().unwrap();
    held.clear();
    let_go(&mut tree, 100);
    finish(tree);
}

/// The same calls make the same pages: ids, and bytes.
#[test]
fn deterministic() {
    let build = || {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut tree = Tree::new();
        for _ in 0..5000 {
            let key = rng.u16(0..1000).to_be_bytes();
            if rng.u32(0..3) == 0 {
                tree.remove(&key);
            } else {
                tree.insert(&key, &vec![1; rng.usize(0..6000)], counted(rng.bool()));
            }
            if rng.u32(0..20) == 0 {
                tree.publish();
            }
        }
        tree.publish();
        tree
    };
    let (a, b) = (build(), build());
    assert_eq!(a.root, b.root);
    assert_eq!(a.statistics(), b.statistics());
    for id in 2..a.statistics().pages {
        let id = crate::ids::PageId(id);
        assert_eq!(a.pages.pages_at(id), b.pages.pages_at(id));
        let (a_node, a_run) = a.pages.directory().occupants(id);
        let (b_node, b_run) = b.pages.directory().occupants(id);
        assert!(a_node.as_deref().map(|n| n.body()) == b_node.as_deref().map(|n| n.body()));
        assert!(a_run.as_deref().map(|r| r.bytes()) == b_run.as_deref().map(|r| r.bytes()));
    }
    finish(a);
}
